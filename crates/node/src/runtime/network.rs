//! The pods' network: what the CNI configuration directory says, whenever it is asked.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use malha_cni::{
    runtime::{Attachment, LoadError, Options, Runtime, RuntimeError, load},
    types::{Args, AttachmentId, NetworkList, Success},
};
use serde_json::{Map, Value, json};

use super::record::NetworkRecord;

/// The interface that every runtime gives to pods.
const IFNAME: &str = "eth0";
/// Plugins are killed after this.
const LIMIT: Duration = Duration::from_secs(60);

/// What a runtime tells plugins about a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodNetwork {
    /// `CNI_ARGS`, beside those that name the pod.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's unique name.
    pub uid: String,
    /// Ports of the node that lead to the pod: node port, pod port, protocol in lower case, node address or nothing.
    pub ports: Vec<(u16, u16, String, String)>,
    /// Bits a second: into the pod, out of it.
    pub bandwidth: (Option<u64>, Option<u64>),
}

/// Why a pod has no network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// There is no network yet.
    #[error("cni plugin not initialized")]
    NotInitialized(#[source] LoadError),
    /// A plugin failed.
    #[error(transparent)]
    Plugin(#[from] RuntimeError),
    /// The record of the attachment is damaged.
    #[error("the recorded network configuration cannot be understood: {0}")]
    Record(String),
}

/// Attaches pods.
#[derive(Debug)]
pub struct Network {
    runtime: Runtime,
    conf_dir: PathBuf,
}

impl Network {
    /// Nothing is read before the first call. `cache_dir` is best on a tmpfs.
    pub fn new(conf_dir: PathBuf, bin_dir: PathBuf, cache_dir: PathBuf) -> Self {
        let options = Options {
            bin_dirs: vec![bin_dir],
            cache_dir,
            limit: LIMIT,
        };
        Self {
            runtime: Runtime::new(options),
            conf_dir,
        }
    }

    /// Where configuration appears.
    pub fn conf_dir(&self) -> &Path {
        &self.conf_dir
    }

    /// Whether pods can be attached now; gives the network's name.
    ///
    /// # Errors
    /// No usable configuration, or what a plugin says to STATUS.
    pub fn status(&self) -> Result<String, NetworkError> {
        let list = self.list()?;
        self.runtime.status(&list)?;
        Ok(list.name)
    }

    /// What is to be recorded before [`attach`](Self::attach) is called.
    ///
    /// # Errors
    /// [`NetworkError::NotInitialized`].
    pub fn plan(&self, sandbox: &str, pod: &PodNetwork) -> Result<NetworkRecord, NetworkError> {
        let list = self.list()?;
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let args = vec![
            pair("IgnoreUnknown", "1"),
            pair("K8S_POD_NAMESPACE", &pod.namespace),
            pair("K8S_POD_NAME", &pod.name),
            pair("K8S_POD_INFRA_CONTAINER_ID", sandbox),
            pair("K8S_POD_UID", &pod.uid),
        ];
        Ok(NetworkRecord {
            list: list.to_value(),
            args,
            capabilities: capabilities(pod),
            ips: Vec::new(),
        })
    }

    /// ADD; gives the pod's addresses.
    ///
    /// # Errors
    /// What a plugin says.
    pub fn attach(
        &self,
        sandbox: &str,
        netns: &Path,
        record: &NetworkRecord,
    ) -> Result<Vec<IpAddr>, NetworkError> {
        let list = recorded_list(record)?;
        let result = self
            .runtime
            .add(&list, &attachment(sandbox, Some(netns), record))?;
        Ok(addresses(&result))
    }

    /// DEL. `netns` is `None` when it is gone.
    ///
    /// # Errors
    /// What plugins say; calling again is in order.
    pub fn detach(
        &self,
        sandbox: &str,
        netns: Option<&Path>,
        record: &NetworkRecord,
    ) -> Result<(), NetworkError> {
        let list = recorded_list(record)?;
        Ok(self
            .runtime
            .del(&list, &attachment(sandbox, netns, record))?)
    }

    /// Lets plugins remove what belongs to none of these sandboxes.
    ///
    /// # Errors
    /// What plugins say.
    pub fn collect(&self, sandboxes: &[&str]) -> Result<(), NetworkError> {
        let keep: Vec<_> = sandboxes.iter().map(|id| attachment_id(id)).collect();
        Ok(self.runtime.gc(&self.list()?, &keep)?)
    }

    fn list(&self) -> Result<NetworkList, NetworkError> {
        load(&self.conf_dir).map_err(NetworkError::NotInitialized)
    }
}

fn recorded_list(record: &NetworkRecord) -> Result<NetworkList, NetworkError> {
    NetworkList::parse(record.list.to_string().as_bytes())
        .map_err(|e| NetworkError::Record(e.to_string()))
}

fn attachment_id(sandbox: &str) -> AttachmentId {
    AttachmentId {
        container_id: sandbox.to_owned(),
        ifname: IFNAME.to_owned(),
    }
}

fn attachment(sandbox: &str, netns: Option<&Path>, record: &NetworkRecord) -> Attachment {
    Attachment {
        id: attachment_id(sandbox),
        netns: netns.map(Path::to_owned),
        args: Args::new(record.args.iter().cloned()),
        capabilities: record.capabilities.clone(),
    }
}

/// Those of the pod's interface, without what plugins say about the host's.
fn addresses(result: &Success) -> Vec<IpAddr> {
    let in_pod = |index: usize| {
        result
            .interfaces
            .get(index)
            .is_none_or(|i| !i.sandbox.is_empty())
    };
    let mut ips = result
        .ips
        .iter()
        .filter(|ip| ip.interface.is_none_or(in_pod));
    let mut found = Vec::new();
    for ip in &mut ips {
        found.push(ip.address.addr());
    }
    found
}

/// A burst that never limits, as containerd sends it.
const BURST: u64 = u32::MAX as u64;

fn capabilities(pod: &PodNetwork) -> Map<String, Value> {
    let mut all = Map::new();
    if !pod.ports.is_empty() {
        let mappings = pod.ports.iter().map(|(host, container, protocol, ip)| {
            json!({"hostPort": host, "containerPort": container, "protocol": protocol, "hostIP": ip})
        });
        all.insert("portMappings".to_owned(), mappings.collect());
    }
    let mut limits = Map::new();
    for (name, rate) in [("ingress", pod.bandwidth.0), ("egress", pod.bandwidth.1)] {
        if let Some(rate) = rate {
            limits.insert(format!("{name}Rate"), rate.into());
            limits.insert(format!("{name}Burst"), BURST.into());
        }
    }
    if !limits.is_empty() {
        all.insert("bandwidth".to_owned(), limits.into());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_there_when_asked_for() {
        assert_eq!(capabilities(&PodNetwork::default()), Map::new());
        let pod = PodNetwork {
            ports: vec![(8080, 80, "tcp".into(), String::new())],
            bandwidth: (Some(1000), None),
            ..PodNetwork::default()
        };
        assert_eq!(
            Value::Object(capabilities(&pod)),
            json!({
                "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""}],
                "bandwidth": {"ingressRate": 1000, "ingressBurst": 4_294_967_295_u64},
            })
        );
    }

    #[test]
    fn addresses_are_those_in_the_pod() {
        let result: Success = serde_json::from_value(json!({
            "interfaces": [{"name": "br0"}, {"name": "eth0", "sandbox": "/run/x"}],
            "ips": [
                {"interface": 0, "address": "10.0.0.1/24"},
                {"interface": 1, "address": "10.0.0.2/24"},
                {"interface": 1, "address": "fd00::2/64"},
            ],
        }))
        .unwrap();
        let expected: Vec<IpAddr> = vec!["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        assert_eq!(addresses(&result), expected);
    }
}
