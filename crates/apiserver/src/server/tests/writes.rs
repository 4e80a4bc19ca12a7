//! Create, update and patch beyond the texts.

use futures::future::join_all;

use super::*;

const MERGE: &str = "Content-Type: application/merge-patch+json";
const JSON_PATCH: &str = "Content-Type: application/json-patch+json";

#[tokio::test]
async fn a_dry_run_checks_everything_and_keeps_nothing() {
    let h = Harness::new().await;
    let dry = h
        .send(&format!("POST {MAPS}?dryRun=All"), map("a"))
        .await
        .is(201);
    assert!(dry["metadata"]["uid"].is_string());
    h.get(&format!("{MAPS}/a")).await.is(404);
    let stored = h.create(MAPS, map("a")).await;
    h.send(&format!("POST {MAPS}?dryRun=All"), map("a"))
        .await
        .is(409);
    let patched = h
        .send_with(
            &format!("PATCH {MAPS}/a?dryRun=All"),
            &[MERGE],
            json!({"data": {"b": "2"}}),
        )
        .await
        .is(200);
    assert_eq!(patched["data"]["b"], "2");
    h.send(&format!("DELETE {MAPS}/a?dryRun=All"), Value::Null)
        .await
        .is(200);
    assert_eq!(h.get(&format!("{MAPS}/a")).await.is(200), stored);
    h.send(&format!("POST {MAPS}?dryRun=Maybe"), map("b"))
        .await
        .is(422);
}

#[tokio::test]
async fn patches_of_many_at_once_all_arrive() {
    let h = Harness::new().await;
    h.create(MAPS, map("a")).await;
    let patches = (0..16).map(|i| {
        let key = format!("k{i}");
        let h = &h;
        async move {
            h.send_with(
                &format!("PATCH {MAPS}/a"),
                &[MERGE],
                json!({"data": {key: "1"}}),
            )
            .await
            .is(200)
        }
    });
    join_all(patches).await;
    let stored = h.get(&format!("{MAPS}/a")).await.is(200);
    assert_eq!(stored["data"].as_object().unwrap().len(), 17);
}

#[tokio::test]
async fn a_patch_may_name_the_version_it_is_for() {
    let h = Harness::new().await;
    let stored = h.create(MAPS, map("a")).await;
    let rv = text(&stored, "/metadata/resourceVersion");
    let patch = format!("PATCH {MAPS}/a");
    let change = |rv: &str, v: &str| json!({"metadata": {"resourceVersion": rv}, "data": {"a": v}});
    h.send_with(&patch, &[MERGE], change("1", "x"))
        .await
        .is(409);
    h.send_with(&patch, &[MERGE], change(rv, "x")).await.is(200);
    h.send_with(&patch, &[MERGE], change(rv, "y")).await.is(409);
    let test = json!([{"op": "test", "path": "/data/a", "value": "z"}]);
    let failed = h.send_with(&patch, &[JSON_PATCH], test).await;
    assert_eq!(failed.code, 422, "{failed:?}");
    h.send_with(&format!("PATCH {MAPS}/none"), &[MERGE], json!({}))
        .await
        .refused(404, "configmaps \"none\" not found");
}

#[tokio::test]
async fn what_changes_nothing_is_not_written() {
    let h = Harness::new().await;
    let stored = h.create(MAPS, map("a")).await;
    let same = h.send(&format!("PUT {MAPS}/a"), map("a")).await.is(200);
    assert_eq!(same, stored);
    let patched = h
        .send_with(
            &format!("PATCH {MAPS}/a"),
            &[MERGE],
            json!({"data": {"a": "1"}}),
        )
        .await
        .is(200);
    assert_eq!(patched, stored);
}

