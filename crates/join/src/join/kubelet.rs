//! The machine's kubelet: what it is started with, and how.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::time::timeout;

use super::Options;
use crate::{
    configuration::merged,
    cri::Runtime,
    daemon::{self, Daemon, Invocation, Started},
    files::{self, PUBLIC, Written},
    machine::Machine,
    paths::Paths,
    preflight::Checks,
};

/// Its name.
pub(super) const KUBELET: &str = "kubelet";
/// How long it may take to say its version.
const VERSION_LIMIT: Duration = Duration::from_secs(4);
/// Where container runtimes listen, kubeadm's list.
const SOCKETS: [&str; 3] = [
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/cri-dockerd.sock",
];
const SCHEME: &str = "unix://";
/// How a unit that a join wrote begins; packages' units stay at a reset.
const OURS: &str = "# Written by malha join; malha reset removes it.\n";

/// Major and minor.
pub(super) type Version = (u32, u32);
/// Before these the runtime's socket was written as a path, and the kind of runtime had to be said.
const SOCKETS_ARE_URLS: Version = (1, 24);
const RUNTIMES_ARE_REMOTE: Version = (1, 27);

/// The machine's kubelet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubelet {
    /// Its program.
    pub program: PathBuf,
    /// The container runtime's socket, as the user gave it or as it was found.
    socket: String,
    /// The node's addresses, where they are not what a kubelet would choose itself.
    pub node_ips: Vec<IpAddr>,
    /// Whether the node's name differs from the machine's.
    renamed: bool,
    taints: Vec<String>,
    extra_args: Vec<(String, String)>,
    /// Its version, once asked.
    pub(super) version: Option<Version>,
    /// What the runtime says of itself, once asked.
    pub(super) runtime: Option<Runtime>,
}

impl Kubelet {
    /// The kubelet, if the machine has one. Which socket to use goes into `checks` if it is not clear.
    pub(super) fn find(
        options: &Options,
        machine: &Machine,
        node_name: &str,
        checks: &mut Checks,
    ) -> Option<Self> {
        let program = daemon::find_program(&machine.paths, KUBELET)?;
        let hostname = nix::unistd::gethostname().unwrap_or_default();
        Some(Self {
            program,
            socket: socket(options, &machine.paths, checks),
            node_ips: options.node_ips.clone(),
            renamed: !hostname.to_string_lossy().eq_ignore_ascii_case(node_name),
            taints: options.taints.clone(),
            extra_args: options.kubelet_extra_args.clone(),
            version: None,
            runtime: None,
        })
    }

    /// The runtime's socket as a path.
    pub(super) fn socket_path(&self) -> &Path {
        Path::new(self.socket.strip_prefix(SCHEME).unwrap_or(&self.socket))
    }

    /// The socket as kubeadm of the kubelet's version writes it.
    pub(super) fn cri_socket(&self) -> String {
        let old = self
            .version
            .is_some_and(|version| version < SOCKETS_ARE_URLS);
        match old || self.socket.contains("://") {
            true => self.socket.clone(),
            false => format!("{SCHEME}{}", self.socket),
        }
    }

    /// kubeadm's `KUBELET_KUBEADM_ARGS`.
    pub(super) fn arguments(&self, node_name: &str) -> Vec<String> {
        let mut own = vec![("container-runtime-endpoint".to_owned(), self.cri_socket())];
        if self
            .version
            .is_some_and(|version| version < RUNTIMES_ARE_REMOTE)
        {
            own.push(("container-runtime".to_owned(), "remote".to_owned()));
        }
        if self.renamed {
            own.push(("hostname-override".to_owned(), node_name.to_owned()));
        }
        if !self.taints.is_empty() {
            own.push(("register-with-taints".to_owned(), self.taints.join(",")));
        }
        if !self.node_ips.is_empty() {
            let addresses: Vec<String> = self.node_ips.iter().map(IpAddr::to_string).collect();
            own.push(("node-ip".to_owned(), addresses.join(",")));
        }
        merged(own, &self.extra_args)
    }

