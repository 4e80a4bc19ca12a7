//! Kubernetes' protobuf request bodies, read into JSON.
//!
//! kubectl since 1.32, every client-go of that age, kubelets and kube-proxies send bodies as
//! `application/vnd.kubernetes.protobuf`: four magic bytes, then a `runtime.Unknown` that names the type and holds the
//! object. Everything else in this server speaks JSON, and answers may always be JSON, so a decoder is all it takes.
//! The types are tables (`schema/*.txt`), the wire format is in [`wire`], and [`decode`] walks the one by the other.
//!
//! Go writes fields that are not pointers even when they are zero, while its JSON omits most of those. The tables mark
//! (`!`) the fields whose zero must be kept: an empty `podSelector` selects everything, an absent one is an error.
//! Fields a table does not know are skipped: they come from newer clients.

pub(crate) mod schema;
mod wire;

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::status::Status;
use schema::{Field, Message, Schema, Shape, Type};
use wire::{Raw, Reader};

/// The media type of these bodies.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

const MAGIC: &[u8] = b"k8s\0";
/// Deeper than any type in the tables; a table that refers to itself stops here.
const MAX_DEPTH: usize = 40;

/// Why bytes are not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum DecodeError {
    #[error("unexpected end of data")]
    Truncated,
    #[error("a number is longer than 64 bits")]
    Varint,
    #[error("wire type {0} is not used by Kubernetes")]
    WireType(u8),
    #[error("field number 0")]
    FieldNumber,
    #[error("field {0} has the wrong wire type")]
    Mismatch(String),
    #[error("field {0} is not UTF-8")]
    Utf8(String),
    #[error("field {0} holds no JSON: {1}")]
    Json(String, String),
    #[error("field {0} is no time")]
    Time(String),
    #[error("messages are nested too deeply")]
    Depth,
}

/// Reads a body into the JSON object a JSON client would have sent, `apiVersion` and `kind` included.
///
/// # Errors
/// 400 when the bytes are not what the media type promises; 415 for a kind that is not in the tables.
pub fn decode(bytes: &[u8]) -> Result<Value, Status> {
    let envelope = bytes.strip_prefix(MAGIC).ok_or_else(|| {
        Status::bad_request(
            "the body is not Kubernetes protobuf: it does not begin with \"k8s\\0\"",
        )
    })?;
    let unknown = unwrap_envelope(envelope).map_err(|e| malformed("the envelope", &e))?;
    if !unknown.encoding.is_empty() {
        return Err(unsupported(format!(
            "the body's content encoding \"{}\" is not supported; send it unencoded",
            unknown.encoding
        )));
    }
    let (schema, message) = Schema::get()
        .top_level(&unknown.api_version, &unknown.kind)
        .ok_or_else(|| {
            unsupported(format!(
                "{}, Kind={} cannot be read from protobuf by this server; send application/json",
                unknown.api_version, unknown.kind
            ))
        })?;
    let mut object = Map::new();
    object.insert("apiVersion".to_owned(), unknown.api_version.into());
    object.insert("kind".to_owned(), unknown.kind.clone().into());
    Decoder { schema }
        .message(unknown.raw, message, &mut object, 0)
        .map_err(|e| malformed(&unknown.kind, &e))?;
    Ok(Value::Object(object))
}

fn malformed(what: &str, error: &DecodeError) -> Status {
    Status::bad_request(format!("cannot read {what} from protobuf: {error}"))
}

fn unsupported(message: String) -> Status {
    Status::new(415, "UnsupportedMediaType", message)
}

/// `runtime.Unknown`: type, object, encoding.
#[derive(Default)]
struct Envelope<'a> {
    api_version: String,
    kind: String,
    raw: &'a [u8],
    encoding: String,
}

fn unwrap_envelope(bytes: &[u8]) -> Result<Envelope<'_>, DecodeError> {
    let mut envelope = Envelope::default();
    let mut reader = Reader::new(bytes);
    while let Some((number, raw)) = reader.next()? {
        match (number, raw) {
            (1, Raw::Bytes(bytes)) => {
                let mut reader = Reader::new(bytes);
                while let Some((number, raw)) = reader.next()? {
                    match (number, raw) {
                        (1, Raw::Bytes(bytes)) => envelope.api_version = utf8(bytes, "apiVersion")?,
                        (2, Raw::Bytes(bytes)) => envelope.kind = utf8(bytes, "kind")?,
                        _ => {}
                    }
                }
            }
            (2, Raw::Bytes(bytes)) => envelope.raw = bytes,
            (3, Raw::Bytes(bytes)) => envelope.encoding = utf8(bytes, "contentEncoding")?,
            _ => {}
        }
    }
    Ok(envelope)
}

