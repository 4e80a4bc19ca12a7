//! Writing into JSON objects without ceremony.

use serde_json::{Map, Value};

/// The object under `key`, made if it is not there (or is no object).
pub(crate) fn child<'a>(object: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    let parent = as_object(object);
    as_object(parent.entry(key).or_insert(Value::Null))
}

/// The value as an object; what is none becomes an empty one.
pub(crate) fn as_object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        // The line above made it one.
        _ => unreachable!("an object"),
    }
}

/// Sets a field that is absent, null or an empty string.
pub(crate) fn fill(object: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    match object.get(key) {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) if text.is_empty() => {}
        Some(_) => return,
    }
    object.insert(key.to_owned(), value.into());
}

/// Copies a field from another object, or removes it where the other has none.
pub(crate) fn copy(from: &Value, to: &mut Map<String, Value>, key: &str) {
    match from.get(key) {
        Some(value) => {
            to.insert(key.to_owned(), value.clone());
        }
        None => {
            to.remove(key);
        }
    }
}

/// The objects of a list under `key`, to change; none if there is no list.
pub(crate) fn each<'a>(
    object: &'a mut Map<String, Value>,
    key: &str,
) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    let list = object.get_mut(key).and_then(Value::as_array_mut);
    list.into_iter().flatten().filter_map(Value::as_object_mut)
}

/// Removes members that are null, everywhere: to Kubernetes they are the same as absent ones.
pub(crate) fn strip_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(strip_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(strip_nulls),
        _ => {}
    }
}
