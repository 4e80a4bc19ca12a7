//! Strategic merge patch: a merge patch that knows which lists are sets (`apimachinery/pkg/util/strategicpatch`).
//!
//! Directives: `$patch: replace|delete|merge` in an object or as an item of a list, `$retainKeys`,
//! `$deleteFromPrimitiveList/FIELD`, `$setElementOrder/FIELD`.

use serde_json::{Map, Value};

use super::keys::{self, ListStrategy, Place};
use crate::{auth::fields::text, status::Status};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const ORDER: &str = "$setElementOrder/";

/// Merges a patch (an object) into an object.
///
/// # Errors
/// 400 for directives that make no sense, 422 for items without their merge key.
pub(super) fn merge(object: &mut Value, patch: Value) -> Result<(), Status> {
    let place = keys::top(text(object, "/apiVersion"), text(object, "/kind"));
    if let (Value::Object(object), Value::Object(patch)) = (object, patch) {
        merge_object(object, patch, place)?;
    }
    Ok(())
}

fn merge_object(
    object: &mut Map<String, Value>,
    mut patch: Map<String, Value>,
    place: Place,
) -> Result<(), Status> {
    match patch.remove(PATCH) {
        None => {}
        Some(Value::String(what)) if what == "merge" => {}
        Some(Value::String(what)) if what == "delete" => {
            object.clear();
            return Ok(());
        }
        Some(Value::String(what)) if what == "replace" => object.clear(),
        Some(other) => return Err(bad_directive(PATCH, &other)),
    }
    if let Some(keep) = patch.remove(RETAIN_KEYS) {
        retain_keys(object, &patch, &keep)?;
    }
    let (directives, plain): (Vec<_>, Vec<_>) =
        patch.into_iter().partition(|(key, _)| key.starts_with('$'));
    for (key, value) in plain {
        let (strategy, inner) = keys::field(place, &key);
        merge_member(object, key, value, strategy, inner)?;
    }
    // Deletions before orders: an order may only name what is left.
    for (key, value) in &directives {
        if let Some(field) = key.strip_prefix(DELETE_FROM) {
            delete_from(object, field, value)?;
        } else if !key.starts_with(ORDER) {
            return Err(bad_directive(key, value));
        }
    }
    for (key, value) in &directives {
        if let Some(field) = key.strip_prefix(ORDER) {
            let strategy = keys::field(place, field).0;
            if let Some(Value::Array(list)) = object.get_mut(field) {
                set_order(list, value, strategy)?;
            }
        }
    }
    Ok(())
}

fn bad_directive(key: &str, value: &Value) -> Status {
    Status::bad_request(format!(
        "the patch has a directive that is not known: {key}: {value}"
    ))
}

fn retain_keys(
    object: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    keep: &Value,
) -> Result<(), Status> {
    let names = keep
        .as_array()
        .ok_or_else(|| bad_directive(RETAIN_KEYS, keep))?;
    let kept = |key: &str| names.iter().any(|name| name == key);
    let stray = patch.keys().find(|k| !k.starts_with('$') && !kept(k));
    if let Some(stray) = stray {
        return Err(Status::bad_request(format!(
            "{RETAIN_KEYS} does not list the field \"{stray}\", which the patch sets"
        )));
    }
    object.retain(|key, _| kept(key));
    Ok(())
}

fn merge_member(
    object: &mut Map<String, Value>,
    key: String,
    value: Value,
    strategy: ListStrategy,
    place: Place,
) -> Result<(), Status> {
    match value {
        Value::Null => {
            object.remove(&key);
        }
        Value::Object(patch) => {
            let deletes = patch.get(PATCH) == Some(&Value::from("delete"));
            let is_there = object.get(&key).is_some_and(Value::is_object);
            if deletes && !is_there {
                return Ok(());
            }
            let old = object.entry(key).or_insert(Value::Null);
            merge_object(super::super::json::as_object(old), patch, place)?;
        }
        Value::Array(patch) => {
            let old = match object.remove(&key) {
                Some(Value::Array(old)) => old,
                _ => Vec::new(),
            };
            let new = merge_list(old, patch, strategy, place)?;
            object.insert(key, Value::Array(new));
        }
        plain => {
            object.insert(key, plain);
        }
    }
    Ok(())
}

