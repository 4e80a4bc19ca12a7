//! What a cluster's `KubeletConfiguration` means for this machine: checks that need both.

use std::{fs, net::IpAddr};

use anyhow::{Context, Result};
use malha_bootstrap::kubeadm::KUBELET_CONFIG_MAP;
use serde::Deserialize;

use super::{
    Options,
    kubelet::{Kubelet, Version, parse_version},
};
use crate::{
    cri::CgroupDriver,
    paths::Paths,
    preflight::{Checks, swaps},
};

/// Kubelets from here on take the driver from the runtime, if it tells.
const FOLLOWS_RUNTIME: Version = (1, 31);
/// systemd-resolved's list of name servers, without its own stub that no pod can reach.
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

/// The fields of a `KubeletConfiguration` that matter here.
#[derive(Clone, Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct NodeConfig {
    /// Addresses of the cluster's DNS service.
    #[serde(rename = "clusterDNS")]
    pub(super) cluster_dns: Option<Vec<IpAddr>>,
    /// Domain of service names.
    pub(super) cluster_domain: Option<String>,
    cgroup_driver: Option<String>,
    fail_swap_on: Option<bool>,
    healthz_bind_address: Option<IpAddr>,
    healthz_port: Option<u16>,
    resolv_conf: Option<String>,
}

impl NodeConfig {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let options = serde_saphyr::options! { legacy_octal_numbers: true, with_snippet: false };
        serde_saphyr::from_str_with_options(text, options)
            .with_context(|| format!("cannot use the ConfigMap kube-system/{KUBELET_CONFIG_MAP}"))
    }

    /// Where the kubelet says whether it is well; nowhere if that is turned off.
    pub(super) fn healthz(&self) -> Option<(IpAddr, u16)> {
        let address = self.healthz_bind_address.unwrap_or([127, 0, 0, 1].into());
        let port = self.healthz_port.unwrap_or(10248);
        (port != 0).then_some((address, port))
    }

    /// What would keep the kubelet from running here.
    pub(super) fn check(
        &self,
        options: &Options,
        kubelet: &Kubelet,
        paths: &Paths,
        checks: &mut Checks,
    ) {
        self.check_swap(options, paths, checks);
        self.check_driver(options, kubelet, paths, checks);
        if let Some(file) = self.resolv_conf.as_deref().filter(|file| !file.is_empty())
            && !paths.at(file).exists()
        {
            let text = format!(
                "the cluster's kubelets read name servers from {file}, which this machine does not have; start \
                 systemd-resolved, or make it a link to /etc/resolv.conf"
            );
            checks.fail("ResolvConf", text);
        }
    }

    fn check_swap(&self, options: &Options, paths: &Paths, checks: &mut Checks) {
        let devices = swaps(paths);
        let given = options
            .kubelet_argument("fail-swap-on")
            .map(|value| value != "false");
        if devices.is_empty() || !given.or(self.fail_swap_on).unwrap_or(true) {
            return;
        }
        let text = format!(
            "this machine swaps (to {}), and the cluster's kubelets refuse to run so; turn it off: swapoff -a, and in \
             /etc/fstab, or set failSwapOn: false for this cluster",
            devices.join(", ")
        );
        checks.fail("Swap", text);
    }

    fn check_driver(
        &self,
        options: &Options,
        kubelet: &Kubelet,
        paths: &Paths,
        checks: &mut Checks,
    ) {
        let given = options.kubelet_argument("cgroup-driver");
        let wanted = given
            .or(self.cgroup_driver.as_deref())
            .unwrap_or(CgroupDriver::Cgroupfs.name());
        let runtime = kubelet.runtime.as_ref();
        let follows = runtime.is_some_and(|r| r.tells_kubelets)
            && kubelet
                .version
                .is_some_and(|version| version >= FOLLOWS_RUNTIME);
        if follows {
            return;
        }
        if let Some(runtime) = runtime
            && let Some(driver) = runtime.cgroup_driver
            && driver.name() != wanted
        {
            let text = format!(
                "the cluster's kubelets use the cgroup driver {wanted}, and {} here uses {}; {}",
                runtime.name,
                driver.name(),
                remedy(&runtime.name, wanted)
            );
            checks.fail("CgroupDriver", text);
        } else if wanted == CgroupDriver::Systemd.name() && !paths.has_systemd() {
            checks.fail(
                "CgroupDriver",
                "the cluster's kubelets use the cgroup driver systemd, and systemd does not run on this machine; give \
                 this kubelet another (nodeRegistration.kubeletExtraArgs cgroup-driver: cgroupfs) and its runtime the same",
            );
        }
    }
}

