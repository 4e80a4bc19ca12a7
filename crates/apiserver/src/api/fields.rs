//! Field validation: fields that the type does not have, fields given twice, values of the wrong type.
//!
//! The field tables are those of the protobuf decoder ([`crate::protobuf`]); types that are not in them are left alone.

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::Value;

use super::{errors::FieldError, validate::quantity};
use crate::{
    auth::fields::text,
    protobuf::schema::{Field, Message, Schema, Shape, Type},
    status::Status,
};

/// The `fieldValidation` query parameter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Drop them silently.
    Ignore,
    /// Drop them and tell the client with `Warning` headers.
    #[default]
    Warn,
    /// Refuse the request.
    Strict,
}

impl Mode {
    /// Reads the parameter; absent is `Warn`.
    ///
    /// # Errors
    /// 422 for another value.
    pub fn parse(value: Option<&str>) -> Result<Self, Status> {
        match value {
            Some("Ignore") => Ok(Self::Ignore),
            None | Some("" | "Warn") => Ok(Self::Warn),
            Some("Strict") => Ok(Self::Strict),
            Some(other) => {
                let supported = ["", "Ignore", "Strict", "Warn"];
                let error = FieldError::not_supported("fieldValidation", &other.into(), &supported);
                let errors = std::slice::from_ref(&error);
                Err(super::errors::invalid(
                    "meta.k8s.io",
                    "CreateOptions",
                    "",
                    errors,
                ))
            }
        }
    }
}

/// Drops fields that the object's type does not have, and says which; objects of unknown types are left alone.
///
/// `duplicates` are the fields that the text of the body had twice (see `negotiate::Body::read`).
/// Returns the warnings to send, one header each.
///
/// # Errors
/// 400 in strict mode, naming every field; 400 in every mode for a value of the wrong type.
pub fn check(mode: Mode, object: &mut Value, duplicates: &[String]) -> Result<Vec<String>, Status> {
    let (version, kind) = (text(object, "/apiVersion"), text(object, "/kind"));
    let (version, kind) = (version.to_owned(), kind.to_owned());
    let mut walk = Walk {
        schema: Schema::get(),
        path: Vec::new(),
        unknown: Vec::new(),
        unreadable: None,
    };
    if let Some((_, message)) = Schema::get().top_level(&version, &kind) {
        walk.object(message, object, true);
    }
    let unreadable = |why: String| {
        Status::bad_request(format!(
            "{kind} in version \"{}\" cannot be handled as a {kind}: {why}",
            version.rsplit('/').next().unwrap_or("")
        ))
    };
    if let Some((path, why)) = walk.unreadable {
        return Err(unreadable(why.at(&kind, &path)));
    }
    let unknown = walk
        .unknown
        .iter()
        .map(|path| format!("unknown field \"{path}\""));
    let twice = duplicates
        .iter()
        .map(|path| format!("duplicate field \"{path}\""));
    let found: Vec<String> = twice.chain(unknown).collect();
    match mode {
        Mode::Ignore => Ok(Vec::new()),
        Mode::Warn => Ok(found),
        Mode::Strict if found.is_empty() => Ok(found),
        Mode::Strict => Err(unreadable(format!(
            "strict decoding error: {}",
            found.join(", ")
        ))),
    }
}

struct Walk {
    schema: &'static Schema,
    path: Vec<String>,
    unknown: Vec<String>,
    /// The first value that cannot be read as its field's type.
    unreadable: Option<(String, Why)>,
}

