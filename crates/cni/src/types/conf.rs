//! The configuration that one plugin gets on its standard input.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{CapabilityArgs, CniError, Success, Version, check_network_name, code};

/// One interface of one container: what everything about an attachment is keyed by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttachmentId {
    /// The runtime's name of the container or sandbox.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// The interface's name inside it.
    pub ifname: String,
}

/// A plugin's configuration, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginConf {
    /// The version that the answer must have.
    pub version: Version,
    /// The network's name.
    pub name: String,
    /// The result of the chain so far (ADD), or of the last ADD (CHECK, DEL).
    pub prev_result: Option<Success>,
    /// What the runtime said about capabilities.
    pub capabilities: CapabilityArgs,
    /// GC: the attachments that are to stay. `None` (the key is absent) is not the same as an empty list.
    pub valid_attachments: Option<Vec<AttachmentId>>,
    /// Where the agent listens, when the configuration says so (`socket`).
    pub socket: Option<PathBuf>,
    /// The whole object, with the keys that only other plugins know.
    pub raw: Map<String, Value>,
}

impl PluginConf {
    /// Reads a configuration.
    ///
    /// # Errors
    /// Code 6 for what is not JSON of the right shape, 7 for a missing or malformed name or a wrong value, 1 for an
    /// unknown version.
    pub fn parse(text: &[u8]) -> Result<Self, CniError> {
        if text.iter().all(u8::is_ascii_whitespace) {
            return Err(CniError::new(
                code::DECODE,
                "no network configuration on standard input",
            ));
        }
        let raw: Value = serde_json::from_slice(text).map_err(|error| broken(&error))?;
        match raw {
            Value::Object(raw) => Self::from_object(raw),
            _ => Err(broken(&"it is no object")),
        }
    }

    /// Reads a configuration that is JSON already.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn from_object(raw: Map<String, Value>) -> Result<Self, CniError> {
        let name = text(&raw, "name")?.unwrap_or_default();
        check_network_name(&name)?;
        let version: Version = text(&raw, "cniVersion")?.unwrap_or_default().parse()?;
        let capabilities = match raw.get("runtimeConfig") {
            None | Some(Value::Null) => CapabilityArgs::default(),
            Some(Value::Object(object)) => CapabilityArgs::parse(object)?,
            Some(_) => return Err(broken(&"runtimeConfig is no object")),
        };
        let prev_result = match raw.get("prevResult") {
            None | Some(Value::Null) => None,
            Some(value) => Some(prev_result(value, version)?),
        };
        let valid_attachments = attachments(&raw)?;
        let socket = text(&raw, "socket")?
            .filter(|path| !path.is_empty())
            .map(PathBuf::from);
        Ok(Self {
            version,
            name,
            prev_result,
            capabilities,
            valid_attachments,
            socket,
            raw,
        })
    }
}

fn broken(problem: &dyn std::fmt::Display) -> CniError {
    CniError::new(
        code::DECODE,
        format!("cannot read the network configuration: {problem}"),
    )
}

fn text(raw: &Map<String, Value>, key: &str) -> Result<Option<String>, CniError> {
    match raw.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(broken(&format_args!("{key} is {other}, not a text"))),
    }
}

fn prev_result(value: &Value, version: Version) -> Result<Success, CniError> {
    Success::from_value(value, version).map_err(|error| CniError {
        msg: format!("prevResult: {}", error.msg),
        ..error
    })
}

/// libcni sends the list twice, under the name of the specification and under one of its own.
fn attachments(raw: &Map<String, Value>) -> Result<Option<Vec<AttachmentId>>, CniError> {
    const KEYS: [&str; 2] = ["cni.dev/valid-attachments", "cni.dev/attachments"];
    let Some(key) = KEYS
        .into_iter()
        .find(|key| raw.get(*key).is_some_and(|v| !v.is_null()))
    else {
        return Ok(None);
    };
    let list = Vec::deserialize(&raw[key]).map_err(|e| broken(&format_args!("{key}: {e}")))?;
    Ok(Some(list))
}
