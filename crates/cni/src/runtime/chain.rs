//! The plugins of a list, called one after the other.

use serde_json::{Map, Value, json};

use super::{
    Attachment, RuntimeError,
    exec::{Call, Exec},
};
use crate::{
    types::{AttachmentId, NetworkList, PluginEntry, Success},
    wire::Verb,
};

/// Keys with this prefix belong to the runtime.
const RUNTIME_KEYS: &str = "cni.dev/";

/// A list's plugins, for one attachment.
pub struct Chain<'a> {
    list: &'a NetworkList,
    attachment: &'a Attachment,
    exec: Exec<'a>,
    /// The result so far; after a failed ADD, that of the plugins which succeeded.
    pub previous: Option<Success>,
}

impl<'a> Chain<'a> {
    /// The chain, before anything was called.
    pub fn new(list: &'a NetworkList, attachment: &'a Attachment, exec: Exec<'a>) -> Self {
        Self {
            list,
            attachment,
            exec,
            previous: None,
        }
    }

    /// ADD, in order.
    ///
    /// # Errors
    /// Of the first plugin that fails; none is called after it.
    pub fn add(&mut self) -> Result<Success, RuntimeError> {
        for plugin in &self.list.plugins {
            let output = self.call(plugin, Verb::Add)?;
            let value: Value = serde_json::from_slice(&output).map_err(|e| not_json(plugin, &e))?;
            let result =
                Success::from_value(&value, self.list.version).map_err(RuntimeError::result)?;
            self.previous = Some(result);
        }
        let result = self.previous.clone().unwrap_or_default();
        result.check_indices().map_err(RuntimeError::result)?;
        Ok(result)
    }

    /// CHECK, in order.
    ///
    /// # Errors
    /// Of the first plugin that finds something wrong.
    pub fn check(mut self, result: Success) -> Result<(), RuntimeError> {
        self.previous = Some(result);
        self.list
            .plugins
            .iter()
            .try_for_each(|plugin| self.call(plugin, Verb::Check).map(|_| ()))
    }

    /// DEL, backwards. Every plugin is called: the others' traces are no reason to leave one's own.
    ///
    /// # Errors
    /// Of all plugins that fail.
    pub fn del(mut self, result: Option<Success>) -> Result<(), RuntimeError> {
        self.previous = result;
        let call = |plugin| self.call(plugin, Verb::Del).err();
        RuntimeError::all(self.list.plugins.iter().rev().filter_map(call).collect())
    }

    fn call(&self, plugin: &PluginEntry, verb: Verb) -> Result<Vec<u8>, RuntimeError> {
        let mut conf = base(self.list, plugin);
        if let Some(result) = &self.previous {
            let value = result
                .to_value(self.list.version)
                .map_err(RuntimeError::result)?;
            conf.insert("prevResult".into(), value);
        }
        let supplied = supplied(plugin, &self.attachment.capabilities);
        if !supplied.is_empty() {
            conf.insert("runtimeConfig".into(), Value::Object(supplied));
        }
        let netns = self.attachment.netns.as_ref();
        self.exec.run(&Call {
            kind: &plugin.kind,
            verb: &verb.to_string(),
            container_id: &self.attachment.id.container_id,
            ifname: &self.attachment.id.ifname,
            netns: &netns.map(|path| path.to_string_lossy()).unwrap_or_default(),
            args: &self.attachment.args.to_string(),
            input: &Value::Object(conf).to_string(),
        })
    }
}

/// STATUS of every plugin, until one says no.
///
/// # Errors
/// What that one said.
pub fn status(list: &NetworkList, exec: &Exec<'_>) -> Result<(), RuntimeError> {
    list.plugins.iter().try_for_each(|plugin| {
        let conf = Value::Object(base(list, plugin)).to_string();
        exec.run(&Call::without_attachment(&plugin.kind, "STATUS", &conf))
            .map(|_| ())
    })
}

/// GC of every plugin.
///
/// # Errors
/// Of all plugins that fail.
pub fn gc(list: &NetworkList, keep: &[AttachmentId], exec: &Exec<'_>) -> Result<(), RuntimeError> {
    let call = |plugin: &PluginEntry| {
        let mut conf = base(list, plugin);
        // The second is libcni's own name for it, which plugins built with older releases read.
        for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
            conf.insert(key.into(), json!(keep));
        }
        exec.run(&Call::without_attachment(
            &plugin.kind,
            "GC",
            &Value::Object(conf).to_string(),
        ))
        .err()
    };
    RuntimeError::all(list.plugins.iter().filter_map(call).collect())
}

/// The versions that a plugin speaks.
///
/// # Errors
/// When it cannot be run or its answer cannot be read.
pub fn versions(kind: &str, exec: &Exec<'_>) -> Result<Vec<String>, RuntimeError> {
    let output = exec.run(&Call::without_attachment(
        kind,
        "VERSION",
        r#"{"cniVersion":"1.1.0"}"#,
    ))?;
    let answer: Value = serde_json::from_slice(&output).unwrap_or_default();
    let versions = answer.get("supportedVersions").and_then(Value::as_array);
    let texts = versions.map(|list| {
        list.iter()
            .filter_map(|v| Some(v.as_str()?.to_owned()))
            .collect()
    });
    texts.ok_or_else(|| exec.unreadable(kind, "VERSION", &output))
}

/// A plugin's configuration without anything of a single call. What the runtime adds later is never the operator's.
fn base(list: &NetworkList, plugin: &PluginEntry) -> Map<String, Value> {
    let mut conf = plugin.raw.clone();
    conf.retain(|key, _| {
        !key.starts_with(RUNTIME_KEYS) && key != "prevResult" && key != "runtimeConfig"
    });
    conf.insert("name".into(), list.name.clone().into());
    conf.insert("cniVersion".into(), list.version.as_str().into());
    conf
}

/// Capability arguments that were given and that the plugin declares.
fn supplied(plugin: &PluginEntry, given: &Map<String, Value>) -> Map<String, Value> {
    let declared = plugin.raw.get("capabilities");
    let wanted = |key: &str| declared.and_then(|d| d.get(key)) == Some(&Value::Bool(true));
    given
        .iter()
        .filter(|(key, _)| wanted(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn not_json(plugin: &PluginEntry, error: &serde_json::Error) -> RuntimeError {
    let msg = format!(
        "plugin type={:?} succeeded and its result is no JSON: {error}",
        plugin.kind
    );
    RuntimeError::result(crate::types::CniError::new(crate::types::code::DECODE, msg))
}
