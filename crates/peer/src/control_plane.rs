//! A control plane by kubeadm's own phases.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{
    binaries,
    host::{Host, Joiner},
    network::{NETWORK, Switch},
};

/// The token that kubeadm made.
pub const TOKEN: &str = "abcdef.0123456789abcdef";
const CONFIG: &str = "/etc/kubernetes-kubeadm.yaml";
const ADMIN: &str = "/etc/kubernetes/admin.conf";

/// A control plane, and the network that hosts join it over.
pub struct ControlPlane {
    /// Where it runs.
    pub host: Host,
    /// The pin of its CA, as kubeadm prints it.
    pub pin: String,
    switch: Switch,
}

impl ControlPlane {
    /// Makes one, which takes some fifteen seconds.
    ///
    /// # Errors
    /// When a program is missing, or a phase fails.
    pub fn start() -> Result<Self> {
        binaries()?;
        let switch = Switch::new()?;
        let host = Host::start(&switch, "cp", &format!("{NETWORK}.10"))?;
        host.write(CONFIG, &config(&host.address))?;
        for phase in [
            "certs all",
            "kubeconfig all",
            "control-plane all",
            "etcd local",
        ] {
            phase_of_init(&host, phase)?;
        }
        for component in ["etcd", "kube-apiserver", "kube-controller-manager"] {
            let file = format!("/etc/kubernetes/manifests/{component}.yaml");
            let mut line = command_line(&host.read(&file)?);
            // Alone, it has nobody to agree with, and gets to work at once.
            if component == "kube-controller-manager" {
                line.push("--leader-elect=false".to_owned());
            }
            host.background(component, &line)?;
        }
        host.shell("rm -r /etc/kubernetes/manifests")?;
        host.until("the API server is ready", || {
            let arguments = ["--kubeconfig", ADMIN, "get", "--raw", "/readyz"];
            Ok(host.output("kubectl", &arguments)?.status.success())
        })?;
        let pin = host.shell(
            "openssl x509 -pubkey -in /etc/kubernetes/pki/ca.crt | openssl pkey -pubin -outform der | sha256sum | cut -d' ' -f1",
        )?;
        let control_plane = Self {
            pin: format!("sha256:{}", pin.trim()),
            host,
            switch,
        };
        // Uploading the kubelet's configuration notes something on the Node.
        control_plane.kubectl_apply(r#"{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "cp", "labels": {"kubernetes.io/hostname": "cp"}}}"#)?;
        for phase in ["upload-config all", "bootstrap-token"] {
            phase_of_init(&control_plane.host, phase)?;
        }
        control_plane.host.until("cluster-info is signed", || {
            let signed = control_plane.kubectl(&[
                "-n",
                "kube-public",
                "get",
                "configmap",
                "cluster-info",
                "-o",
                "yaml",
            ])?;
            Ok(signed.contains("jws-kubeconfig-abcdef"))
        })?;
        Ok(control_plane)
    }

    /// `HOST:PORT`.
    pub fn endpoint(&self) -> String {
        format!("{}:6443", self.host.address)
    }

    /// A host that can join: the number tells hosts apart, 1 to 200.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn host(&self, number: u8) -> Result<Host> {
        let host = Host::start(
            &self.switch,
            &format!("w{number}"),
            &format!("{NETWORK}.{}", 10 + number),
        )?;
        let entry = format!("{} cp\n", self.host.address);
        let hosts = host.read("/etc/hosts")?;
        host.write("/etc/hosts", &format!("{hosts}{entry}"))?;
        Ok(host)
    }

    /// The join command, with either program, for a host with a kubelet and containerd.
    pub fn join(&self, host: &Host, joiner: &Joiner, more: &[&str]) -> Command {
        let mut command = host.command(joiner.program());
        command
            .args(["join", &self.endpoint(), "--token", TOKEN])
            .args(["--discovery-token-ca-cert-hash", &self.pin])
            .args(more);
        command
    }

    /// Runs kubectl as the administrator.
    ///
    /// # Errors
    /// When it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let output = self
            .host
            .command("kubectl")
            .args(["--kubeconfig", ADMIN])
            .args(arguments)
            .output()?;
        ensure!(
            output.status.success(),
            "kubectl {arguments:?} failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Applies an object.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn kubectl_apply(&self, object: &str) -> Result<()> {
        self.host.write("/etc/object.yaml", object)?;
        self.kubectl(&["create", "--validate=false", "-f", "/etc/object.yaml"])
            .map(drop)
    }

    /// The administrator's kubeconfig.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn admin_conf(&self) -> Result<String> {
        self.host.read(ADMIN)
    }
}

fn phase_of_init(host: &Host, phase: &str) -> Result<()> {
    let output = host
        .command("kubeadm")
        .args(["init", "phase"])
        .args(phase.split(' '))
        .args(["--config", CONFIG])
        .output()
        .context("cannot run kubeadm")?;
    ensure!(
        output.status.success(),
        "kubeadm init phase {phase} failed: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// The command in a static pod's manifest.
fn command_line(manifest: &str) -> Vec<String> {
    let lines = manifest
        .lines()
        .skip_while(|line| line.trim() != "- command:")
        .skip(1);
    let words = lines.map_while(|line| line.trim_start().strip_prefix("- "));
    words.map(str::to_owned).collect()
}

fn config(address: &str) -> String {
    format!(
        r#"apiVersion: kubeadm.k8s.io/v1beta2
kind: InitConfiguration
bootstrapTokens:
- {{token: {TOKEN}, ttl: 24h0m0s, usages: [signing, authentication], groups: ["system:bootstrappers:kubeadm:default-node-token"]}}
localAPIEndpoint: {{advertiseAddress: {address}, bindPort: 6443}}
nodeRegistration: {{name: cp, criSocket: /run/containerd/containerd.sock}}
---
apiVersion: kubeadm.k8s.io/v1beta2
kind: ClusterConfiguration
kubernetesVersion: v1.20.2
networking: {{podSubnet: 10.244.0.0/16, serviceSubnet: 10.96.0.0/12}}
controlPlaneEndpoint: "{address}:6443"
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: cgroupfs
imageGCHighThresholdPercent: 100
evictionHard: {{"memory.available": "1Mi", "nodefs.available": "0%", "imagefs.available": "0%"}}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifests_command_is_found() {
        let manifest =
            "spec:\n  containers:\n  - command:\n    - etcd\n    - --a=b\n    image: x\n";
        assert_eq!(command_line(manifest), ["etcd", "--a=b"]);
    }
}