fn merge_list(
    mut list: Vec<Value>,
    patch: Vec<Value>,
    strategy: ListStrategy,
    place: Place,
) -> Result<Vec<Value>, Status> {
    let replaces = |item: &Value| item.get(PATCH) == Some(&Value::from("replace"));
    let key = match strategy {
        ListStrategy::Replace => return Ok(patch),
        ListStrategy::Union => {
            for item in patch {
                if !list.contains(&item) {
                    list.push(item);
                }
            }
            return Ok(list);
        }
        ListStrategy::MergeBy(key) => key,
    };
    if patch.iter().any(replaces) {
        // Only a bare `{"$patch": "replace"}` is not an item itself.
        let items = patch.into_iter().filter_map(|mut item| {
            let map = item.as_object_mut()?;
            map.remove(PATCH);
            (!map.is_empty()).then_some(item)
        });
        return Ok(items.collect());
    }
    for item in patch {
        merge_item(&mut list, item, key, place)?;
    }
    Ok(list)
}

fn merge_item(
    list: &mut Vec<Value>,
    item: Value,
    key: &'static str,
    place: Place,
) -> Result<(), Status> {
    let Value::Object(patch) = item else {
        return Err(super::unfit(&format!(
            "an item of a list that is merged by \"{key}\" is no object: {item}"
        )));
    };
    let Some(id) = patch.get(key).cloned() else {
        return Err(super::unfit(&format!(
            "map: {} does not contain declared merge key: {key}",
            Value::Object(patch)
        )));
    };
    if patch.get(PATCH) == Some(&Value::from("delete")) {
        list.retain(|old| old.get(key) != Some(&id));
        return Ok(());
    }
    let old = list.iter_mut().find(|old| old.get(key) == Some(&id));
    match old.and_then(Value::as_object_mut) {
        Some(old) => merge_object(old, patch, place),
        None => {
            let mut new = Map::new();
            merge_object(&mut new, patch, place)?;
            list.push(Value::Object(new));
            Ok(())
        }
    }
}

fn delete_from(object: &mut Map<String, Value>, field: &str, gone: &Value) -> Result<(), Status> {
    let gone = gone
        .as_array()
        .ok_or_else(|| bad_directive(DELETE_FROM, gone))?;
    if let Some(Value::Array(list)) = object.get_mut(field) {
        list.retain(|item| !gone.contains(item));
    }
    Ok(())
}

/// Brings the items that the order names into that order, and weaves the others (which only the server has) in where
/// they stood before.
fn set_order(list: &mut Vec<Value>, order: &Value, strategy: ListStrategy) -> Result<(), Status> {
    let order = order
        .as_array()
        .ok_or_else(|| bad_directive(ORDER, order))?;
    let identity = |item: &Value| match strategy {
        ListStrategy::MergeBy(key) => item.get(key).cloned(),
        ListStrategy::Union => Some(item.clone()),
        ListStrategy::Replace => None,
    };
    if strategy == ListStrategy::Replace {
        return Ok(());
    }
    let order: Vec<_> = order.iter().map(identity).collect();
    let rank = |item: &Value| {
        let id = identity(item);
        order.iter().position(|ordered| *ordered == id)
    };
    let items = std::mem::take(list).into_iter().enumerate();
    let (mut named, others): (Vec<_>, Vec<_>) = items.partition(|(_, item)| rank(item).is_some());
    named.sort_by_key(|(_, item)| rank(item));
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    loop {
        let other_first = match (named.peek(), others.peek()) {
            (None, None) => return Ok(()),
            (Some(_), None) => false,
            (None, Some(_)) => true,
            (Some((named, _)), Some((other, _))) => other < named,
        };
        let next = if other_first {
            others.next()
        } else {
            named.next()
        };
        list.extend(next.map(|(_, item)| item));
    }
}
