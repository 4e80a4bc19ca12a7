//! What the node agent is told.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use malha_core::paths;

/// The kubelet's port.
pub const DEFAULT_PORT: u16 = 10250;

/// The node agent's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who the node is to the API server, and where that is.
    pub kubeconfig: PathBuf,
    /// The node's name.
    pub node_name: String,
    /// The node's addresses, the first of each family is used.
    pub node_ips: Vec<IpAddr>,
    /// Where CNI configuration is looked for.
    pub cni_conf_dir: PathBuf,
    /// Where CNI plugins are looked for.
    pub cni_bin_dir: PathBuf,
    /// Pods' volumes and files.
    pub root_dir: PathBuf,
    /// Namespaces, records of containers: what a reboot makes worthless.
    pub run_dir: PathBuf,
    /// Where pods' network namespaces are files.
    pub netns_dir: PathBuf,
    /// Pods' logs.
    pub log_dir: PathBuf,
    /// Where logs, exec and the rest are served, on every address.
    pub port: u16,
    /// Name servers of pods with `dnsPolicy: ClusterFirst`.
    pub cluster_dns: Vec<IpAddr>,
    /// The domain of services.
    pub cluster_domain: String,
    /// The CA of clients that may ask this node.
    pub client_ca: PathBuf,
    /// Where the serving certificate lies (`kubelet.crt`, `kubelet.key`); made there if there is none.
    pub pki_dir: PathBuf,
    /// The program that starts containers: `PROGRAM node shim …`; usually this very one.
    pub launcher: PathBuf,
    /// Programs that an image called `malha` holds in /usr/bin.
    pub image_programs: Vec<PathBuf>,
}

impl Config {
    /// A configuration with every path where it usually is.
    ///
    /// # Errors
    /// When this program's own file cannot be found.
    pub fn new(node_name: &str, node_ips: Vec<IpAddr>) -> std::io::Result<Self> {
        let program = own_program()?;
        let sibling = program.with_file_name("malha-cni");
        let image_programs = [program.clone(), sibling]
            .into_iter()
            .filter(|path| path.exists())
            .collect();
        Ok(Self {
            kubeconfig: paths::KUBELET_CONF.into(),
            node_name: node_name.to_owned(),
            node_ips,
            cni_conf_dir: paths::CNI_CONF_DIR.into(),
            cni_bin_dir: paths::CNI_BIN_DIR.into(),
            root_dir: "/var/lib/malha/node".into(),
            // Not below /run/malha: that is mounted into the network agent's pod, which would keep namespaces alive.
            run_dir: "/run/malha-node".into(),
            netns_dir: "/run/netns".into(),
            log_dir: "/var/log/pods".into(),
            port: DEFAULT_PORT,
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
            client_ca: format!("{}/pki/ca.crt", paths::KUBERNETES).into(),
            pki_dir: "/var/lib/kubelet/pki".into(),
            launcher: program,
            image_programs,
        })
    }

    /// The address that stands for the node: the first one.
    pub fn primary_ip(&self) -> Option<IpAddr> {
        self.node_ips.first().copied()
    }

    /// Where the server listens: every address of both families.
    pub fn listen(&self) -> SocketAddr {
        SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), self.port)
    }
}

/// This program's file. After an upgrade in place the kernel calls the running file deleted; the new one has its name.
fn own_program() -> std::io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    match path
        .to_str()
        .and_then(|text| text.strip_suffix(" (deleted)"))
    {
        Some(text) => Ok(text.into()),
        None => Ok(path),
    }
}
