//! Where Malha's parts find each other on a machine.

/// kubeadm's directory: kubeconfigs, and certificates under `pki/`.
pub const KUBERNETES: &str = "/etc/kubernetes";
/// The administrator's kubeconfig, mode 0600.
pub const ADMIN_CONF: &str = "/etc/kubernetes/admin.conf";
/// The node's own kubeconfig.
pub const KUBELET_CONF: &str = "/etc/kubernetes/kubelet.conf";
/// The control plane's configuration and database.
pub const CONTROL_PLANE: &str = "/var/lib/malha/control-plane";
/// Everything of a running Malha that a reboot makes worthless.
pub const RUN: &str = "/run/malha";
/// The agent's HTTP API (`malha status`), a unix socket of mode 0600.
pub const AGENT_SOCKET: &str = "/run/malha/agent.sock";
/// Where the CNI plugin finds the agent, a unix socket of mode 0600.
pub const CNI_SOCKET: &str = "/run/malha/cni.sock";
/// The agent's records of endpoints and leases.
pub const ENDPOINT_STATE: &str = "/run/malha/state";
/// Where runtimes look for CNI configuration.
pub const CNI_CONF_DIR: &str = "/etc/cni/net.d";
/// Where runtimes look for CNI plugins.
pub const CNI_BIN_DIR: &str = "/opt/cni/bin";
/// The configuration list's file name: first in lexical order among the usual ones.
pub const CNI_CONFLIST: &str = "10-malha.conflist";
/// The name of the network in the configuration list.
pub const CNI_NETWORK: &str = "malha";
