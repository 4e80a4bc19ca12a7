//! The files of a node, where kubelets and kubeadm have them.

use std::path::PathBuf;

use anyhow::{Context, Result};
use jiff::{Timestamp, tz::TimeZone};
use malha_bootstrap::kubeconfig::Kubeconfig;

use crate::{
    endpoint::Endpoint,
    files::{PUBLIC, SECRET, Written},
    machine::Machine,
};

/// What the files hold.
pub struct NodeFiles<'a> {
    /// The API server.
    pub server: &'a Endpoint,
    /// The cluster's CA.
    pub ca_pem: &'a str,
    /// The node's certificate and key.
    pub identity_pem: &'a str,
    /// `KubeletConfiguration`, as the cluster gave it.
    pub kubelet_config: &'a str,
    /// Flags for the kubelet.
    pub kubelet_arguments: &'a [String],
}

impl NodeFiles<'_> {
    /// Writes them; `kubelet.conf` last, for it says that this machine has joined.
    ///
    /// # Errors
    /// When a file cannot be written; names it.
    pub fn write(&self, machine: &Machine, written: &mut Written) -> Result<()> {
        let paths = &machine.paths;
        let tell = |what: &str, path: &PathBuf| {
            machine.progress.step(
                "kubelet-start",
                format!("Writing {what} to {:?}", path.display().to_string()),
            );
        };
        written.directory(&paths.kubelet(""), 0o700)?;
        written.directory(&paths.kubernetes().join("manifests"), 0o700)?;
        written.file(&paths.pki("ca.crt"), PUBLIC, self.ca_pem)?;
        let config = paths.kubelet("config.yaml");
        tell("kubelet configuration", &config);
        written.file(&config, PUBLIC, self.kubelet_config)?;
        let flags = paths.kubelet("kubeadm-flags.env");
        tell("kubelet environment file with flags", &flags);
        written.file(&flags, PUBLIC, flags_env(self.kubelet_arguments))?;

        let dated = paths
            .kubelet("pki")
            .join(certificate_name(machine.clock.now())?);
        let current = paths.kubelet("pki/kubelet-client-current.pem");
        written.file(&dated, SECRET, self.identity_pem)?;
        written.link(&current, &dated)?;
        let current = current.to_str().context("a path that is not UTF-8")?;
        let kubeconfig = Kubeconfig::kubelet(&self.server.url(), self.ca_pem, current)
            .to_yaml()
            .context("cannot write kubelet.conf")?;
        tell("kubeconfig", &paths.kubelet_conf());
        written.file(&paths.kubelet_conf(), SECRET, kubeconfig)
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
    format!("KUBELET_KUBEADM_ARGS=\"{}\"\n", arguments.join(" "))
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
