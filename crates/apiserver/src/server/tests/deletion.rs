//! Deletion: preconditions, grace, finalizers, collections.

use super::*;

const MERGE: &str = "Content-Type: application/merge-patch+json";

async fn gone(h: &Harness, path: &str) -> bool {
    h.get(path).await.code == 404
}

#[tokio::test]
async fn preconditions_hold_or_nothing_happens() {
    let h = Harness::new().await;
    let stored = h.create(MAPS, map("a")).await;
    let path = format!("{MAPS}/a");
    let delete = |preconditions: Value| {
        let (h, line) = (&h, format!("DELETE {path}"));
        async move {
            h.send(&line, json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": preconditions})).await
        }
    };
    delete(json!({"uid": "other"})).await.is(409);
    delete(json!({"resourceVersion": "1"})).await.is(409);
    assert!(!gone(&h, &path).await);
    let metadata = &stored["metadata"];
    delete(json!({"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}))
        .await
        .is(200);
    assert!(gone(&h, &path).await);
}

#[tokio::test]
async fn a_finalizer_holds_the_object_until_it_is_taken_off() {
    let h = Harness::new().await;
    let mut object = map("a");
    object["metadata"]["finalizers"] = json!(["example.com/x"]);
    h.create(MAPS, object).await;
    let path = format!("{MAPS}/a");
    let marked = h.send(&format!("DELETE {path}"), Value::Null).await.is(200);
    assert_eq!(marked["kind"], "ConfigMap");
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    assert!(!gone(&h, &path).await);
    let free = json!({"metadata": {"finalizers": null}});
    h.send_with(&format!("PATCH {path}"), &[MERGE], free)
        .await
        .is(200);
    assert!(gone(&h, &path).await);
}

#[tokio::test]
async fn a_running_pod_is_given_time() {
    let h = Harness::new().await;
    with_account(&h).await;
    h.create(PODS, pod("waiting")).await;
    h.send(&format!("DELETE {PODS}/waiting"), Value::Null)
        .await
        .is(200);
    assert!(gone(&h, &format!("{PODS}/waiting")).await);

    let mut bound = pod("bound");
    bound["spec"]["nodeName"] = "n".into();
    h.create(PODS, bound).await;
    let path = format!("{PODS}/bound");
    let going = h.send(&format!("DELETE {path}"), Value::Null).await.is(200);
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 30);
    assert!(going["metadata"]["deletionTimestamp"].is_string());
    let shorter = h
        .send(&format!("DELETE {path}?gracePeriodSeconds=5"), Value::Null)
        .await
        .is(200);
    assert_eq!(shorter["metadata"]["deletionGracePeriodSeconds"], 5);
    // The node's last word.
    let now = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": going["metadata"]["uid"]}});
    h.send(&format!("DELETE {path}"), now).await.is(200);
    assert!(gone(&h, &path).await);
}

#[tokio::test]
async fn a_collection_goes_as_far_as_it_is_selected() {
    let h = Harness::new().await;
    for (name, app) in [("a", "x"), ("b", "x"), ("c", "y")] {
        let mut object = map(name);
        object["metadata"]["labels"] = json!({"app": app});
        h.create(MAPS, object).await;
    }
    let removed = h
        .send(&format!("DELETE {MAPS}?labelSelector=app%3Dx"), Value::Null)
        .await
        .is(200);
    assert_eq!(removed["kind"], "ConfigMapList");
    assert_eq!(removed["items"].as_array().unwrap().len(), 2);
    let left = h.get(MAPS).await.is(200);
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
    h.send(
        &format!("DELETE {MAPS}?labelSelector=app%20in%20("),
        Value::Null,
    )
    .await
    .is(400);
}

#[tokio::test]
async fn a_namespace_is_finalized_before_it_goes() {
    let h = Harness::new().await;
    h.create("/api/v1/namespaces", json!({"metadata": {"name": "a"}}))
        .await;
    let maps = "/api/v1/namespaces/a/configmaps";
    h.create(maps, map("m")).await;
    let going = h
        .send("DELETE /api/v1/namespaces/a", Value::Null)
        .await
        .is(200);
    assert_eq!(going["status"]["phase"], "Terminating");
    let refused = h.send(&format!("POST {maps}"), map("n")).await.is(403);
    assert_eq!(
        refused["details"]["causes"][0]["reason"],
        "NamespaceTerminating"
    );
    h.send(&format!("DELETE {maps}"), Value::Null).await.is(200);
    let mut done = h.get("/api/v1/namespaces/a").await.is(200);
    done["spec"]["finalizers"] = json!([]);
    h.send("PUT /api/v1/namespaces/a/finalize", done)
        .await
        .is(200);
    assert!(gone(&h, "/api/v1/namespaces/a").await);
    let refused = h
        .send("DELETE /api/v1/namespaces/default", Value::Null)
        .await;
    assert_eq!(refused.code, 403, "{refused:?}");
}

#[tokio::test]
async fn old_events_go_and_new_ones_stay() {
    let h = Harness::new().await;
    let events = "/api/v1/namespaces/default/events";
    let event = |name: &str, time: &str| {
        json!({
            "metadata": {"name": name}, "lastTimestamp": time, "reason": "R", "type": "Normal",
            "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
        })
    };
    let now = Timestamp::now();
    let ago = |minutes| (now - jiff::SignedDuration::from_mins(minutes)).to_string();
    h.create(events, event("old", &ago(61))).await;
    h.create(events, event("new", &ago(59))).await;
    let later = now + jiff::SignedDuration::from_secs(1);
    // The creation counts too: nothing that was made just now is old.
    expire::remove_old(&h.server.inner, later).await.unwrap();
    assert!(!gone(&h, &format!("{events}/old")).await);
    let much_later = now + jiff::SignedDuration::from_mins(61);
    expire::remove_old(&h.server.inner, much_later)
        .await
        .unwrap();
    assert!(gone(&h, &format!("{events}/old")).await);
    assert!(gone(&h, &format!("{events}/new")).await);
}
