//! Request bodies: JSON, YAML and protobuf read into one form.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::{api::errors, protobuf, status::Status};

const ACCEPTED: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

/// A request's body, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Body {
    /// The object; null if the body was empty.
    pub value: Value,
    /// Fields that stood in it twice, for [`crate::api::fields::check`].
    pub duplicates: Vec<String>,
}

impl Body {
    /// Reads JSON, YAML or protobuf. An absent content type is JSON. `kind` is for error texts.
    ///
    /// # Errors
    /// 415 for another media type, 400 for text that cannot be read.
    pub fn read(content_type: Option<&str>, bytes: &[u8], kind: &str) -> Result<Self, Status> {
        let media_type = content_type.unwrap_or("").split(';').next().unwrap_or("");
        if bytes.is_empty() {
            return Ok(Self::plain(Value::Null));
        }
        let unreadable = |why: String| {
            Status::bad_request(format!(
                "the object provided is unrecognized (must be of type {kind}): {why}"
            ))
        };
        match media_type.trim() {
            "" | "application/json" => Self::json(bytes).map_err(|e| {
                unreadable(format!("couldn't get version/kind; json parse error: {e}"))
            }),
            "application/yaml" => yaml(bytes)
                .map(Self::plain)
                .map_err(|e| unreadable(format!("yaml parse error: {e}"))),
            protobuf::MEDIA_TYPE => protobuf::decode(bytes).map(Self::plain),
            _ => Err(errors::unsupported_body(ACCEPTED)),
        }
    }

    fn plain(value: Value) -> Self {
        Self {
            value,
            duplicates: Vec::new(),
        }
    }

    /// Reads JSON text and notes the fields that are there twice; the last one counts, as in Go.
    pub(in crate::api) fn json(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let duplicates = RefCell::new(Vec::new());
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        let value = Noting {
            path: String::new(),
            duplicates: &duplicates,
        }
        .deserialize(&mut reader)?;
        reader.end()?;
        Ok(Self {
            value,
            duplicates: duplicates.into_inner(),
        })
    }
}

/// Reads YAML as kubectl does: YAML 1.1 octal numbers included (`defaultMode: 0644`).
pub(in crate::api) fn yaml(bytes: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
    let options = serde_saphyr::options! { legacy_octal_numbers: true, with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|e| e.to_string())
}

/// Builds a `Value` and writes down the path of every member that its object already has.
struct Noting<'a> {
    path: String,
    duplicates: &'a RefCell<Vec<String>>,
}

impl Noting<'_> {
    fn at(&self, path: String) -> Self {
        Self {
            path,
            duplicates: self.duplicates,
        }
    }

    fn member(&self, key: &str) -> String {
        match self.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Noting<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Noting<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) =
            items.next_element_seed(self.at(format!("{}[{}]", self.path, list.len())))?
        {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            let path = self.member(&key);
            let value = members.next_value_seed(self.at(path.clone()))?;
            if map.insert(key, value).is_some() {
                self.duplicates.borrow_mut().push(path);
            }
        }
        Ok(Value::Object(map))
    }
}
