//! Reading JSON as Go's decoder does where other plugins rely on it.

use std::net::IpAddr;

use serde::{Deserialize, Deserializer, de::Error};
use serde_json::{Map, Value};

/// `null` is as good as absent: Go writes it for an empty slice.
pub fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// An address; `null` and the empty text mean none.
pub fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpAddr>, D::Error> {
    match Option::<String>::deserialize(deserializer)? {
        None => Ok(None),
        Some(text) if text.is_empty() => Ok(None),
        Some(text) => text
            .parse()
            .map(Some)
            .map_err(|_| D::Error::custom(format!("{text:?} is not an IP address"))),
    }
}

/// The object with its keys (not its values) in lower case. Of keys that differ in case only, the last one stays.
pub fn lower_keys(object: &Map<String, Value>) -> Map<String, Value> {
    object
        .iter()
        .map(|(key, value)| (key.to_ascii_lowercase(), value.clone()))
        .collect()
}

/// [`lower_keys`] of an object, or of each object in a list.
pub fn lower_keys_within(value: &Value) -> Value {
    match value {
        Value::Object(object) => Value::Object(lower_keys(object)),
        Value::Array(list) => Value::Array(list.iter().map(lower_keys_within).collect()),
        other => other.clone(),
    }
}
