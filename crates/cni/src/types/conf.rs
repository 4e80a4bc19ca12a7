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
        Self::from_object(object(text)?)
    }

    /// Reads a configuration that is JSON already.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn from_object(raw: Map<String, Value>) -> Result<Self, CniError> {
        let mut conf = Self::common(raw)?;
        conf.capabilities = capabilities(&conf.raw)?;
        conf.prev_result = prev_result(&conf.raw, conf.version)?;
        conf.valid_attachments = attachments(&conf.raw)?;
        Ok(conf)
    }

    /// Reads a configuration for DEL. What was refused when it came with ADD comes with DEL again, and must not keep
    /// the container from going away: wrong capability arguments and an unreadable `prevResult` are as good as none.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), but not for these two.
    pub fn parse_for_del(text: &[u8]) -> Result<Self, CniError> {
        Self::for_del(object(text)?)
    }

    /// As [`parse_for_del`](Self::parse_for_del), for what is JSON already.
    ///
    /// # Errors
    /// As there.
    pub fn for_del(raw: Map<String, Value>) -> Result<Self, CniError> {
        let mut conf = Self::common(raw)?;
        conf.capabilities = capabilities(&conf.raw).unwrap_or_default();
        conf.prev_result = prev_result(&conf.raw, conf.version).unwrap_or_default();
        Ok(conf)
    }

    fn common(raw: Map<String, Value>) -> Result<Self, CniError> {
        let name = text(&raw, "name")?.unwrap_or_default();
        check_network_name(&name)?;
        Ok(Self {
            version: text(&raw, "cniVersion")?.unwrap_or_default().parse()?,
            name,
            prev_result: None,
            capabilities: CapabilityArgs::default(),
            valid_attachments: None,
            socket: text(&raw, "socket")?
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
            raw,
        })
    }
}

fn object(text: &[u8]) -> Result<Map<String, Value>, CniError> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(CniError::new(
            code::DECODE,
            "no network configuration on standard input",
        ));
    }
    match serde_json::from_slice(text) {
        Ok(Value::Object(raw)) => Ok(raw),
        Ok(_) => Err(broken(&"it is no object")),
        Err(error) => Err(broken(&error)),
    }
}

fn capabilities(raw: &Map<String, Value>) -> Result<CapabilityArgs, CniError> {
    match raw.get("runtimeConfig") {
        None | Some(Value::Null) => Ok(CapabilityArgs::default()),
        Some(Value::Object(object)) => CapabilityArgs::parse(object),
        Some(_) => Err(broken(&"runtimeConfig is no object")),
    }
}

fn prev_result(raw: &Map<String, Value>, version: Version) -> Result<Option<Success>, CniError> {
    let named = |error: CniError| CniError {
        msg: format!("prevResult: {}", error.msg),
        ..error
    };
    match raw.get("prevResult") {
        None | Some(Value::Null) => Ok(None),
        Some(value) => Success::from_value(value, version).map(Some).map_err(named),
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
