use serde_json::{Value, json};

use super::*;
use crate::api::resources::find;

fn patch(kind: PatchType, current: &Value, patch: &Value) -> Result<Value, Status> {
    let version = text(current, "/apiVersion");
    let resource =
        crate::api::resources::find_kind(version, text(current, "/kind")).expect("a resource");
    let text = patch.to_string();
    apply(
        resource,
        kind,
        Some(current),
        text.as_bytes(),
        Options::default(),
    )
    .map(|p| p.object)
}

fn strategic(current: &Value, with: &Value) -> Value {
    patch(PatchType::Strategic, current, with).unwrap()
}

fn pod(containers: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": containers}})
}

#[test]
fn media_types() {
    let parse = |text| PatchType::parse(Some(text));
    assert_eq!(
        parse("application/json-patch+json").unwrap(),
        PatchType::Json
    );
    assert_eq!(
        parse("application/apply-patch+yaml; charset=utf-8").unwrap(),
        PatchType::Apply
    );
    assert_eq!(parse("application/json").unwrap_err().code, 415);
    assert_eq!(PatchType::parse(None).unwrap_err().code, 415);
}

#[test]
fn json_patch_with_test() {
    let current = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "1"}});
    let good = json!([{"op": "test", "path": "/data/a", "value": "1"}, {"op": "replace", "path": "/data/a", "value": "2"}]);
    assert_eq!(
        patch(PatchType::Json, &current, &good).unwrap()["data"]["a"],
        "2"
    );
    let bad = json!([{"op": "test", "path": "/data/a", "value": "9"}]);
    let error = patch(PatchType::Json, &current, &bad).unwrap_err();
    assert_eq!((error.code, error.reason), (422, "Invalid"));
    assert_eq!(
        patch(PatchType::Json, &current, &json!({"op": "x"}))
            .unwrap_err()
            .code,
        400
    );
}

#[test]
fn merge_patch_replaces_lists_and_deletes_by_null() {
    let current = pod(json!([{"name": "a"}, {"name": "b"}]));
    let with = json!({"metadata": {"labels": {"x": "y"}}, "spec": {"containers": [{"name": "c"}]}});
    let merged = patch(PatchType::Merge, &current, &with).unwrap();
    assert_eq!(merged["spec"]["containers"], json!([{"name": "c"}]));
    let with = json!({"metadata": {"labels": {"x": null}}});
    let merged = patch(PatchType::Merge, &merged, &with).unwrap();
    assert_eq!(merged["metadata"]["labels"], json!({}));
    let error = patch(PatchType::Merge, &current, &json!({"kind": "Secret"})).unwrap_err();
    assert_eq!(error.code, 400);
    assert_eq!(
        patch(PatchType::Merge, &current, &json!([1]))
            .unwrap_err()
            .code,
        400
    );
}

#[test]
fn containers_are_merged_by_name() {
    let current = pod(json!([
        {"name": "a", "image": "i1", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]},
        {"name": "b", "image": "i2"},
    ]));
    let with = json!({"spec": {"containers": [
        {"name": "a", "image": "i3", "env": [{"name": "Y", "$patch": "delete"}, {"name": "Z", "value": "3"}]},
    ]}});
    assert_eq!(
        strategic(&current, &with)["spec"]["containers"],
        json!([
            {"name": "a", "image": "i3", "env": [{"name": "X", "value": "1"}, {"name": "Z", "value": "3"}]},
            {"name": "b", "image": "i2"},
        ])
    );
}

#[test]
fn lists_and_objects_can_be_replaced() {
    let current = pod(json!([{"name": "a", "image": "i1"}, {"name": "b"}]));
    let with = json!({"spec": {"containers": [{"$patch": "replace"}, {"name": "c"}]}});
    assert_eq!(
        strategic(&current, &with)["spec"]["containers"],
        json!([{"name": "c"}])
    );
    let current = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "1"}});
    let with = json!({"data": {"$patch": "replace", "b": "2"}});
    assert_eq!(strategic(&current, &with)["data"], json!({"b": "2"}));
    let with = json!({"data": {"$patch": "delete"}});
    assert_eq!(strategic(&current, &with)["data"], json!({}));
    let with = json!({"data": {"$patch": "explode"}});
    assert_eq!(
        patch(PatchType::Strategic, &current, &with)
            .unwrap_err()
            .code,
        400
    );
}

