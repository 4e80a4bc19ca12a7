//! The files of a node, where kubelets and kubeadm have them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use jiff::{Timestamp, tz::TimeZone};
use malha_bootstrap::kubeconfig::Kubeconfig;

use crate::{
    endpoint::Endpoint,
    files::{PUBLIC, SECRET, Written},
    machine::Machine,
};

/// The link to the certificate that counts, as kubelets name it.
const CURRENT: &str = "pki/kubelet-client-current.pem";

/// What the files hold.
pub struct NodeFiles<'a> {
    /// The API server.
    pub server: &'a Endpoint,
    /// Where the cluster's CA goes.
    pub ca_path: &'a Path,
    /// The cluster's CA.
    pub ca_pem: &'a str,
    /// The node's certificate and key, once there are.
    pub identity_pem: Option<&'a str>,
    /// `KubeletConfiguration`, as the cluster gave it.
    pub kubelet_config: &'a str,
    /// Flags for the kubelet.
    pub kubelet_arguments: &'a [String],
}

/// A file to be written.
pub struct NodeFile {
    /// What it is, for people; nothing if it is not worth a line.
    pub what: &'static str,
    /// Where it goes.
    pub path: PathBuf,
    /// Its mode.
    pub mode: u32,
    /// What it holds.
    pub content: String,
}

impl NodeFiles<'_> {
    /// The files, without the certificate; `kubelet.conf` last, for it says that this machine has joined.
    ///
    /// # Errors
    /// When a path is not UTF-8.
    pub fn list(&self, machine: &Machine) -> Result<Vec<NodeFile>> {
        let paths = &machine.paths;
        let file = |what, path, mode, content| NodeFile {
            what,
            path,
            mode,
            content,
        };
        let current = paths.kubelet(CURRENT);
        let current = current.to_str().context("a path that is not UTF-8")?;
        let kubeconfig = Kubeconfig::kubelet(&self.server.url(), self.ca_pem, current)
            .to_yaml()
            .context("cannot write kubelet.conf")?;
        Ok(vec![
            file("", paths.at(self.ca_path), PUBLIC, self.ca_pem.to_owned()),
            file(
                "kubelet configuration",
                paths.kubelet("config.yaml"),
                PUBLIC,
                self.kubelet_config.to_owned(),
            ),
            file(
                "kubelet environment file with flags",
                paths.kubelet("kubeadm-flags.env"),
                PUBLIC,
                flags_env(self.kubelet_arguments),
            ),
            file("kubeconfig", paths.kubelet_conf(), SECRET, kubeconfig),
        ])
    }

    /// Writes them, and the certificate before the kubeconfig that names it.
    ///
    /// # Errors
    /// When a file cannot be written; names it.
    pub fn write(&self, machine: &Machine, written: &mut Written) -> Result<()> {
        let paths = &machine.paths;
        written.directory(&paths.kubelet(""), 0o700)?;
        // A kubelet that is started and fails adds its own certificates.
        let certificates = paths.kubelet("pki");
        if !certificates.exists() {
            written.tree(certificates);
        }
        let mut files = self.list(machine)?;
        let kubeconfig = files.pop();
        for file in files {
            file.write(machine, written)?;
        }
        if let Some(identity) = self.identity_pem {
            let dated = paths
                .kubelet("pki")
                .join(certificate_name(machine.clock.now())?);
            written.file(&dated, SECRET, identity)?;
            written.link(&paths.kubelet(CURRENT), &dated)?;
        }
        kubeconfig.map_or(Ok(()), |file| file.write(machine, written))
    }
}

impl NodeFile {
    fn write(&self, machine: &Machine, written: &mut Written) -> Result<()> {
        if !self.what.is_empty() {
            let text = format!(
                "Writing {} to {:?}",
                self.what,
                self.path.display().to_string()
            );
            machine.progress.step("kubelet-start", text);
        }
        written.file(&self.path, self.mode, &self.content)
    }
}

/// As kubelets name them: `kubelet-client-2026-11-25-02-30-31.pem`.
fn certificate_name(now: Timestamp) -> Result<String> {
    let name = now
        .to_zoned(TimeZone::UTC)
        .strftime("kubelet-client-%Y-%m-%d-%H-%M-%S.pem")
        .to_string();
    Ok(name)
}

/// systemd's EnvironmentFile, as kubeadm writes it.
fn flags_env(arguments: &[String]) -> String {
    // As Go's %q, which kubeadm writes.
    format!("KUBELET_KUBEADM_ARGS={:?}\n", arguments.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_flags_are_the_kubelets() {
        let at = "2026-11-25T02:30:31Z".parse().expect("a time");
        assert_eq!(
            certificate_name(at).expect("a name"),
            "kubelet-client-2026-11-25-02-30-31.pem"
        );
        let arguments = ["--node-ip=10.0.0.1", "--hostname-override=a"].map(str::to_owned);
        assert_eq!(
            flags_env(&arguments),
            "KUBELET_KUBEADM_ARGS=\"--node-ip=10.0.0.1 --hostname-override=a\"\n"
        );
    }
}
