//! Checks before anything is changed. Their names are kubeadm's where it has them: users pass them to
//! `--ignore-preflight-errors`.

mod host;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};

pub(crate) use host::swaps;

use crate::{files, paths::Paths, progress::Progress};

/// One check that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its name, for `--ignore-preflight-errors`.
    pub name: String,
    /// What is wrong and what to do.
    pub message: String,
    /// Whether it ends the command.
    pub fatal: bool,
}

/// The checks that the user wants as warnings only; case does not count.
#[derive(Clone, Debug, Default)]
pub struct Ignored(Vec<String>);

impl Ignored {
    /// From the flag's values; `all` stands for every check.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().map(|n| n.to_ascii_lowercase()).collect())
    }

    /// Whether a check is only a warning.
    pub fn contains(&self, name: &str) -> bool {
        self.0
            .iter()
            .any(|n| n == "all" || n.eq_ignore_ascii_case(name))
    }
}

/// Findings so far.
#[derive(Debug, Default)]
pub struct Checks(Vec<Finding>);

impl Checks {
    /// No check yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes note of a failed check.
    pub fn fail(&mut self, name: impl Into<String>, message: impl Into<String>) {
        self.0.push(Finding {
            name: name.into(),
            message: message.into(),
            fatal: true,
        });
    }

    /// Takes note of what deserves a look and does not end the command.
    pub fn warn(&mut self, name: impl Into<String>, message: impl Into<String>) {
        self.0.push(Finding {
            name: name.into(),
            message: message.into(),
            fatal: false,
        });
    }

    /// Files can be written into the directory, or where it will be made.
    pub fn writable(&mut self, directory: &Path) {
        if let Err(error) = files::writable(directory) {
            self.fail("Writable", format!("{error:#}"));
        }
    }

    /// The user must be root.
    pub fn root(&mut self, privileged: bool) {
        if !privileged {
            self.fail(
                "IsPrivilegedUser",
                "this needs root; run it as root or through sudo",
            );
        }
    }

    /// `path` must not exist; `remedy` says why it might and what to do.
    pub fn absent(&mut self, path: &Path, remedy: &str) {
        self.available(&Paths::default(), path, remedy);
    }

    /// The same for a file below the machine's root, under kubeadm's name.
    pub fn available(&mut self, paths: &Paths, path: impl AsRef<Path>, remedy: &str) {
        let path = path.as_ref();
        if paths.at(path).exists() {
            let name = check_name("FileAvailable", path);
            self.fail(name, format!("{} already exists; {remedy}", path.display()));
        }
    }

    /// The directory should hold nothing.
    pub fn empty(&mut self, paths: &Paths, path: impl AsRef<Path>) {
        let path = path.as_ref();
        let entries = std::fs::read_dir(paths.at(path));
        if entries.is_ok_and(|mut entries| entries.next().is_some()) {
            let text = format!(
                "{} is not empty: the kubelet will run the pods in it",
                path.display()
            );
            self.warn(check_name("DirAvailable", path), text);
        }
    }

    /// Whether a check of this name failed.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|f| f.name == name)
    }

    /// The TCP port must be free on every address.
    pub fn port_anywhere(&mut self, port: u16) {
        // Where there is IPv6, its wildcard takes in IPv4's.
        let address: IpAddr = match TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)) {
            Ok(_) => Ipv6Addr::UNSPECIFIED.into(),
            Err(_) => Ipv4Addr::UNSPECIFIED.into(),
        };
        self.port(SocketAddr::new(address, port));
    }

    /// The TCP port must be free.
    pub fn port(&mut self, address: SocketAddr) {
        let Err(error) = TcpListener::bind(address) else {
            return;
        };
        let port = address.port();
        let message = match error.kind() {
            io::ErrorKind::AddrInUse => {
                format!(
                    "port {port} is in use; find out by whom with: ss -ltnp 'sport = :{port}', or choose another port"
                )
            }
            io::ErrorKind::AddrNotAvailable => {
                format!("{} is not an address of this machine", address.ip())
            }
            _ => format!("cannot listen on {address}: {error}"),
        };
        self.fail(format!("Port-{port}"), message);
    }

    /// The findings' names.
    #[cfg(test)]
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.iter().map(|f| f.name.clone()).collect()
    }

    /// Ends the checks: ignored ones become warnings.
    ///
    /// # Errors
    /// Every other finding, in one line.
    pub fn finish(self, ignored: &Ignored, progress: Progress) -> Result<()> {
        let (warnings, errors): (Vec<_>, Vec<_>) = self
            .0
            .into_iter()
            .partition(|f| !f.fatal || ignored.contains(&f.name));
        for finding in warnings {
            progress.warning(
                "preflight",
                format!("{}: {}", finding.name, finding.message),
            );
        }
        if errors.is_empty() {
            return Ok(());
        }
        let texts: Vec<String> = errors
            .iter()
            .map(|f| format!("{} [{}]", f.message, f.name))
            .collect();
        bail!("{}", texts.join("; "))
    }
}

/// kubeadm's name of a check of a file.
fn check_name(kind: &str, path: &Path) -> String {
    format!("{kind}-{}", path.display().to_string().replace('/', "-"))
}

/// What this machine has joined or holds already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Occupied {
    /// A control plane, with this configuration file.
    ControlPlane(PathBuf),
    /// A node.
    Node(PathBuf),
}

/// Whether this machine is part of a cluster already.
pub fn occupied(paths: &Paths) -> Option<Occupied> {
    let [config, node] = [paths.control_plane_config(), paths.kubelet_conf()];
    if config.exists() {
        return Some(Occupied::ControlPlane(config));
    }
    node.exists().then_some(Occupied::Node(node))
}

/// Whether an address belongs to this machine: only then a socket can be bound to it.
pub fn is_own_address(address: IpAddr) -> bool {
    !address.is_unspecified() && UdpSocket::bind(SocketAddr::new(address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_become_one_line_unless_ignored() {
        let checks = || {
            let mut checks = Checks::new();
            checks.fail("A", "one; do this");
            checks.fail("B", "two; do that");
            checks
        };
        let text = |ignored: &[&str]| {
            let ignored = Ignored::new(ignored.iter().map(|s| (*s).to_owned()));
            checks()
                .finish(&ignored, Progress::Silent)
                .map_err(|e| e.to_string())
        };
        assert_eq!(
            text(&[]),
            Err("one; do this [A]; two; do that [B]".to_owned())
        );
        assert_eq!(text(&["a"]), Err("two; do that [B]".to_owned()));
        assert_eq!(text(&["all"]), Ok(()));
    }

    #[test]
    fn a_port_in_use_is_named() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut checks = Checks::new();
        checks.port(address);
        let port = address.port();
        assert_eq!(checks.0[0].name, format!("Port-{port}"));
        assert!(
            checks.0[0]
                .message
                .contains(&format!("port {port} is in use"))
        );
    }

    #[test]
    fn knows_its_own_addresses() {
        assert!(is_own_address([127, 0, 0, 1].into()));
        assert!(!is_own_address([192, 0, 2, 1].into()));
        assert!(!is_own_address([0, 0, 0, 0].into()));
    }
}