fn utf8(bytes: &[u8], field: &str) -> Result<String, DecodeError> {
    std::str::from_utf8(bytes)
        .map(str::to_owned)
        .map_err(|_| DecodeError::Utf8(field.to_owned()))
}

struct Decoder {
    schema: &'static Schema,
}

impl Decoder {
    /// Reads a message's fields into `object`.
    fn message(
        &self,
        bytes: &[u8],
        message: &Message,
        object: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), DecodeError> {
        if depth > MAX_DEPTH {
            return Err(DecodeError::Depth);
        }
        let mut reader = Reader::new(bytes);
        while let Some((number, raw)) = reader.next()? {
            let Some(field) = message.field(number) else {
                continue;
            };
            match field.shape {
                Shape::Inline => self.inline(raw, field, object, depth)?,
                Shape::One => self.one(raw, field, object, depth)?,
                Shape::List => self.append(raw, field, object, depth)?,
                Shape::Map => self.entry(raw, field, object, depth)?,
            }
        }
        Ok(())
    }

    /// A message whose fields stand in its parent's object.
    fn inline(
        &self,
        raw: Raw<'_>,
        field: &Field,
        object: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), DecodeError> {
        match (&field.kind, raw) {
            (Type::Message(id), Raw::Bytes(bytes)) => {
                self.message(bytes, self.schema.message(*id), object, depth + 1)
            }
            _ => Err(DecodeError::Mismatch(field.name.clone())),
        }
    }

    fn one(
        &self,
        raw: Raw<'_>,
        field: &Field,
        object: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), DecodeError> {
        let value = self.value(raw, field, depth)?;
        if field.keep_zero && !value.is_null() || !is_zero(&value) {
            object.insert(field.name.clone(), value);
        }
        Ok(())
    }

    fn append(
        &self,
        raw: Raw<'_>,
        field: &Field,
        object: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), DecodeError> {
        let list = object
            .entry(field.name.clone())
            .or_insert_with(|| Value::Array(Vec::new()));
        let Value::Array(list) = list else {
            return Err(DecodeError::Mismatch(field.name.clone()));
        };
        match (&field.kind, raw) {
            // Numbers may come packed, one after the other in one field.
            (Type::Int, Raw::Bytes(packed)) => {
                let mut reader = Reader::new(packed);
                while let Some(number) = reader.packed()? {
                    list.push(number.into());
                }
            }
            (_, raw) => list.push(self.value(raw, field, depth)?),
        }
        Ok(())
    }

    /// One entry of a map: a message with the key as field 1 and the value as field 2.
    fn entry(
        &self,
        raw: Raw<'_>,
        field: &Field,
        object: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), DecodeError> {
        let mismatch = || DecodeError::Mismatch(field.name.clone());
        let Raw::Bytes(bytes) = raw else {
            return Err(mismatch());
        };
        let (mut key, mut value) = (String::new(), None);
        let mut reader = Reader::new(bytes);
        while let Some((number, raw)) = reader.next()? {
            match (number, raw) {
                (1, Raw::Bytes(bytes)) => key = utf8(bytes, &field.name)?,
                (2, raw) => value = Some(self.value(raw, field, depth)?),
                _ => {}
            }
        }
        // An entry without a value is one whose value is empty.
        let value = match value {
            Some(value) => value,
            None => self
                .value(Raw::Bytes(&[]), field, depth)
                .unwrap_or(Value::Null),
        };
        let map = object
            .entry(field.name.clone())
            .or_insert_with(|| Value::Object(Map::new()));
        map.as_object_mut().ok_or_else(mismatch)?.insert(key, value);
        Ok(())
    }

