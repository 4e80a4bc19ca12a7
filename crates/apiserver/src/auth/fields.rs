//! Reading JSON objects without ceremony: what is absent or of the wrong type reads as empty.

use serde_json::Value;

/// The string at a JSON pointer, or `""`.
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

/// The array at a JSON pointer, or an empty one.
pub fn items<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The strings of the array at a JSON pointer.
pub fn strings<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a str> {
    items(value, pointer).iter().filter_map(Value::as_str)
}

/// Whether the array at a JSON pointer holds this string.
pub fn holds(value: &Value, pointer: &str, wanted: &str) -> bool {
    strings(value, pointer).any(|item| item == wanted)
}
