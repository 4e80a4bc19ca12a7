//! What the agent is told: flags of `malha agent`, checked before anything is touched.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::IpNet;
use malha_core::{paths, range};

use crate::sandboxes::Runtimes;

/// How packets get to pods on other nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Routing {
    /// Encapsulated in VXLAN, to every node.
    Overlay,
    /// Unencapsulated, to every node: those in other subnets are reached through their router, which has to know the
    /// nodes' pod ranges.
    Direct,
    /// Direct to nodes in the same subnet, overlay to all others.
    #[default]
    Auto,
}

impl Routing {
    /// The flag's value.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::Direct => "direct",
            Self::Auto => "auto",
        }
    }
}

impl fmt::Display for Routing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Routing {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        [Self::Overlay, Self::Direct, Self::Auto]
            .into_iter()
            .find(|mode| mode.name() == text)
            .ok_or_else(|| ConfigError::Routing(text.to_owned()))
    }
}

/// A setting that cannot work.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// An unknown routing mode.
    #[error("unknown routing mode {0:?}: --routing takes overlay, direct or auto")]
    Routing(String),
    /// VXLAN has 24 bits for it, and 0 is not a network.
    #[error(
        "--vni {0} is out of range: choose a number from 1 to 16777215, the same on every node"
    )]
    Vni(u32),
    /// No UDP port.
    #[error(
        "--vxlan-port 0 is no port: choose one from 1 to 65535, the same on every node (8472 by default)"
    )]
    Port,
    /// Too small for IPv6, or larger than an IP packet can be.
    #[error("--mtu {0} is out of range: choose 0 (work it out) or a number from 1280 to 65535")]
    Mtu(u32),
    /// No node name.
    #[error(
        "the node's name is not known: set --node-name, or NODE_NAME from spec.nodeName in the pod"
    )]
    NodeName,
    /// Pod ranges that share addresses.
    #[error(transparent)]
    Ranges(#[from] range::RangeError),
}

/// Where the agent's files are. The defaults are those of `malha_core::paths`; tests have their own.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The agent's directory under /run, for what a reboot makes worthless.
    pub run: PathBuf,
    /// Where the plugin finds the agent.
    pub cni_socket: PathBuf,
    /// Where `malha status` finds it.
    pub api_socket: PathBuf,
    /// Records of endpoints.
    pub state: PathBuf,
    /// Where runtimes look for CNI configuration.
    pub cni_conf: PathBuf,
    /// Where they look for plugins.
    pub cni_bin: PathBuf,
    /// The plugin to install; None: `malha-cni` beside this executable.
    pub plugin: Option<PathBuf>,
    /// The datapath's pins.
    pub pins: PathBuf,
    /// The node's own kubeconfig, for the API server's address.
    pub kubelet_conf: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            run: paths::RUN.into(),
            cni_socket: paths::CNI_SOCKET.into(),
            api_socket: paths::AGENT_SOCKET.into(),
            state: paths::ENDPOINT_STATE.into(),
            cni_conf: paths::CNI_CONF_DIR.into(),
            cni_bin: paths::CNI_BIN_DIR.into(),
            plugin: None,
            pins: malha_datapath::DEFAULT_PINS.into(),
            kubelet_conf: paths::KUBELET_CONF.into(),
        }
    }
}

/// Everything that the agent is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The Node object this agent acts for.
    pub node_name: String,
    /// How packets get to other nodes.
    pub routing: Routing,
    /// VXLAN network identifier, the same on every node.
    pub vni: u32,
    /// UDP port of the overlay, the same on every node.
    pub vxlan_port: u16,
    /// MTU of pods in bytes; 0: worked out from the route to every peer.
    pub mtu: u32,
    /// Ranges of the whole cluster's pods. Empty: from kubeadm's configuration, else the ranges of the nodes there are.
    pub pod_ranges: Vec<IpNet>,
    /// Whether pods' packets to the world outside get the node's address.
    pub masquerade: bool,
    /// API servers in order of preference, as URLs. Empty: see [`crate::cluster`].
    pub api_servers: Vec<String>,
    /// Container runtimes to compare pods' attachments with.
    pub runtimes: Runtimes,
    /// Where files are.
    pub paths: Paths,
}

impl Config {
    /// The defaults, for a node.
    #[must_use]
    pub fn new(node_name: &str) -> Self {
        Self {
            node_name: node_name.to_owned(),
            routing: Routing::Auto,
            vni: 77,
            vxlan_port: 8472,
            mtu: 0,
            pod_ranges: Vec::new(),
            masquerade: true,
            api_servers: Vec::new(),
            runtimes: Runtimes::default(),
            paths: Paths::default(),
        }
    }

    /// Refuses what cannot work, before anything is touched.
    ///
    /// # Errors
    /// The first setting that is wrong, with what it may be.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.node_name.is_empty() {
            return Err(ConfigError::NodeName);
        }
        if self.vni == 0 || self.vni >= 1 << 24 {
            return Err(ConfigError::Vni(self.vni));
        }
        if self.vxlan_port == 0 {
            return Err(ConfigError::Port);
        }
        if self.mtu != 0 && !(1280..=65535).contains(&self.mtu) {
            return Err(ConfigError::Mtu(self.mtu));
        }
        let named: Vec<_> = self.pod_ranges.iter().map(|net| ("pod", *net)).collect();
        Ok(range::check_disjoint(&named)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_settings_say_what_is_right() {
        let with = |change: fn(&mut Config)| {
            let mut config = Config::new("a");
            change(&mut config);
            config.check().expect_err("refused").to_string()
        };
        type Change = fn(&mut Config);
        let table: &[(Change, &str)] = &[
            (|c| c.node_name.clear(), "spec.nodeName"),
            (|c| c.vni = 0, "1 to 16777215"),
            (|c| c.vni = 1 << 24, "1 to 16777215"),
            (|c| c.vxlan_port = 0, "1 to 65535"),
            (|c| c.mtu = 1279, "1280 to 65535"),
            (|c| c.mtu = 65536, "1280 to 65535"),
            (
                |c| {
                    c.pod_ranges = vec![
                        "10.0.0.0/8".parse().unwrap(),
                        "10.1.0.0/16".parse().unwrap(),
                    ]
                },
                "overlaps",
            ),
        ];
        for (change, wanted) in table {
            let text = with(*change);
            assert!(text.contains(wanted), "{text}");
        }
        Config::new("a").check().expect("the defaults work");
    }

    #[test]
    fn unknown_routing_names_the_known() {
        let text = "tunnel"
            .parse::<Routing>()
            .expect_err("refused")
            .to_string();
        assert!(text.contains("overlay, direct or auto"), "{text}");
        assert_eq!("auto".parse(), Ok(Routing::Auto));
    }
}
