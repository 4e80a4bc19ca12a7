//! What is written down of sandboxes and containers.

use std::{
    collections::BTreeMap,
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::launch::spec::{ProcessId, read_json};

/// File of the record in a sandbox's or container's directory.
pub(super) const RECORD: &str = "record.json";

pub(super) fn sandboxes(run_dir: &Path) -> PathBuf {
    run_dir.join("sandboxes")
}

pub(super) fn containers(run_dir: &Path) -> PathBuf {
    run_dir.join("containers")
}

/// A sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxRecord {
    /// Its name.
    pub id: String,
    /// The pod's unique name.
    pub pod_uid: String,
    /// The pod's namespace.
    pub pod_namespace: String,
    /// The pod's name.
    pub pod_name: String,
    /// How many sandboxes the pod had before.
    pub attempt: u32,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// Whether it is complete.
    pub ready: bool,
    /// Its directory.
    pub directory: PathBuf,
    /// The namespaces that are its own: `net`, `ipc`, `uts`, `pid`, and the file that keeps each.
    pub namespaces: BTreeMap<String, PathBuf>,
    /// How it is attached to the network; `None` with the host's.
    pub network: Option<NetworkRecord>,
    /// The first process of a pid namespace that its containers share.
    pub pause: Option<ProcessId>,
}

/// How a sandbox is attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRecord {
    /// The network's configuration list.
    pub list: Value,
    /// `CNI_ARGS`
    pub args: Vec<(String, String)>,
    /// Values for capabilities.
    pub capabilities: Map<String, Value>,
    /// Its addresses, the pod's first one first; none before ADD has succeeded.
    pub ips: Vec<IpAddr>,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// Its name.
    pub id: String,
    /// The sandbox it runs in.
    pub sandbox_id: String,
    /// The pod's unique name.
    pub pod_uid: String,
    /// Its name in the pod.
    pub name: String,
    /// How often it was started before.
    pub attempt: u32,
    /// When.
    pub created_at: Timestamp,
    /// Its log's current file.
    pub log_path: PathBuf,
    /// Where it may leave a message about its end (a file on the host).
    pub message_path: Option<PathBuf>,
    /// Its cgroup, as [`super::Cgroups`] names it.
    pub cgroup: String,
    /// Its bundle.
    pub bundle: PathBuf,
}

/// All records.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// Sandboxes, complete or not.
    pub sandboxes: Vec<SandboxRecord>,
    /// Containers, running or not, in the order of their creation.
    pub containers: Vec<ContainerRecord>,
}

impl Inventory {
    /// Reads what a runtime with this directory has written down.
    ///
    /// # Errors
    /// When a directory cannot be read. A record that cannot be understood is left out and logged.
    pub fn read(run_dir: &Path) -> io::Result<Self> {
        let sandboxes: Vec<SandboxRecord> = records(&sandboxes(run_dir))?;
        let mut containers: Vec<ContainerRecord> = records(&containers(run_dir))?;
        containers.sort_by_key(|c| (c.created_at, c.attempt));
        Ok(Self {
            sandboxes,
            containers,
        })
    }
}

fn records<T: DeserializeOwned>(directory: &Path) -> io::Result<Vec<T>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path().join(RECORD);
        match read_json(&path) {
            Ok(record) => found.extend(record),
            Err(error) => tracing::warn!(path = %path.display(), %error, "a record cannot be read"),
        }
    }
    Ok(found)
}
