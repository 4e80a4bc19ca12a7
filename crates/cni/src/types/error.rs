//! The error object, and its codes.

use std::fmt;

use serde_json::{Value, json};

use super::{UnknownVersion, Version};

/// What an error's code means. Codes below 100 belong to the specification.
pub mod code {
    /// The configuration's version is not spoken, or does not have the verb.
    pub const INCOMPATIBLE_VERSION: u32 = 1;
    /// A field of the configuration asks for what is not there. The message names key and value.
    pub const UNSUPPORTED_FIELD: u32 = 2;
    /// The container is unknown; the runtime need not call DEL.
    pub const UNKNOWN_CONTAINER: u32 = 3;
    /// A `CNI_*` variable is missing or malformed.
    pub const INVALID_ENVIRONMENT: u32 = 4;
    /// Input or output failed.
    pub const IO: u32 = 5;
    /// What was read is not the JSON it should be.
    pub const DECODE: u32 = 6;
    /// The configuration is well-formed and wrong.
    pub const INVALID_CONF: u32 = 7;
    /// `CNI_NETNS` is no network namespace, or the plugin's own (used by every Go plugin, not in the specification).
    pub const INVALID_NETNS: u32 = 8;
    /// Nothing is wrong with the request; the runtime should try again.
    pub const TRY_AGAIN: u32 = 11;
    /// STATUS: ADD cannot be served.
    pub const NOT_AVAILABLE: u32 = 50;
    /// STATUS: ADD cannot be served, and containers that are there may have lost their network.
    pub const LIMITED_CONNECTIVITY: u32 = 51;
    /// The plugin's own failure (used by every Go plugin, not in the specification).
    pub const INTERNAL: u32 = 999;
}

/// An error as a plugin answers it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct CniError {
    /// One of [`code`], or a plugin's own from 100.
    pub code: u32,
    /// What was attempted and failed, in one short line.
    pub msg: String,
    /// More about it; may be empty.
    pub details: String,
}

impl CniError {
    /// An error without details.
    pub fn new(code: u32, msg: impl Into<String>) -> Self {
        Self {
            code,
            msg: msg.into(),
            details: String::new(),
        }
    }

    /// The same error with details.
    pub fn with_details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// The error object for a plugin's standard output.
    pub fn to_value(&self, version: Version) -> Value {
        let mut object =
            json!({ "cniVersion": version.as_str(), "code": self.code, "msg": self.msg });
        if !self.details.is_empty() {
            object["details"] = json!(self.details);
        }
        object
    }

    /// Reads an error object. Anything that is not one (no `code`, no `msg`) gives `None`.
    pub fn from_value(value: &Value) -> Option<Self> {
        let code = u32::try_from(value.get("code")?.as_u64()?).ok()?;
        let text = |key: &str| {
            value
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let found = Self {
            code,
            msg: text("msg"),
            details: text("details"),
        };
        (code != 0 || !found.msg.is_empty()).then_some(found)
    }
}

/// The text that runtimes show: message, semicolon, details.
impl fmt::Display for CniError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.msg)?;
        if !self.details.is_empty() {
            write!(f, "; {}", self.details)?;
        }
        Ok(())
    }
}

impl From<UnknownVersion> for CniError {
    fn from(error: UnknownVersion) -> Self {
        Self::new(code::INCOMPATIBLE_VERSION, error.to_string())
    }
}