    /// Starts it: through systemd where it runs. Elsewhere whoever looks after it may have started it already, now that
    /// its files are there; else it is started here.
    pub(super) async fn start(
        &self,
        machine: &Machine,
        node_name: &str,
        units: &mut Written,
    ) -> Result<Started> {
        let paths = &machine.paths;
        let daemon = Daemon::foreign(KUBELET, paths);
        if paths.has_systemd() {
            self.write_units(paths, units)?;
        } else if let Some(started) = daemon.adopt(machine.patience).await {
            machine.progress.step(
                "kubelet-start",
                "Something else on this machine started the kubelet",
            );
            return Ok(started);
        }
        let mut arguments = vec![
            format!("--kubeconfig={}", paths.kubelet_conf().display()),
            format!("--config={}", paths.kubelet("config.yaml").display()),
        ];
        arguments.extend(self.arguments(node_name));
        arguments.extend(extra_arguments(paths));
        daemon.start(&Invocation::foreign(
            KUBELET,
            self.program.clone(),
            &arguments,
        ))
    }

    /// A unit and its drop-in, as kubeadm's packages have them, where the kubelet was installed without.
    fn write_units(&self, paths: &Paths, written: &mut Written) -> Result<()> {
        let directories = ["/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib"]
            .map(|base| paths.at(base).join("systemd/system"));
        let exists = |name: &str| {
            directories
                .iter()
                .any(|directory| directory.join(name).exists())
        };
        if !exists("kubelet.service") {
            written.file(&unit_file(paths), PUBLIC, unit(&self.program))?;
        }
        if !exists("kubelet.service.d/10-kubeadm.conf") {
            written.file(
                &paths.kubelet_drop_ins().join("10-malha.conf"),
                PUBLIC,
                drop_in(&self.program),
            )?;
        }
        Ok(())
    }
}