/// Why a value cannot be read. None of the texts has the value in it: it may be a secret in the wrong place.
enum Why {
    /// The JSON type that is there and the type that should be.
    Type(&'static str, String),
    /// It has a grammar, and does not follow it.
    Grammar(&'static str),
}

impl Why {
    fn at(&self, kind: &str, path: &str) -> String {
        match self {
            Self::Type(json, wanted) => {
                format!(
                    "json: cannot unmarshal {json} into Go struct field {kind}.{path} of type {wanted}"
                )
            }
            Self::Grammar(why) => format!("{path}: {why}"),
        }
    }
}

impl Walk {
    fn object(&mut self, message: &'static Message, value: &mut Value, top: bool) {
        let Some(map) = value.as_object_mut() else {
            self.wrong(value, &message.name);
            return;
        };
        let (schema, path) = (self.schema, self.path.concat());
        let unknown = &mut self.unknown;
        map.retain(|name, _| {
            let type_meta = top && (name == "apiVersion" || name == "kind");
            let known = type_meta || schema.member(message, name).is_some();
            if !known {
                unknown.push(format!("{path}.{name}").trim_start_matches('.').to_owned());
            }
            known
        });
        for (name, value) in map {
            if let Some((_, field)) = schema.member(message, name) {
                self.path.push(format!(".{name}"));
                self.field(field, value);
                self.path.pop();
            }
        }
    }

    fn field(&mut self, field: &'static Field, value: &mut Value) {
        match (field.shape, value) {
            (_, Value::Null) => {}
            (Shape::One | Shape::Inline, value) => self.value(&field.kind, value),
            (Shape::List, Value::Array(list)) => {
                for (index, item) in list.iter_mut().enumerate() {
                    self.path.push(format!("[{index}]"));
                    self.value(&field.kind, item);
                    self.path.pop();
                }
            }
            (Shape::Map, Value::Object(map)) => {
                for (key, item) in map.iter_mut().filter(|(_, item)| !item.is_null()) {
                    self.path.push(format!(".{key}"));
                    self.value(&field.kind, item);
                    self.path.pop();
                }
            }
            (Shape::List, value) => self.wrong(value, &format!("[]{}", self.name(&field.kind))),
            (Shape::Map, value) => {
                self.wrong(value, &format!("map[string]{}", self.name(&field.kind)));
            }
        }
    }

    fn value(&mut self, kind: &Type, value: &mut Value) {
        let fits = match kind {
            Type::Message(id) => return self.object(self.schema.message(*id), value, false),
            Type::Json => true,
            Type::String | Type::Bytes | Type::Time | Type::MicroTime => value.is_string(),
            Type::Int => value.is_i64() || value.is_u64(),
            Type::Bool => value.is_boolean(),
            Type::Double => value.is_number(),
            Type::Quantity | Type::IntOrString => value.is_string() || value.is_number(),
            Type::Strings => value.is_array(),
        };
        if !fits {
            let name = self.name(kind);
            self.wrong(value, &name);
        } else if let Some(why) = bad_grammar(kind, value) {
            self.refuse(Why::Grammar(why));
        }
    }

    fn refuse(&mut self, why: Why) {
        let path = self.path.concat();
        let path = path.trim_start_matches('.').to_owned();
        self.unreadable.get_or_insert((path, why));
    }

    fn wrong(&mut self, value: &Value, wanted: &str) {
        let json = match value {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        self.refuse(Why::Type(json, wanted.to_owned()));
    }

    fn name(&self, kind: &Type) -> String {
        match kind {
            Type::String => "string",
            Type::Int => "int64",
            Type::Bool => "bool",
            Type::Bytes => "[]uint8",
            Type::Double => "float64",
            Type::Json => "runtime.RawExtension",
            Type::Quantity => "resource.Quantity",
            Type::IntOrString => "intstr.IntOrString",
            Type::Time => "v1.Time",
            Type::MicroTime => "v1.MicroTime",
            Type::Strings => "[]string",
            Type::Message(id) => &self.schema.message(*id).name,
        }
        .to_owned()
    }
}

/// What is wrong with a text that has a grammar.
fn bad_grammar(kind: &Type, value: &Value) -> Option<&'static str> {
    let text = value.as_str().unwrap_or("");
    match kind {
        Type::Time | Type::MicroTime => {
            let good = text.is_empty() || text.parse::<Timestamp>().is_ok();
            (!good)
                .then_some("cannot be parsed as a time of the form \"2006-01-02T15:04:05Z07:00\"")
        }
        Type::Bytes => STANDARD
            .decode(text)
            .is_err()
            .then_some("illegal base64 data"),
        Type::Quantity => quantity::parse(value).is_none().then_some(quantity::TEXT),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(container: Value) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"anything": "goes"}},
            "spec": {"containers": [container]},
        })
    }

    #[test]
    fn a_typo_is_found_named_and_dropped() {
        let mut object =
            pod(json!({"name": "c", "imagee": "x", "env": [{"name": "A", "valeu": "b"}]}));
        let mut dropped = object.clone();
        let error = check(Mode::Strict, &mut object.clone(), &[]).unwrap_err();
        assert_eq!(
            error.message,
            "Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: \
             unknown field \"spec.containers[0].imagee\", unknown field \"spec.containers[0].env[0].valeu\""
        );
        let warnings = check(Mode::Warn, &mut object, &["metadata.name".to_owned()]).unwrap();
        assert_eq!(warnings.len(), 3);
        assert_eq!(warnings[0], "duplicate field \"metadata.name\"");
        assert_eq!(object, pod(json!({"name": "c", "env": [{"name": "A"}]})));
        assert!(check(Mode::Ignore, &mut dropped, &[]).unwrap().is_empty());
        assert_eq!(dropped, object);
    }

    #[test]
    fn inlined_fields_and_free_forms_are_known() {
        let mut object = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
            "spec": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}], "containers": [
                {"name": "c", "livenessProbe": {"httpGet": {"port": "http"}, "periodSeconds": 3},
                 "resources": {"limits": {"cpu": 1, "memory": "1Gi"}}}]},
        });
        assert!(check(Mode::Strict, &mut object, &[]).is_ok());
        let mut revision = json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "revision": 1,
            "data": {"spec": {"whatever": [1]}}});
        assert!(check(Mode::Strict, &mut revision, &[]).is_ok());
        let mut unknown = json!({"apiVersion": "x/v1", "kind": "Y", "z": 1});
        assert!(check(Mode::Strict, &mut unknown, &[]).is_ok());
        assert_eq!(unknown["z"], 1);
    }

    #[test]
    fn values_of_the_wrong_type_are_refused_in_every_mode() {
        let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": 1}});
        let error = check(Mode::Ignore, &mut object, &[]).unwrap_err();
        assert_eq!(
            error.message,
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: json: cannot unmarshal number \
             into Go struct field ConfigMap.data.a of type string"
        );
        let mut object = pod(json!("not a container"));
        assert_eq!(check(Mode::Warn, &mut object, &[]).unwrap_err().code, 400);
        let mut object = json!({"apiVersion": "v1", "kind": "Node", "metadata": []});
        assert_eq!(check(Mode::Warn, &mut object, &[]).unwrap_err().code, 400);
    }

    #[test]
    fn texts_with_a_grammar_follow_it() {
        for (mut object, message) in [
            (
                json!({"apiVersion": "v1", "kind": "Secret", "data": {"a": "hunter2!"}}),
                "Secret in version \"v1\" cannot be handled as a Secret: data.a: illegal base64 data",
            ),
            (
                json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": {"renewTime": "now"}}),
                "Lease in version \"v1\" cannot be handled as a Lease: spec.renewTime: cannot be parsed as a time of the \
                 form \"2006-01-02T15:04:05Z07:00\"",
            ),
            (
                json!({"apiVersion": "v1", "kind": "Node", "status": {"capacity": {"cpu": "many"}}}),
                "Node in version \"v1\" cannot be handled as a Node: status.capacity.cpu: quantities must match the regular \
                 expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            ),
        ] {
            assert_eq!(
                check(Mode::Warn, &mut object, &[]).unwrap_err().message,
                message
            );
        }
        let mut lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": {
            "renewTime": "2026-11-23T06:54:42.123456Z", "acquireTime": "2026-11-23T06:54:42+01:00"}});
        assert!(check(Mode::Strict, &mut lease, &[]).is_ok());
    }

    #[test]
    fn the_parameter_is_one_of_three() {
        assert_eq!(Mode::parse(None).unwrap(), Mode::Warn);
        assert_eq!(Mode::parse(Some("Strict")).unwrap(), Mode::Strict);
        assert_eq!(Mode::parse(Some("Maybe")).unwrap_err().code, 422);
    }
}