#[test]
fn a_heartbeat_of_a_kubelet() {
    let current = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "w1"}, "status": {"conditions": [
        {"type": "NetworkUnavailable", "status": "False"},
        {"type": "MemoryPressure", "status": "False", "lastHeartbeatTime": "1"},
        {"type": "Ready", "status": "False", "lastHeartbeatTime": "1"},
    ]}});
    let with = json!({"status": {
        "$setElementOrder/conditions": [{"type": "MemoryPressure"}, {"type": "Ready"}],
        "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2", "reason": null}],
    }});
    assert_eq!(
        strategic(&current, &with)["status"]["conditions"],
        json!([
            {"type": "NetworkUnavailable", "status": "False"},
            {"type": "MemoryPressure", "status": "False", "lastHeartbeatTime": "1"},
            {"type": "Ready", "status": "True", "lastHeartbeatTime": "2"},
        ])
    );
}

#[test]
fn nulls_inside_new_items_are_deletions_too() {
    let current =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "status": {}});
    let with =
        json!({"status": {"conditions": [{"type": "Ready", "message": null, "status": "True"}]}});
    assert_eq!(
        strategic(&current, &with)["status"],
        json!({"conditions": [{"type": "Ready", "status": "True"}]})
    );
}

#[test]
fn element_order_orders_and_weaves_the_servers_own_items_in() {
    let current = pod(json!([{"name": "a"}, {"name": "server"}, {"name": "b"}]));
    let with = json!({"spec": {
        "$setElementOrder/containers": [{"name": "b"}, {"name": "new"}, {"name": "a"}],
        "containers": [{"name": "new"}],
    }});
    let names: Vec<_> = strategic(&current, &with)["spec"]["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["server", "b", "new", "a"]);
}

#[test]
fn plain_lists_are_united_and_shortened() {
    let current = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "finalizers": ["a", "b"]}});
    let with = json!({"metadata": {"finalizers": ["b", "c"], "$deleteFromPrimitiveList/finalizers": ["a"],
        "$setElementOrder/finalizers": ["c", "b"]}});
    assert_eq!(
        strategic(&current, &with)["metadata"]["finalizers"],
        json!(["c", "b"])
    );
}

#[test]
fn retained_keys_are_all_that_is_left() {
    let current = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
    let with = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    assert_eq!(
        strategic(&current, &with)["spec"]["strategy"],
        json!({"type": "Recreate"})
    );
    let with = json!({"spec": {"strategy": {"$retainKeys": ["other"], "type": "Recreate"}}});
    assert_eq!(
        patch(PatchType::Strategic, &current, &with)
            .unwrap_err()
            .code,
        400
    );
}

#[test]
fn an_item_without_its_key_does_not_fit() {
    let current = pod(json!([{"name": "a"}]));
    let with = json!({"spec": {"containers": [{"image": "x"}]}});
    let error = patch(PatchType::Strategic, &current, &with).unwrap_err();
    assert_eq!(error.code, 422);
    assert!(
        error
            .message
            .contains("does not contain declared merge key: name"),
        "{error}"
    );
}

#[test]
fn apply_creates_adds_and_conflicts() {
    let maps = find("", "v1", "configmaps").unwrap();
    let body = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: '1'}\n";
    let options = Options {
        force: false,
        field_manager: "me",
    };
    let created = apply(maps, PatchType::Apply, None, body, options).unwrap();
    assert_eq!(created.object["data"]["a"], "1");
    assert_eq!(created.warnings.len(), 1);
    let more = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {b: '2'}\n";
    let added = apply(maps, PatchType::Apply, Some(&created.object), more, options).unwrap();
    assert_eq!(added.object["data"], json!({"a": "1", "b": "2"}));
    let other = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: '9'}\n";
    let error = apply(maps, PatchType::Apply, Some(&added.object), other, options).unwrap_err();
    assert_eq!((error.code, error.reason), (409, "Conflict"));
    assert_eq!(error.details["causes"][0]["field"], ".data.a");
    let forced = Options {
        force: true,
        ..options
    };
    let taken = apply(maps, PatchType::Apply, Some(&added.object), other, forced).unwrap();
    assert_eq!(taken.object["data"]["a"], "9");
    let nobody = apply(maps, PatchType::Apply, None, body, Options::default());
    assert_eq!(nobody.unwrap_err().code, 422);
}