/// Asks a kubelet for its version: `Kubernetes v1.20.2`.
pub(super) async fn ask_version(program: &Path) -> Result<Version> {
    let mut command = tokio::process::Command::new(program);
    command
        .arg("--version")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(VERSION_LIMIT, command.output())
        .await
        .with_context(|| format!("{} --version does not end", program.display()))?
        .with_context(|| format!("cannot run {}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    parse_version(text.split_whitespace().last().unwrap_or_default())
        .with_context(|| format!("{} --version tells no version", program.display()))
}

/// Reads `v1.20.2`.
pub(super) fn parse_version(text: &str) -> Option<Version> {
    let mut numbers = text.strip_prefix('v')?.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Stops a kubelet that a join started, if there is one.
///
/// # Errors
/// When it does not stop.
pub fn stop_kubelet(machine: &Machine) -> Result<bool> {
    if daemon::find_program(&machine.paths, KUBELET).is_none() {
        return Ok(false);
    }
    Daemon::foreign(KUBELET, &machine.paths)
        .stop()
        .context("cannot stop the kubelet")
}

/// Removes the kubelet's unit if a join wrote it.
///
/// # Errors
/// When it cannot be removed.
pub fn remove_unit(paths: &Paths) -> Result<bool> {
    let file = unit_file(paths);
    let ours = fs::read_to_string(&file).is_ok_and(|text| text.starts_with(OURS));
    Ok(ours && files::remove(&file)?)
}

fn unit_file(paths: &Paths) -> PathBuf {
    paths.systemd_units().join("kubelet.service")
}

/// The administrator's flags, which kubeadm's drop-in reads as well.
fn extra_arguments(paths: &Paths) -> Vec<String> {
    let files = ["/etc/default/kubelet", "/etc/sysconfig/kubelet"];
    let text = files
        .iter()
        .find_map(|file| fs::read_to_string(paths.at(file)).ok());
    let text = text.unwrap_or_default();
    let line = text
        .lines()
        .rev()
        .find_map(|line| line.trim().strip_prefix("KUBELET_EXTRA_ARGS="));
    let value = line.unwrap_or_default().trim_matches(['"', '\'']);
    value.split_whitespace().map(str::to_owned).collect()
}

fn unit(program: &Path) -> String {
    format!(
        "{OURS}[Unit]\nDescription=kubelet: The Kubernetes Node Agent\nDocumentation=https://kubernetes.io/docs/\n\
         Wants=network-online.target\nAfter=network-online.target\n\n\
         [Service]\nExecStart={}\nRestart=always\nStartLimitInterval=0\nRestartSec=10\n\n\
         [Install]\nWantedBy=multi-user.target\n",
        program.display()
    )
}

fn drop_in(program: &Path) -> String {
    format!(
        "[Service]\nEnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env\nEnvironmentFile=-/etc/default/kubelet\n\
         ExecStart=\nExecStart={} --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf \
         --kubeconfig=/etc/kubernetes/kubelet.conf --config=/var/lib/kubelet/config.yaml $KUBELET_KUBEADM_ARGS \
         $KUBELET_EXTRA_ARGS\n",
        program.display()
    )
}

fn socket(options: &Options, paths: &Paths, checks: &mut Checks) -> String {
    if let Some(given) = &options.cri_socket {
        return given.clone();
    }
    let found: Vec<_> = SOCKETS
        .iter()
        .filter(|socket| paths.at(socket).exists())
        .collect();
    match found.as_slice() {
        [socket] => return (**socket).to_owned(),
        [] => checks.fail(
            "CRI",
            "no container runtime's socket was found; install and start containerd or CRI-O, or name its socket with \
             --cri-socket",
        ),
        [..] => checks.fail(
            "CRI",
            format!("several container runtimes listen ({found:?}); choose one with --cri-socket"),
        ),
    }
    SOCKETS[0].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kubelet(version: Version) -> Kubelet {
        Kubelet {
            program: "/usr/bin/kubelet".into(),
            socket: SOCKETS[0].to_owned(),
            node_ips: Vec::new(),
            renamed: true,
            taints: vec!["a=b:NoSchedule".to_owned(), "c:NoExecute".to_owned()],
            extra_args: vec![("v".to_owned(), "2".to_owned())],
            version: Some(version),
            runtime: None,
        }
    }

    #[test]
    fn flags_are_those_of_the_kubelets_kubeadm() {
        assert_eq!(
            kubelet((1, 20)).arguments("w1"),
            [
                "--container-runtime=remote",
                "--container-runtime-endpoint=/run/containerd/containerd.sock",
                "--hostname-override=w1",
                "--register-with-taints=a=b:NoSchedule,c:NoExecute",
                "--v=2",
            ]
        );
        let newer = kubelet((1, 33)).arguments("w1");
        assert_eq!(
            newer[0],
            "--container-runtime-endpoint=unix:///run/containerd/containerd.sock"
        );
        assert_eq!(newer[1], "--hostname-override=w1");
        assert_eq!(
            kubelet((1, 25)).arguments("w1")[0],
            "--container-runtime=remote"
        );
    }

    #[test]
    fn versions_are_read() {
        assert_eq!(parse_version("v1.20.2"), Some((1, 20)));
        assert_eq!(parse_version("v1.34.1+k3s1"), Some((1, 34)));
        assert_eq!(parse_version("unknown"), None);
    }

    #[test]
    fn the_administrators_flags_are_read() {
        let root = tempfile::tempdir().expect("a directory");
        let paths = Paths::under(root.path());
        assert!(extra_arguments(&paths).is_empty());
        fs::create_dir_all(paths.at("/etc/default")).expect("made");
        fs::write(
            paths.at("/etc/default/kubelet"),
            "# flags\nKUBELET_EXTRA_ARGS=\"--v=4 --node-labels=a=b\"\n",
        )
        .expect("written");
        assert_eq!(extra_arguments(&paths), ["--v=4", "--node-labels=a=b"]);
    }
}
