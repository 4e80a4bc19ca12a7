//! The answer's form, and objects brought into it.

use std::borrow::Cow;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::media;
use crate::{
    api::{convert, errors, resources::Resource, table},
    auth::fields::text,
    status::Status,
};

const META_GROUP: &str = "meta.k8s.io";

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
    /// 406 when nothing that is accepted can be served, 400 for a bad `includeObject`.
    pub fn parse(header: Option<&str>, include_object: Option<&str>) -> Result<Self, Status> {
        let header = header.filter(|header| !header.trim().is_empty());
        let include = include(include_object)?;
        media::ranges(header.unwrap_or("*/*"))
            .iter()
            .find_map(|range| {
                let format = media::format(range.media_type)?;
                let view = view(range, include)?;
                Some(Self { format, view })
            })
            .ok_or_else(errors::not_acceptable)
    }

    /// The `Content-Type` of the answer.
    pub fn content_type(&self) -> &'static str {
        match self.format {
            Format::Json => "application/json",
            Format::Yaml => "application/yaml",
        }
    }

    /// The bytes of an answer.
    pub fn encode(&self, answer: &Value) -> Vec<u8> {
        let options =
            serde_saphyr::ser_options! { compact_list_indent: true, prefer_block_scalars: true };
        let yaml = match self.format {
            Format::Json => None,
            Format::Yaml => serde_saphyr::to_string_with_options(answer, options).ok(),
        };
        // Every JSON text is YAML too.
        yaml.unwrap_or_else(|| answer.to_string()).into_bytes()
    }

    /// Shows one stored object in the version of `resource`.
    pub fn object<'a>(
        &self,
        resource: &'static Resource,
        object: &'a Value,
        now: Timestamp,
    ) -> Cow<'a, Value> {
        match self.view {
            View::Object => convert::from_stored(resource, object),
            View::Metadata { version } => Cow::Owned(metadata_only(object, version)),
            View::Table { version, include } => {
                let revision = text(object, "/metadata/resourceVersion");
                let table = table::render(resource, [object], revision, include, now);
                Cow::Owned(versioned(table, version))
            }
        }
    }

    /// Shows a list of stored objects; `revision` is the list's `resourceVersion`.
    pub fn list<'a>(
        &self,
        resource: &'static Resource,
        objects: impl IntoIterator<Item = &'a Value>,
        revision: u64,
        now: Timestamp,
    ) -> Value {
        let revision = revision.to_string();
        match self.view {
            View::Object => {
                let shown = |object| convert::from_stored(resource, object).into_owned();
                let items: Vec<Value> = objects.into_iter().map(shown).collect();
                json!({
                    "kind": resource.list_kind(), "apiVersion": resource.api_version(),
                    "metadata": {"resourceVersion": revision}, "items": items,
                })
            }
            View::Metadata { version } => {
                let shown = |object| metadata_only(object, version);
                let items: Vec<Value> = objects.into_iter().map(shown).collect();
                json!({
                    "kind": "PartialObjectMetadataList", "apiVersion": format!("{META_GROUP}/{version}"),
                    "metadata": {"resourceVersion": revision}, "items": items,
                })
            }
            View::Table { version, include } => {
                let table = table::render(resource, objects, &revision, include, now);
                versioned(table, version)
            }
        }
    }

    /// The bytes of [`Self::list`], without a copy of every object where that can be.
    pub fn encode_list<'a>(
        &self,
        resource: &'static Resource,
        objects: impl IntoIterator<Item = &'a Value>,
        revision: u64,
        now: Timestamp,
    ) -> Vec<u8> {
        if (self.format, self.view) != (Format::Json, View::Object) {
            return self.encode(&self.list(resource, objects, revision, now));
        }
        let head = self.list(resource, [], revision, now).to_string();
        // The only list in it is that of the items.
        let (before, after) = head.split_once("[]").unwrap_or((&head, ""));
        let mut bytes = before.as_bytes().to_vec();
        let mut separator = b'[';
        for object in objects {
            bytes.push(separator);
            separator = b',';
            let shown = convert::from_stored(resource, object);
            bytes.extend_from_slice(shown.to_string().as_bytes());
        }
        if separator == b'[' {
            bytes.push(b'[');
        }
        bytes.push(b']');
        bytes.extend_from_slice(after.as_bytes());
        bytes
    }

    /// A watch bookmark of `resource`: nothing but its type and `resourceVersion`, with the annotation that ends the
    /// initial events if asked.
    pub fn bookmark(
        &self,
        resource: &'static Resource,
        revision: u64,
        initial_events_end: bool,
    ) -> Value {
        let (kind, api_version) = match self.view {
            View::Object => (resource.kind, resource.api_version()),
            View::Metadata { version } => {
                ("PartialObjectMetadata", format!("{META_GROUP}/{version}"))
            }
            View::Table { version, .. } => ("Table", format!("{META_GROUP}/{version}")),
        };
        let mut object = json!({
            "kind": kind, "apiVersion": api_version,
            "metadata": {"resourceVersion": revision.to_string()},
        });
        if initial_events_end {
            object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        if kind == "Table" {
            object["columnDefinitions"] = json!([]);
            object["rows"] = json!([]);
        }
        object
    }
}

fn include(parameter: Option<&str>) -> Result<table::Include, Status> {
    match parameter {
        None | Some("" | "Metadata") => Ok(table::Include::Metadata),
        Some("None") => Ok(table::Include::None),
        Some("Object") => Ok(table::Include::Object),
        Some(other) => Err(Status::bad_request(format!(
            "includeObject must be None, Metadata or Object, not \"{other}\""
        ))),
    }
}

/// None for a form that we do not have: the client's next choice counts.
fn view(range: &media::Range<'_>, include: table::Include) -> Option<View> {
    let Some(form) = range.parameter("as") else {
        return Some(View::Object);
    };
    let version = match range.parameter("v") {
        Some("v1") => "v1",
        Some("v1beta1") => "v1beta1",
        _ => return None,
    };
    match form {
        _ if range.parameter("g") != Some(META_GROUP) => None,
        "Table" => Some(View::Table { version, include }),
        "PartialObjectMetadata" | "PartialObjectMetadataList" => Some(View::Metadata { version }),
        _ => None,
    }
}

fn metadata_only(object: &Value, version: &str) -> Value {
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": format!("{META_GROUP}/{version}"),
        "metadata": object["metadata"],
    })
}

fn versioned(mut table: Value, version: &str) -> Value {
    table["apiVersion"] = format!("{META_GROUP}/{version}").into();
    table
}
