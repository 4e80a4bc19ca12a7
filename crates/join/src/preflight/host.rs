//! What a kubelet and kube-proxy need of a machine; kubeadm's checks, by its names.

use std::{collections::BTreeSet, fs, path::Path};

use super::{Checks, check_name};
use crate::{daemon::find_program, endpoint::Host, paths::Paths};

/// Programs that kubelets, runtimes and kube-proxy call, and Debian's packages of them.
const NEEDED: [(&str, &str); 5] = [
    ("conntrack", "conntrack"),
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("mount", "mount"),
    ("nsenter", "util-linux"),
];
/// Programs that some features call.
const USEFUL: [(&str, &str); 5] = [
    ("ebtables", "ebtables"),
    ("ethtool", "ethtool"),
    ("socat", "socat"),
    ("tc", "iproute2"),
    ("touch", "coreutils"),
];
/// cgroup controllers without which kubelets refuse to run.
const CONTROLLERS: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];
/// Where kubelets listen for the API server.
const KUBELET_PORT: u16 = 10250;

impl Checks {
    /// Everything that can be seen before the cluster is asked. `server` decides about the address family.
    pub(crate) fn host(&mut self, paths: &Paths, server: Option<&Host>) {
        for (program, package) in NEEDED {
            if find_program(paths, program).is_none() {
                let text = format!(
                    "the program {program} is missing; install it (apt-get install {package})"
                );
                self.fail(format!("FileExisting-{program}"), text);
            }
        }
        for (program, package) in USEFUL {
            if find_program(paths, program).is_none() {
                let text = format!(
                    "the program {program} is missing, which some pods need; install it (apt-get install {package})"
                );
                self.warn(format!("FileExisting-{program}"), text);
            }
        }
        self.forwarding(paths, server);
        self.controllers(paths);
        self.port_anywhere(KUBELET_PORT);
    }

    /// Pods' packets have to be forwarded; those on bridges should meet kube-proxy's rules.
    fn forwarding(&mut self, paths: &Paths, server: Option<&Host>) {
        let (setting, path) = match server {
            Some(Host::Address(address)) if address.is_ipv6() => (
                "net.ipv6.conf.default.forwarding",
                "/proc/sys/net/ipv6/conf/default/forwarding",
            ),
            _ => ("net.ipv4.ip_forward", "/proc/sys/net/ipv4/ip_forward"),
        };
        if !is_one(paths, path) {
            let text = format!(
                "{setting} is not 1, so pods could not reach other machines; set it: sysctl -w {setting}=1, and for the \
                 next boot in /etc/sysctl.d"
            );
            self.fail(check_name("FileContent", Path::new(path)), text);
        }
        let bridge = "/proc/sys/net/bridge/bridge-nf-call-iptables";
        if !is_one(paths, bridge) {
            self.warn(
                check_name("FileContent", Path::new(bridge)),
                "bridged packets do not meet iptables, which only matters for pod networks with a bridge; if yours has \
                 one: modprobe br_netfilter && sysctl -w net.bridge.bridge-nf-call-iptables=1",
            );
        }
    }

    fn controllers(&mut self, paths: &Paths) {
        let Some(present) = controllers(paths) else {
            return;
        };
        let missing: Vec<_> = CONTROLLERS
            .iter()
            .filter(|c| !present.contains(**c))
            .collect();
        if let [first, ..] = missing.as_slice() {
            let text = format!(
                "the kernel has no cgroup controllers {missing:?}; enable them on its command line (for memory: \
                 cgroup_enable={first})"
            );
            self.fail("SystemVerification", text);
        }
    }
}

fn is_one(paths: &Paths, file: &str) -> bool {
    fs::read_to_string(paths.at(file)).is_ok_and(|text| text.trim() == "1")
}

/// The controllers that the kernel has enabled, of either cgroup version.
fn controllers(paths: &Paths) -> Option<BTreeSet<String>> {
    let table = fs::read_to_string(paths.at("/proc/cgroups")).ok()?;
    let enabled = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (fields.len() == 4 && fields[3] == "1").then(|| fields[0].to_owned())
    };
    let mut found: BTreeSet<String> = table.lines().filter_map(enabled).collect();
    // Newer kernels can be built without that table.
    let unified =
        fs::read_to_string(paths.at("/sys/fs/cgroup/cgroup.controllers")).unwrap_or_default();
    found.extend(unified.split_whitespace().map(str::to_owned));
    (!found.is_empty()).then_some(found)
}

/// The devices that the kernel swaps to.
pub(crate) fn swaps(paths: &Paths) -> Vec<String> {
    let table = fs::read_to_string(paths.at("/proc/swaps")).unwrap_or_default();
    let devices = table
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next());
    devices.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine on which all is well, below a directory.
    fn machine() -> (tempfile::TempDir, Paths) {
        let root = tempfile::tempdir().expect("a directory");
        let paths = Paths::under(root.path());
        let write = |path: &str, text: &str| {
            let path = paths.at(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, text).expect("written");
        };
        for (program, _) in NEEDED.iter().chain(&USEFUL) {
            write(&format!("/usr/bin/{program}"), "");
        }
        write("/proc/sys/net/ipv4/ip_forward", "1\n");
        write("/proc/sys/net/bridge/bridge-nf-call-iptables", "1\n");
        let table = CONTROLLERS
            .map(|name| format!("{name}\t1\t1\t1\n"))
            .concat();
        write(
            "/proc/cgroups",
            &format!("#subsys_name\thierarchy\tnum_cgroups\tenabled\n{table}"),
        );
        write("/proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n");
        (root, paths)
    }

    /// The names of the findings, without the port, which others may hold.
    fn findings(paths: &Paths) -> Vec<String> {
        let mut checks = Checks::new();
        checks.host(paths, None);
        let names = checks.0.into_iter().map(|f| f.name);
        names.filter(|name| !name.starts_with("Port-")).collect()
    }

    #[test]
    fn nothing_is_wrong_with_a_good_machine() {
        let (_root, paths) = machine();
        assert_eq!(findings(&paths), Vec::<String>::new());
        assert_eq!(swaps(&paths), Vec::<String>::new());
    }

    #[test]
    fn every_fault_has_kubeadms_name() {
        let (_root, paths) = machine();
        fs::remove_file(paths.at("/usr/bin/conntrack")).expect("removed");
        fs::remove_file(paths.at("/usr/bin/socat")).expect("removed");
        fs::write(paths.at("/proc/sys/net/ipv4/ip_forward"), "0\n").expect("written");
        fs::remove_dir_all(paths.at("/proc/sys/net/bridge")).expect("removed");
        let table = fs::read_to_string(paths.at("/proc/cgroups")).expect("readable");
        fs::write(
            paths.at("/proc/cgroups"),
            table.replace("memory\t1\t1\t1", "memory\t0\t1\t0"),
        )
        .expect("written");
        let wanted = [
            "FileExisting-conntrack",
            "FileExisting-socat",
            "FileContent--proc-sys-net-ipv4-ip_forward",
            "FileContent--proc-sys-net-bridge-bridge-nf-call-iptables",
            "SystemVerification",
        ];
        assert_eq!(findings(&paths), wanted);
    }

    #[test]
    fn swap_is_seen() {
        let (_root, paths) = machine();
        fs::write(
            paths.at("/proc/swaps"),
            "Filename\tType\n/dev/sda2 partition 1 0 -2\n",
        )
        .expect("written");
        assert_eq!(swaps(&paths), ["/dev/sda2"]);
    }
}