#[tokio::test]
async fn some_kinds_are_made_by_put_and_some_need_a_version() {
    let h = Harness::new().await;
    let path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let lease = |rv: Option<&str>| {
        let mut lease = json!({"metadata": {"name": "n"}, "spec": {"leaseDurationSeconds": 40}});
        if let Some(rv) = rv {
            lease["metadata"]["resourceVersion"] = rv.into();
        }
        lease
    };
    let put = format!("PUT {path}/n");
    let made = h.send(&put, lease(None)).await.is(201);
    let rv = text(&made, "/metadata/resourceVersion");
    let refused = h.send(&put, lease(None)).await.is(422);
    assert!(text(&refused, "/message").contains("must be specified for an update"));
    h.send(&put, lease(Some(rv))).await.is(200);
    // Who may update but not create gets nothing made.
    let user = UserInfo {
        name: "u".to_owned(),
        groups: vec![auth::AUTHENTICATED.to_owned()],
        ..UserInfo::default()
    };
    let role = json!({
        "metadata": {"name": "u"},
        "rules": [{"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["update"]}],
    });
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    h.create(&format!("{rbac}/clusterroles"), role).await;
    let binding = json!({
        "metadata": {"name": "u"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "u"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "u"}],
    });
    h.create(&format!("{rbac}/clusterrolebindings"), binding)
        .await;
    let mut other = lease(None);
    other["metadata"]["name"] = "m".into();
    let refused = h
        .send_as(&user, &format!("PUT {path}/m"), &[], other)
        .await
        .is(403);
    assert!(text(&refused, "/message").contains("cannot create resource \"leases\""));
}

#[tokio::test]
async fn status_and_spec_are_written_apart() {
    let h = Harness::new().await;
    let nodes = "/api/v1/nodes";
    h.create(nodes, json!({"metadata": {"name": "n"}})).await;
    let both = json!({"spec": {"unschedulable": true}, "status": {"phase": "Running"}});
    let spec = h
        .send_with(&format!("PATCH {nodes}/n"), &[MERGE], both.clone())
        .await
        .is(200);
    assert_eq!(spec["spec"]["unschedulable"], true);
    assert_ne!(spec["status"]["phase"], "Running");
    let back = json!({"spec": {"unschedulable": false}, "status": {"phase": "Running"}});
    let status = h
        .send_with(&format!("PATCH {nodes}/n/status"), &[MERGE], back)
        .await
        .is(200);
    assert_eq!(status["spec"]["unschedulable"], true);
    assert_eq!(status["status"]["phase"], "Running");
}

#[tokio::test]
async fn typos_are_refused_or_told() {
    let h = Harness::new().await;
    let typo = json!({"metadata": {"name": "a"}, "dota": {"a": "1"}});
    let strict = h
        .send(&format!("POST {MAPS}?fieldValidation=Strict"), typo.clone())
        .await;
    assert_eq!(strict.code, 400, "{strict:?}");
    assert!(
        strict.text.contains(r#"unknown field \"dota\""#),
        "{strict:?}"
    );
    let warned = h.send(&format!("POST {MAPS}"), typo).await;
    assert_eq!(warned.code, 201, "{warned:?}");
    assert_eq!(warned.warnings, [r#"299 - "unknown field \"dota\"""#]);
}

#[tokio::test]
async fn a_strict_body_in_protobuf_is_understood() {
    let h = Harness::new().await;
    // runtime.Unknown{typeMeta{apiVersion: v1, kind: Namespace}, raw: Namespace{metadata{name: pb}}}
    let mut body = b"k8s\0".to_vec();
    body.extend([0x0a, 15, 0x0a, 2]);
    body.extend(b"v1");
    body.extend([0x12, 9]);
    body.extend(b"Namespace");
    body.extend([0x12, 6, 0x0a, 4, 0x0a, 2]);
    body.extend(b"pb");
    let text = String::from_utf8(body).unwrap();
    let made = h
        .send_with(
            "POST /api/v1/namespaces",
            &["Content-Type: application/vnd.kubernetes.protobuf"],
            text.into(),
        )
        .await
        .is(201);
    assert_eq!(made["metadata"]["name"], "pb");
    assert_eq!(made["status"]["phase"], "Active");
}