    fn value(&self, raw: Raw<'_>, field: &Field, depth: usize) -> Result<Value, DecodeError> {
        let name = &field.name;
        Ok(match (&field.kind, raw) {
            (Type::String, Raw::Bytes(bytes)) => utf8(bytes, name)?.into(),
            (Type::Bytes, Raw::Bytes(bytes)) => STANDARD.encode(bytes).into(),
            (Type::Int, Raw::Number(number)) => number.cast_signed().into(),
            (Type::Bool, Raw::Number(number)) => (number != 0).into(),
            (Type::Double, Raw::Fixed64(bits)) => f64::from_bits(bits).into(),
            (Type::Json, Raw::Bytes(bytes)) => raw_json(bytes, name)?,
            (Type::Quantity, Raw::Bytes(bytes)) => quantity(bytes, name)?,
            (Type::IntOrString, Raw::Bytes(bytes)) => int_or_string(bytes, name)?,
            (Type::Time, Raw::Bytes(bytes)) => time(bytes, name, 0)?,
            (Type::MicroTime, Raw::Bytes(bytes)) => time(bytes, name, 6)?,
            (Type::Strings, Raw::Bytes(bytes)) => strings(bytes, name)?,
            (Type::Message(id), Raw::Bytes(bytes)) => {
                let mut object = Map::new();
                self.message(bytes, self.schema.message(*id), &mut object, depth + 1)?;
                Value::Object(object)
            }
            _ => return Err(DecodeError::Mismatch(name.clone())),
        })
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// `runtime.RawExtension` and `metav1.FieldsV1`: field 1 is JSON text.
fn raw_json(bytes: &[u8], name: &str) -> Result<Value, DecodeError> {
    let text = string_field(bytes, 1, name)?;
    if text.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&text).map_err(|e| DecodeError::Json(name.to_owned(), e.to_string()))
}

fn string_field(bytes: &[u8], wanted: u32, name: &str) -> Result<String, DecodeError> {
    let mut text = String::new();
    let mut reader = Reader::new(bytes);
    while let Some((number, raw)) = reader.next()? {
        if let (true, Raw::Bytes(bytes)) = (number == wanted, raw) {
            text = utf8(bytes, name)?;
        }
    }
    Ok(text)
}

/// `resource.Quantity`: field 1 is its text; none at all is an absent quantity.
fn quantity(bytes: &[u8], name: &str) -> Result<Value, DecodeError> {
    let text = string_field(bytes, 1, name)?;
    Ok(if text.is_empty() {
        Value::Null
    } else {
        text.into()
    })
}

/// `type` 0 is the number, anything else the text.
fn int_or_string(bytes: &[u8], name: &str) -> Result<Value, DecodeError> {
    let (mut is_text, mut number, mut text) = (false, 0i64, String::new());
    let mut reader = Reader::new(bytes);
    while let Some((field, raw)) = reader.next()? {
        match (field, raw) {
            (1, Raw::Number(kind)) => is_text = kind != 0,
            (2, Raw::Number(value)) => number = value.cast_signed(),
            (3, Raw::Bytes(bytes)) => text = utf8(bytes, name)?,
            _ => {}
        }
    }
    Ok(if is_text { text.into() } else { number.into() })
}

/// Seconds and nanoseconds since 1970; no bytes at all is Go's zero time, which JSON does not show.
fn time(bytes: &[u8], name: &str, digits: u8) -> Result<Value, DecodeError> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let (mut seconds, mut nanos) = (0i64, 0i64);
    let mut reader = Reader::new(bytes);
    while let Some((field, raw)) = reader.next()? {
        match (field, raw) {
            (1, Raw::Number(value)) => seconds = value.cast_signed(),
            (2, Raw::Number(value)) => nanos = value.cast_signed(),
            _ => {}
        }
    }
    let nanos = i32::try_from(nanos).map_err(|_| DecodeError::Time(name.to_owned()))?;
    let nanos = if digits == 0 { 0 } else { nanos };
    let time = Timestamp::new(seconds, nanos).map_err(|_| DecodeError::Time(name.to_owned()))?;
    Ok(format!("{time:.*}", usize::from(digits)).into())
}

/// `ExtraValue`: field 1, repeated.
fn strings(bytes: &[u8], name: &str) -> Result<Value, DecodeError> {
    let mut list = Vec::new();
    let mut reader = Reader::new(bytes);
    while let Some((number, raw)) = reader.next()? {
        if let (1, Raw::Bytes(bytes)) = (number, raw) {
            list.push(Value::from(utf8(bytes, name)?));
        }
    }
    Ok(list.into())
}

#[cfg(test)]
mod tests;
