//! Configuration lists: which plugins a network consists of.

use serde_json::{Map, Value, json};

use super::{UnknownVersion, Version, check_network_name, negotiate};

/// A network: its plugins in the order in which ADD calls them.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkList {
    /// The network's name.
    pub name: String,
    /// The newest version that the list and this crate have in common.
    pub version: Version,
    /// CHECK is not to be called.
    pub disable_check: bool,
    /// GC is not to be called.
    pub disable_gc: bool,
    /// Plugins stand in the list only, not in files beside it as well.
    pub inlined_only: bool,
    /// The plugins.
    pub plugins: Vec<PluginEntry>,
}

/// One plugin of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginEntry {
    /// The name of its binary.
    pub kind: String,
    /// Its configuration as written.
    pub raw: Map<String, Value>,
}

/// Why a text is no configuration list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// Not JSON, or not an object.
    #[error("it is not a JSON object: {0}")]
    Json(String),
    /// No name, or one with other than letters, digits, `_`, `.` and `-`.
    #[error("{0}: give the list a \"name\" of letters, digits, '_', '.' and '-'")]
    Name(String),
    /// None of the versions is known.
    #[error(transparent)]
    Version(#[from] UnknownVersion),
    /// A key has a value of the wrong kind.
    #[error("{key:?} must be {expected}")]
    Key {
        /// The key.
        key: &'static str,
        /// What its value should have been.
        expected: &'static str,
    },
    /// A plugin's `type` is no file name.
    #[error("plugin type {0:?} must be a file name without a path")]
    Kind(String),
}

impl NetworkList {
    /// Reads a list (`*.conflist`). A list of no plugins is no error here: [`crate::runtime::load`] decides on that
    /// after it has looked for plugins beside the list.
    ///
    /// # Errors
    /// What is wrong, naming the key.
    pub fn parse(text: &[u8]) -> Result<Self, ListError> {
        let raw = object(text)?;
        let plugins = match raw.get("plugins") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(list)) => list.iter().map(entry).collect::<Result<_, _>>()?,
            Some(_) => {
                return Err(ListError::Key {
                    key: "plugins",
                    expected: "a list of objects",
                });
            }
        };
        Ok(Self {
            name: name(&raw)?,
            version: version(&raw)?,
            disable_check: flag(&raw, "disableCheck")?,
            disable_gc: flag(&raw, "disableGC")?,
            inlined_only: flag(&raw, "loadOnlyInlinedPlugins")?,
            plugins,
        })
    }

    /// Reads one plugin's configuration (`*.conf`, `*.json`) as a list of one.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_single(text: &[u8]) -> Result<Self, ListError> {
        let raw = object(text)?;
        Ok(Self {
            name: name(&raw)?,
            version: version(&raw)?,
            disable_check: false,
            disable_gc: false,
            inlined_only: true,
            plugins: vec![plugin(&raw)?],
        })
    }

    /// The list as JSON that [`parse`](Self::parse) reads back, with the plugins that stood beside it.
    pub fn to_value(&self) -> Value {
        let plugins: Vec<&Map<String, Value>> =
            self.plugins.iter().map(|plugin| &plugin.raw).collect();
        json!({
            "cniVersion": self.version.as_str(),
            "name": self.name,
            "disableCheck": self.disable_check,
            "disableGC": self.disable_gc,
            "loadOnlyInlinedPlugins": true,
            "plugins": plugins,
        })
    }
}

impl PluginEntry {
    /// Reads a plugin's configuration.
    ///
    /// # Errors
    /// When it is no object or its `type` is no file name.
    pub fn parse(text: &[u8]) -> Result<Self, ListError> {
        plugin(&object(text)?)
    }
}

fn object(text: &[u8]) -> Result<Map<String, Value>, ListError> {
    match serde_json::from_slice(text) {
        Ok(Value::Object(raw)) => Ok(raw),
        Ok(_) => Err(ListError::Json("it is some other JSON value".into())),
        Err(error) => Err(ListError::Json(error.to_string())),
    }
}

fn entry(value: &Value) -> Result<PluginEntry, ListError> {
    let raw = value.as_object().ok_or(ListError::Key {
        key: "plugins",
        expected: "a list of objects",
    })?;
    plugin(raw)
}

fn plugin(raw: &Map<String, Value>) -> Result<PluginEntry, ListError> {
    let kind = raw.get("type").and_then(Value::as_str).unwrap_or_default();
    if kind.is_empty() || kind.contains('/') || kind == "." || kind == ".." {
        return Err(ListError::Kind(kind.to_owned()));
    }
    Ok(PluginEntry {
        kind: kind.to_owned(),
        raw: raw.clone(),
    })
}

fn name(raw: &Map<String, Value>) -> Result<String, ListError> {
    let name = raw.get("name").and_then(Value::as_str).unwrap_or_default();
    check_network_name(name).map_err(|error| ListError::Name(error.to_string()))?;
    Ok(name.to_owned())
}

fn version(raw: &Map<String, Value>) -> Result<Version, ListError> {
    let text = |key, value: &Value| {
        let text = value.as_str().map(str::to_owned);
        text.ok_or(ListError::Key {
            key,
            expected: "a version such as \"1.0.0\"",
        })
    };
    let single = raw
        .get("cniVersion")
        .map(|value| text("cniVersion", value))
        .transpose()?;
    let several = match raw.get("cniVersions") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(list)) => list
            .iter()
            .map(|value| text("cniVersions", value))
            .collect::<Result<_, _>>()?,
        Some(_) => {
            return Err(ListError::Key {
                key: "cniVersions",
                expected: "a list of versions",
            });
        }
    };
    Ok(negotiate(single.as_deref(), &several)?)
}

/// A boolean, or its name as text: libcni takes both.
fn flag(raw: &Map<String, Value>, key: &'static str) -> Result<bool, ListError> {
    match raw.get(key) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(set)) => Ok(*set),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(_) => Err(ListError::Key {
            key,
            expected: "true or false",
        }),
    }
}
