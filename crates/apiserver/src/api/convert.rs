//! Two versions, one store: objects are stored in one version and shown in any.
//!
//! Events are stored as core/v1 and shown as `events.k8s.io/v1` too; endpoint slices are stored as v1 and shown as
//! v1beta1 too, which old kube-proxies ask for.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::{json::as_object, resources::Resource};

/// Fields of an event: `(core/v1, events.k8s.io/v1)`.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

/// Brings an object of `resource`'s version to the stored one.
pub fn to_stored(resource: &'static Resource, object: &mut Value) {
    let stored = resource.stored();
    if std::ptr::eq(stored, resource) {
        return;
    }
    let map = as_object(object);
    match resource.group {
        "events.k8s.io" => {
            for (core, new) in EVENT_FIELDS {
                rename(map, new, core);
            }
        }
        _ => each_endpoint(map, endpoint_to_v1),
    }
    map.insert("apiVersion".to_owned(), stored.api_version().into());
}

/// Shows a stored object in `resource`'s version.
pub fn from_stored<'a>(resource: &'static Resource, object: &'a Value) -> Cow<'a, Value> {
    if std::ptr::eq(resource.stored(), resource) {
        return Cow::Borrowed(object);
    }
    let mut shown = object.clone();
    let map = as_object(&mut shown);
    match resource.group {
        "events.k8s.io" => {
            for (core, new) in EVENT_FIELDS {
                rename(map, core, new);
            }
        }
        _ => each_endpoint(map, endpoint_to_v1beta1),
    }
    map.insert("apiVersion".to_owned(), resource.api_version().into());
    Cow::Owned(shown)
}

fn rename(map: &mut Map<String, Value>, from: &str, to: &str) {
    if let Some(value) = map.remove(from) {
        map.insert(to.to_owned(), value);
    }
}

fn each_endpoint(slice: &mut Map<String, Value>, change: fn(&mut Map<String, Value>)) {
    super::json::each(slice, "endpoints").for_each(change);
}

/// v1 has fields for node and zone, v1beta1 a map.
fn endpoint_to_v1(endpoint: &mut Map<String, Value>) {
    let Some(Value::Object(mut topology)) = endpoint.remove("topology") else {
        return;
    };
    for (key, field) in [(HOSTNAME, "nodeName"), (ZONE, "zone")] {
        if let Some(value) = topology.remove(key) {
            endpoint.entry(field).or_insert(value);
        }
    }
    if !topology.is_empty() {
        endpoint.insert("deprecatedTopology".to_owned(), Value::Object(topology));
    }
}

fn endpoint_to_v1beta1(endpoint: &mut Map<String, Value>) {
    let mut topology = match endpoint.remove("deprecatedTopology") {
        Some(Value::Object(topology)) => topology,
        _ => Map::new(),
    };
    if let Some(node) = endpoint.get("nodeName") {
        topology.insert(HOSTNAME.to_owned(), node.clone());
    }
    if let Some(zone) = endpoint.remove("zone") {
        topology.insert(ZONE.to_owned(), zone);
    }
    if !topology.is_empty() {
        endpoint.insert("topology".to_owned(), json!(topology));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::resources::find;

    #[test]
    fn events_are_one_thing_under_two_names() {
        let events = find("events.k8s.io", "v1", "events").unwrap();
        let new = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"},
            "regarding": {"kind": "Node", "name": "n"}, "note": "hello", "reason": "Because",
            "reportingController": "c", "reportingInstance": "i", "deprecatedCount": 3,
        });
        let mut stored = new.clone();
        to_stored(events, &mut stored);
        assert_eq!(
            stored,
            json!({
                "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"},
                "involvedObject": {"kind": "Node", "name": "n"}, "message": "hello", "reason": "Because",
                "reportingComponent": "c", "reportingInstance": "i", "count": 3,
            })
        );
        assert_eq!(*from_stored(events, &stored), new);
        let core = find("", "v1", "events").unwrap();
        assert!(matches!(from_stored(core, &stored), Cow::Borrowed(_)));
    }

    #[test]
    fn old_slices_have_a_topology() {
        let beta = find("discovery.k8s.io", "v1beta1", "endpointslices").unwrap();
        let stored = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "s"},
            "endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "n1", "zone": "z"}, {"addresses": ["10.0.0.2"]}],
        });
        let mut shown = from_stored(beta, &stored).into_owned();
        assert_eq!(shown["apiVersion"], "discovery.k8s.io/v1beta1");
        assert_eq!(
            shown["endpoints"][0],
            json!({"addresses": ["10.0.0.1"], "nodeName": "n1", "topology": {HOSTNAME: "n1", ZONE: "z"}})
        );
        to_stored(beta, &mut shown);
        assert_eq!(shown, stored);
    }
}
