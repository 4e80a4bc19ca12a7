//! The messages, with the fields that are used. Numbers are those of `runtime/v1/api.proto` in kubernetes/cri-api.

use crate::wire::{Writer, fields};

/// Which runtime answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runtime {
    /// Such as `containerd`.
    pub name: String,
    /// Its own version.
    pub version: String,
}

/// Who makes the control groups of containers: kubelets have to agree with their runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupDriver {
    /// systemd, by its units.
    Systemd,
    /// The runtime itself, by the files of the kernel.
    Cgroupfs,
}

impl CgroupDriver {
    /// Its name in configurations.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Systemd => "systemd",
            Self::Cgroupfs => "cgroupfs",
        }
    }

    /// Of a `RuntimeConfigResponse`: linux = 1 { cgroup_driver = 1 }. A 0 is not sent.
    pub(crate) fn decode(message: &[u8]) -> Option<Self> {
        let linux = fields(message)?.into_iter().find(|(field, _)| *field == 1);
        let inner = linux.map(|(_, value)| value.bytes()).unwrap_or_default();
        let driver = fields(inner)?.into_iter().find(|(field, _)| *field == 1);
        match driver.map_or(0, |(_, value)| value.number()) {
            0 => Some(Self::Systemd),
            1 => Some(Self::Cgroupfs),
            _ => None,
        }
    }
}

/// Of a `StatusResponse`: info = 2, a map with key = 1 and value = 2.
pub(crate) fn decode_info(message: &[u8], name: &str) -> Option<Option<String>> {
    let entries = fields(message)?
        .into_iter()
        .filter(|(field, _)| *field == 2);
    for (_, entry) in entries {
        let entry = fields(entry.bytes())?;
        let part = |number| {
            let found = entry.iter().find(|(field, _)| *field == number);
            found.map(|(_, value)| value.text()).unwrap_or_default()
        };
        if part(1) == name {
            return Some(Some(part(2)));
        }
    }
    Some(None)
}

/// A pod's sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sandbox {
    /// What CNI calls the container ID.
    pub id: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's UID.
    pub uid: String,
    /// Whether it runs.
    pub ready: bool,
}

/// A sandbox to be started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SandboxConfig {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's UID.
    pub uid: String,
    /// How often it was started before.
    pub attempt: u32,
    /// Directory of its containers' logs.
    pub log_directory: String,
    /// Ports of the node that lead to it.
    pub port_mappings: Vec<PortMapping>,
    /// Labels.
    pub labels: Vec<(String, String)>,
    /// Control group that its own is made in.
    pub cgroup_parent: String,
    /// In the node's network instead of one of its own.
    pub host_network: bool,
}

/// A port of the node that leads to a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortMapping {
    /// UDP instead of TCP.
    pub udp: bool,
    /// The pod's.
    pub container_port: u16,
    /// The node's.
    pub host_port: u16,
    /// On this address of the node only; empty: on all.
    pub host_ip: String,
}

/// How a sandbox is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SandboxStatus {
    /// Whether it runs.
    pub ready: bool,
    /// Its addresses, the first one of the network's first family.
    pub addresses: Vec<String>,
}

impl Runtime {
    pub(crate) fn decode(message: &[u8]) -> Option<Self> {
        let mut runtime = Self::default();
        for (field, value) in fields(message)? {
            match field {
                2 => runtime.name = value.text(),
                3 => runtime.version = value.text(),
                _ => {}
            }
        }
        Some(runtime)
    }
}

impl Sandbox {
    /// All of a `ListPodSandboxResponse`.
    pub(crate) fn decode_list(message: &[u8]) -> Option<Vec<Self>> {
        let items = fields(message)?
            .into_iter()
            .filter(|(field, _)| *field == 1);
        items.map(|(_, item)| Self::decode(item.bytes())).collect()
    }

    fn decode(message: &[u8]) -> Option<Self> {
        // A state that is not there is the first of its kind: ready.
        let mut sandbox = Self {
            ready: true,
            ..Self::default()
        };
        for (field, value) in fields(message)? {
            match field {
                1 => sandbox.id = value.text(),
                2 => sandbox.take_metadata(value.bytes())?,
                3 => sandbox.ready = value.number() == 0,
                _ => {}
            }
        }
        Some(sandbox)
    }

    fn take_metadata(&mut self, message: &[u8]) -> Option<()> {
        for (field, value) in fields(message)? {
            match field {
                1 => self.name = value.text(),
                2 => self.uid = value.text(),
                3 => self.namespace = value.text(),
                _ => {}
            }
        }
        Some(())
    }
}

