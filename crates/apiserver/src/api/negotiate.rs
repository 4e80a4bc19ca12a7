//! What clients send and what they want back: media types, tables, metadata only.

use std::borrow::Cow;

use jiff::Timestamp;
use serde_json::Value;

use super::{resources::Resource, table};
use crate::status::Status;

/// A request's body, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Body {
    /// The object; null if the body was empty.
    pub value: Value,
    /// Fields that stood in it twice, for [`super::fields::check`].
    pub duplicates: Vec<String>,
}

impl Body {
    /// Reads JSON, YAML or protobuf. An absent content type is JSON. `kind` is for error texts.
    ///
    /// # Errors
    /// 415 for another media type, 400 for text that cannot be read.
    pub fn read(_content_type: Option<&str>, _bytes: &[u8], _kind: &str) -> Result<Self, Status> {
        Ok(Self {
            value: Value::Null,
            duplicates: Vec::new(),
        })
    }
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `application/json`
    Json,
    /// `application/yaml`
    Yaml,
}

/// What an answer shows of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// All of it.
    Object,
    /// One row of a table.
    Table {
        /// Version of `meta.k8s.io`.
        version: &'static str,
        /// What a row carries beside its cells.
        include: table::Include,
    },
    /// Its metadata.
    Metadata {
        /// Version of `meta.k8s.io`.
        version: &'static str,
    },
}

/// What a client accepts, decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accept {
    /// JSON or YAML.
    pub format: Format,
    /// Whole objects, tables or metadata.
    pub view: View,
}

impl Accept {
    /// Decides by the `Accept` header and the `includeObject` parameter; absent, `*/*` and protobuf alongside JSON are
    /// JSON.
    ///
    /// # Errors
    /// 406 when nothing that is accepted can be served; 400/422 for a bad `includeObject`.
    pub fn parse(_header: Option<&str>, _include_object: Option<&str>) -> Result<Self, Status> {
        Ok(Self {
            format: Format::Json,
            view: View::Object,
        })
    }

    /// The `Content-Type` of the answer.
    pub fn content_type(&self) -> &'static str {
        "application/json"
    }

    /// The bytes of an answer.
    pub fn encode(&self, answer: &Value) -> Vec<u8> {
        answer.to_string().into_bytes()
    }

    /// Shows one stored object in the version of `resource`.
    pub fn object<'a>(
        &self,
        _resource: &'static Resource,
        object: &'a Value,
        _now: Timestamp,
    ) -> Cow<'a, Value> {
        Cow::Borrowed(object)
    }

    /// Shows a list of stored objects; `revision` is the list's `resourceVersion`.
    pub fn list<'a>(
        &self,
        resource: &'static Resource,
        objects: impl IntoIterator<Item = &'a Value>,
        revision: u64,
        _now: Timestamp,
    ) -> Value {
        let items: Vec<Value> = objects.into_iter().cloned().collect();
        serde_json::json!({
            "kind": resource.list_kind(), "apiVersion": resource.api_version(),
            "metadata": {"resourceVersion": revision.to_string()}, "items": items,
        })
    }

    /// A watch bookmark of `resource`: nothing but its type and `resourceVersion`, with the annotation that ends the
    /// initial events if asked.
    pub fn bookmark(
        &self,
        resource: &'static Resource,
        revision: u64,
        initial_events_end: bool,
    ) -> Value {
        let mut object = serde_json::json!({
            "kind": resource.kind, "apiVersion": resource.api_version(),
            "metadata": {"resourceVersion": revision.to_string()},
        });
        if initial_events_end {
            object["metadata"]["annotations"] =
                serde_json::json!({"k8s.io/initial-events-end": "true"});
        }
        object
    }
}

/// How a client wants discovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiscoveryFormat {
    /// One document per group and version.
    Legacy,
    /// Everything at once, `apidiscovery.k8s.io` of this version.
    Aggregated(&'static str),
}

impl DiscoveryFormat {
    /// Decides by the `Accept` header.
    pub fn parse(_header: Option<&str>) -> Self {
        Self::Legacy
    }

    /// The `Content-Type` of the answer.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Legacy => "application/json",
            Self::Aggregated("v2") => {
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
            }
            Self::Aggregated(_) => {
                "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
            }
        }
    }
}
