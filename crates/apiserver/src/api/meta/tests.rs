use serde_json::json;

use super::*;
use crate::api::resources::find;

fn target(group: &str, plural: &str, name: &'static str) -> Target<'static> {
    Target {
        resource: find(group, "v1", plural).expect("a resource"),
        subresource: "",
        namespace: "default",
        name,
    }
}

fn fresh() -> Fresh {
    Fresh {
        now: "2026-11-23T06:54:42.7Z".parse().unwrap(),
        uid: "u-1".to_owned(),
        suffix: "dmls6".to_owned(),
    }
}

#[test]
fn names_are_made_from_their_beginning() {
    let mut object = json!({"metadata": {"generateName": "g-"}});
    create(&target("", "configmaps", ""), &mut object, &fresh()).unwrap();
    assert_eq!(
        object["metadata"],
        json!({
            "name": "g-dmls6", "generateName": "g-", "uid": "u-1",
            "creationTimestamp": "2026-11-23T06:54:42Z",
        })
    );
    let mut object = json!({"metadata": {"generateName": "x".repeat(80)}});
    create(&target("", "configmaps", ""), &mut object, &fresh()).unwrap();
    assert_eq!(text(&object, "/metadata/name").len(), 63);
}

#[test]
fn a_nameless_object_is_refused() {
    let error = create(&target("", "configmaps", ""), &mut json!({}), &fresh()).unwrap_err();
    assert_eq!(
        error.message,
        "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required"
    );
}

#[test]
fn random_parts_are_random_and_in_the_alphabet() {
    let (a, b) = (Fresh::random(fresh().now), Fresh::random(fresh().now));
    assert_ne!(a.uid, b.uid);
    assert!(a.suffix.bytes().all(|c| ALPHABET.contains(&c)));
    assert_eq!(a.suffix.len(), 5);
}

#[test]
fn new_objects_claim_nothing_of_the_servers() {
    let mut object = json!({
        "metadata": {"name": "d", "uid": "mine", "generation": 9, "managedFields": [], "selfLink": "/x"},
        "spec": {}, "status": {"replicas": 3},
    });
    create(&target("apps", "deployments", ""), &mut object, &fresh()).unwrap();
    assert_eq!(object["metadata"]["uid"], "u-1");
    assert_eq!(object["metadata"]["generation"], 1);
    assert_eq!(object.get("status"), None);
    assert_eq!(object["metadata"].get("managedFields"), None);
    let mut node = json!({"metadata": {"name": "n"}, "status": {"capacity": {}}});
    create(&target("", "nodes", ""), &mut node, &fresh()).unwrap();
    assert!(node.get("status").is_some());
}

#[test]
fn name_and_namespace_are_those_of_the_url() {
    let t = target("", "configmaps", "s1");
    let message = |mut body: Value| address(&t, &mut body).unwrap_err().message;
    assert_eq!(
        message(json!({"metadata": {"name": "s2"}})),
        "the name of the object (s2) does not match the name on the URL (s1)"
    );
    assert_eq!(
        message(json!({"metadata": {"name": "s1", "namespace": "other"}})),
        "the namespace of the provided object does not match the namespace sent on the request"
    );
    let mut body = json!({"metadata": {"name": "s1"}});
    address(&t, &mut body).unwrap();
    assert_eq!(body["metadata"]["namespace"], "default");
}

#[test]
fn versions_and_uids_are_preconditions() {
    let old = json!({"metadata": {"name": "s1", "uid": "u", "resourceVersion": "7"}});
    let check = |group: &str, plural: &str, meta: Value| {
        preconditions(
            &target(group, plural, "s1"),
            &old,
            &json!({"metadata": meta}),
        )
    };
    assert!(check("", "configmaps", json!({})).is_ok());
    assert!(
        check(
            "",
            "configmaps",
            json!({"resourceVersion": "7", "uid": "u"})
        )
        .is_ok()
    );
    let stale = check("", "configmaps", json!({"resourceVersion": "1"})).unwrap_err();
    assert_eq!(
        stale.message,
        "Operation cannot be fulfilled on configmaps \"s1\": the object has been modified; \
         please apply your changes to the latest version and try again"
    );
    assert_eq!(stale.details, json!({"name": "s1", "kind": "configmaps"}));
    let other = check("", "configmaps", json!({"uid": "v"})).unwrap_err();
    assert_eq!((other.code, other.reason), (409, "Conflict"));
    let lease = check("coordination.k8s.io", "leases", json!({})).unwrap_err();
    assert_eq!(lease.code, 422);
}

#[test]
fn an_update_and_a_status_update_touch_their_own_halves() {
    let old = json!({
        "metadata": {"name": "d", "uid": "u", "generation": 1, "creationTimestamp": "t"},
        "spec": {"replicas": 1}, "status": {"replicas": 1},
    });
    let body = json!({
        "metadata": {"name": "d", "labels": {"a": "b"}, "generation": 7},
        "spec": {"replicas": 2}, "status": {"replicas": 2},
    });
    let mut t = target("apps", "deployments", "d");
    let mut new = body.clone();
    update(&t, &old, &mut new);
    count_generation(&t, &old, &mut new);
    assert_eq!(
        (&new["spec"]["replicas"], &new["status"]["replicas"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(new["metadata"]["generation"], 2);
    assert_eq!(new["metadata"]["uid"], "u");

    t.subresource = "status";
    let mut new = body;
    update(&t, &old, &mut new);
    count_generation(&t, &old, &mut new);
    assert_eq!(
        (&new["spec"]["replicas"], &new["status"]["replicas"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(new["metadata"]["generation"], 1);
    assert_eq!(new["metadata"]["labels"]["a"], "b");
}