impl SandboxConfig {
    /// A `RunPodSandboxRequest`.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let metadata = Writer::default()
            .text(1, &self.name)
            .text(2, &self.uid)
            .text(3, &self.namespace)
            .number(4, u64::from(self.attempt));
        let mut config = Writer::default()
            .message(1, metadata)
            // A host's network comes with its name.
            .text(2, if self.host_network { "" } else { &self.name })
            .text(3, &self.log_directory);
        for port in &self.port_mappings {
            let port = Writer::default()
                .number(1, u64::from(port.udp))
                .number(2, u64::from(port.container_port))
                .number(3, u64::from(port.host_port))
                .text(4, &port.host_ip);
            config = config.message(5, port);
        }
        for (key, value) in &self.labels {
            config = config.entry(6, key, value);
        }
        // Its own (0) or the node's (2) for network; its own for IPC; and for every container one of PIDs (1).
        let network = if self.host_network { 2 } else { 0 };
        let namespaces = Writer::default().number(1, network).number(2, 1);
        let security = Writer::default().message(1, namespaces);
        let linux = Writer::default()
            .text(1, &self.cgroup_parent)
            .message(2, security);
        Writer::default()
            .message(1, config.message(8, linux))
            .finish()
    }
}

impl SandboxStatus {
    /// A `PodSandboxStatusResponse`.
    pub(crate) fn decode(message: &[u8]) -> Option<Self> {
        let response = fields(message)?;
        let (_, status) = response.into_iter().find(|(field, _)| *field == 1)?;
        let mut found = Self {
            ready: true,
            ..Self::default()
        };
        for (field, value) in fields(status.bytes())? {
            match field {
                3 => found.ready = value.number() == 0,
                5 => found.take_network(value.bytes())?,
                _ => {}
            }
        }
        Some(found)
    }

    fn take_network(&mut self, message: &[u8]) -> Option<()> {
        for (field, value) in fields(message)? {
            match field {
                1 => self.addresses.push(value.text()),
                2 => {
                    let more = fields(value.bytes())?.into_iter();
                    let more = more.filter(|(field, _)| *field == 1);
                    self.addresses.extend(more.map(|(_, value)| value.text()));
                }
                _ => {}
            }
        }
        Some(())
    }
}

/// A message with an ID as its first field, as several requests and answers are.
pub(crate) fn encode_id(id: &str) -> Vec<u8> {
    Writer::default().text(1, id).finish()
}

/// The first field of a message, as text.
pub(crate) fn decode_id(message: &[u8]) -> Option<String> {
    let found = fields(message)?.into_iter().find(|(field, _)| *field == 1);
    found.map(|(_, value)| value.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cgroup_driver_is_read() {
        let answer = |driver| {
            Writer::default()
                .message(1, Writer::default().number(1, driver))
                .finish()
        };
        assert_eq!(
            CgroupDriver::decode(&answer(1)),
            Some(CgroupDriver::Cgroupfs)
        );
        assert_eq!(
            CgroupDriver::decode(&answer(0)),
            Some(CgroupDriver::Systemd)
        );
        assert_eq!(CgroupDriver::decode(&[]), Some(CgroupDriver::Systemd));
        assert_eq!(CgroupDriver::decode(&answer(7)), None);
    }

    #[test]
    fn what_a_runtime_says_of_itself_is_found() {
        let status = Writer::default()
            .entry(2, "golang", "go1.19")
            .entry(2, "config", "{}")
            .finish();
        assert_eq!(decode_info(&status, "config"), Some(Some("{}".to_owned())));
        assert_eq!(decode_info(&status, "other"), Some(None));
        assert_eq!(decode_info(b"\xff", "config"), None);
    }

    #[test]
    fn sandboxes_are_read() {
        let metadata = Writer::default()
            .text(1, "web-0")
            .text(2, "uid-1")
            .text(3, "default")
            .number(4, 3);
        let stopped = Writer::default()
            .text(1, "b2")
            .number(3, 1)
            .number(4, 1_700_000_000_000_000_000)
            .entry(5, "app", "web");
        let running = Writer::default().text(1, "a1").message(2, metadata);
        let list = Writer::default()
            .message(1, running)
            .message(1, stopped)
            .finish();
        let read = Sandbox::decode_list(&list).unwrap();
        let wanted = Sandbox {
            id: "a1".to_owned(),
            namespace: "default".to_owned(),
            name: "web-0".to_owned(),
            uid: "uid-1".to_owned(),
            ready: true,
        };
        assert_eq!(read[0], wanted);
        assert_eq!((read[1].id.as_str(), read[1].ready), ("b2", false));
        assert_eq!(Sandbox::decode_list(&[]), Some(Vec::new()));
        assert_eq!(Sandbox::decode_list(&list[..list.len() - 1]), None);
    }

    #[test]
    fn addresses_of_both_families_are_read() {
        let more = Writer::default().text(1, "fd00::2");
        let network = Writer::default().text(1, "10.0.0.2").message(2, more);
        let status = Writer::default().text(1, "a1").message(5, network);
        let read = SandboxStatus::decode(&Writer::default().message(1, status).finish()).unwrap();
        assert_eq!(read.addresses, ["10.0.0.2", "fd00::2"]);
        assert!(read.ready);
    }
}