/// How to make a runtime use a driver.
fn remedy(runtime: &str, driver: &str) -> String {
    match runtime {
        "containerd" => format!(
            "set SystemdCgroup = {} in /etc/containerd/config.toml and restart containerd",
            driver == CgroupDriver::Systemd.name()
        ),
        "cri-o" => {
            format!("set cgroup_manager = \"{driver}\" in /etc/crio/crio.conf and restart crio")
        }
        _ => format!("make it use {driver}"),
    }
}

/// A kubelet must not be newer than the control plane.
pub(super) fn check_version(kubelet: Option<Version>, control_plane: &str, checks: &mut Checks) {
    let (Some(own), Some(theirs)) = (kubelet, parse_version(control_plane)) else {
        return;
    };
    if own > theirs {
        let text = format!(
            "this machine's kubelet is {}.{}, newer than the control plane's {control_plane}, which Kubernetes does not \
             support; install one of {}.{}, or upgrade the control plane first",
            own.0, own.1, theirs.0, theirs.1
        );
        checks.fail("KubeletVersion", text);
    }
}

/// The configuration for this machine: pods cannot reach the stub of systemd-resolved, so kubeadm names the file with the
/// real servers where that runs.
pub(super) fn for_this_machine(text: &str, config: &NodeConfig, paths: &Paths) -> String {
    let stub = fs::read_link(paths.at("/etc/resolv.conf"))
        .is_ok_and(|target| target.ends_with("stub-resolv.conf"));
    if config.resolv_conf.is_some() || !stub || !paths.at(RESOLVED).exists() {
        return text.to_owned();
    }
    let line = format!("resolvConf: {RESOLVED}\n");
    // Fields are in alphabetical order.
    let top = |line: &str| line.starts_with(|c: char| c.is_ascii_alphabetic());
    let place = text.split_inclusive('\n').scan(0, |end, part| {
        let start = *end;
        *end += part.len();
        Some((start, part))
    });
    let after = place
        .into_iter()
        .find(|(_, part)| top(part) && *part > line.as_str());
    let mut changed = text.to_owned();
    if !changed.ends_with('\n') {
        changed.push('\n');
    }
    let at = after.map_or(changed.len(), |(start, _)| start);
    changed.insert_str(at, &line);
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_kubeadm_writes() {
        let text = "apiVersion: kubelet.config.k8s.io/v1beta1\ncgroupDriver: systemd\nclusterDNS:\n- 10.96.0.10\n\
                    clusterDomain: cluster.local\nfailSwapOn: false\nhealthzPort: 0\nshutdownGracePeriod: 0s\n";
        let config = NodeConfig::parse(text).expect("readable");
        assert_eq!(config.cluster_dns, Some(vec![[10, 96, 0, 10].into()]));
        assert_eq!(config.healthz(), None);
        assert_eq!(
            NodeConfig::default().healthz(),
            Some(([127, 0, 0, 1].into(), 10248))
        );
        NodeConfig::parse("clusterDNS: [nonsense]").expect_err("not an address");
    }

    #[test]
    fn kubelets_are_not_newer_than_the_control_plane() {
        let names = |own, theirs: &str| {
            let mut checks = Checks::new();
            check_version(own, theirs, &mut checks);
            checks.names()
        };
        assert_eq!(names(Some((1, 34)), "v1.33.9"), ["KubeletVersion"]);
        for (own, theirs) in [
            (Some((1, 33)), "v1.33.0"),
            (Some((1, 20)), "v1.33.0"),
            (None, "v1.2.3"),
            (Some((9, 9)), ""),
        ] {
            assert!(names(own, theirs).is_empty());
        }
    }

    #[test]
    fn the_real_name_servers_are_named_where_resolved_runs() {
        let root = tempfile::tempdir().expect("a directory");
        let paths = Paths::under(root.path());
        let text = "kind: KubeletConfiguration\nlogging: {}\nrotateCertificates: true\nx:\n- y\n";
        let config = NodeConfig::parse(text).expect("readable");
        assert_eq!(for_this_machine(text, &config, &paths), text);
        fs::create_dir_all(paths.at("/run/systemd/resolve")).expect("made");
        fs::create_dir_all(paths.at("/etc")).expect("made");
        fs::write(paths.at(RESOLVED), "").expect("written");
        std::os::unix::fs::symlink(
            "/run/systemd/resolve/stub-resolv.conf",
            paths.at("/etc/resolv.conf"),
        )
        .expect("linked");
        let changed = for_this_machine(text, &config, &paths);
        assert_eq!(
            changed,
            text.replace("rotate", &format!("resolvConf: {RESOLVED}\nrotate"))
        );
        let again = NodeConfig::parse(&changed).expect("readable");
        assert_eq!(for_this_machine(&changed, &again, &paths), changed);
    }
}
