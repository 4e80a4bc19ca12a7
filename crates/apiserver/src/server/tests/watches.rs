//! Watches, line by line.

use std::time::Duration;

use tokio::time::timeout;

use super::*;

const MERGE: &str = "Content-Type: application/merge-patch+json";

/// A watch's lines, as they come.
struct Lines {
    body: Body,
    buffer: Vec<u8>,
}

impl Lines {
    async fn open(h: &Harness, path: &str) -> Self {
        Self::open_with(h, path, &[]).await
    }

    async fn open_with(h: &Harness, path: &str, headers: &[&str]) -> Self {
        let user = auth::superuser("admin");
        let response = h
            .response(&user, &format!("GET {path}"), headers, Value::Null)
            .await;
        assert_eq!(response.status(), 200);
        Self {
            body: response.into_body(),
            buffer: Vec::new(),
        }
    }

    /// The next event, or none at the end.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = timeout(Duration::from_secs(20), self.body.frame());
            let frame = frame.await.expect("an event within 20 s")?;
            self.buffer.extend(frame.unwrap().into_data().unwrap());
        }
    }

    /// `TYPE NAME` of the next event.
    async fn brief(&mut self) -> String {
        let Some(event) = self.next().await else {
            return "END".to_owned();
        };
        let name = text(&event, "/object/metadata/name");
        format!("{} {name}", text(&event, "/type"))
    }
}

async fn patch(h: &Harness, name: &str, patch: Value) -> Value {
    h.send_with(&format!("PATCH {MAPS}/{name}"), &[MERGE], patch)
        .await
        .is(200)
}

#[tokio::test]
async fn it_begins_with_what_is_there_unless_told_where() {
    let h = Harness::new().await;
    let a = h.create(MAPS, map("a")).await;
    let rv = text(&a, "/metadata/resourceVersion");
    for query in ["watch=1", "watch=true&resourceVersion=0"] {
        let mut lines = Lines::open(&h, &format!("{MAPS}?{query}")).await;
        let first = lines.next().await.unwrap();
        assert_eq!((&first["type"], &first["object"]), (&json!("ADDED"), &a));
    }
    let mut lines = Lines::open(&h, &format!("{MAPS}?watch=1&resourceVersion={rv}")).await;
    patch(&h, "a", json!({"data": {"a": "2"}})).await;
    assert_eq!(lines.brief().await, "MODIFIED a");
    h.create(MAPS, map("b")).await;
    assert_eq!(lines.brief().await, "ADDED b");
    h.send(&format!("DELETE {MAPS}/b"), Value::Null)
        .await
        .is(200);
    let deleted = lines.next().await.unwrap();
    assert_eq!(deleted["type"], "DELETED");
    let at = |rv: &str| rv.parse::<u64>().unwrap();
    let end = at(text(&deleted, "/object/metadata/resourceVersion"));
    assert_eq!(end, at(rv) + 3);
    // From before, the same events again.
    let mut again = Lines::open(&h, &format!("{MAPS}?watch=1&resourceVersion={rv}")).await;
    assert_eq!(again.brief().await, "MODIFIED a");
    assert_eq!(again.brief().await, "ADDED b");
    assert_eq!(again.next().await.unwrap(), deleted);
}

#[tokio::test]
async fn coming_into_view_is_added_and_leaving_it_is_deleted() {
    let h = Harness::new().await;
    let watch = format!("{MAPS}?watch=1&labelSelector=app%3Dx");
    let mut lines = Lines::open(&h, &watch).await;
    h.create(MAPS, map("a")).await;
    patch(&h, "a", json!({"metadata": {"labels": {"app": "x"}}})).await;
    assert_eq!(lines.brief().await, "ADDED a");
    patch(&h, "a", json!({"data": {"a": "2"}})).await;
    assert_eq!(lines.brief().await, "MODIFIED a");
    let left = patch(&h, "a", json!({"metadata": {"labels": {"app": "y"}}})).await;
    let deleted = lines.next().await.unwrap();
    assert_eq!(deleted["type"], "DELETED");
    assert_eq!(deleted["object"]["metadata"]["labels"]["app"], "x");
    assert_eq!(
        deleted["object"]["metadata"]["resourceVersion"],
        left["metadata"]["resourceVersion"]
    );
    // Out of view nothing is heard of it, not even its end.
    h.send(&format!("DELETE {MAPS}/a"), Value::Null)
        .await
        .is(200);
    let mut other = map("b");
    other["metadata"]["labels"] = json!({"app": "x"});
    h.create(MAPS, other).await;
    assert_eq!(lines.brief().await, "ADDED b");
}

#[tokio::test]
async fn it_sees_its_namespace_and_the_named_object_only() {
    let h = Harness::new().await;
    let mut named = Lines::open(
        &h,
        &format!("{MAPS}?watch=1&fieldSelector=metadata.name%3Db"),
    )
    .await;
    let mut all = Lines::open(&h, "/api/v1/configmaps?watch=1").await;
    let mut here = Lines::open(&h, &format!("{MAPS}?watch=1")).await;
    h.create("/api/v1/namespaces/kube-system/configmaps", map("b"))
        .await;
    h.create(MAPS, map("a")).await;
    h.create(MAPS, map("b")).await;
    let b = named.next().await.unwrap();
    assert_eq!(b["object"]["metadata"]["namespace"], "default");
    assert_eq!(here.brief().await, "ADDED a");
    let first = all.next().await.unwrap();
    assert_eq!(first["object"]["metadata"]["namespace"], "kube-system");
}

#[tokio::test]
async fn it_ends_in_time_with_a_bookmark_for_who_wants_one() {
    let h = Harness::new().await;
    let mut plain = Lines::open(&h, &format!("{MAPS}?watch=1&timeoutSeconds=1")).await;
    assert_eq!(plain.brief().await, "END");
    let query = "watch=1&timeoutSeconds=1&allowWatchBookmarks=true&resourceVersion=0";
    let mut marked = Lines::open(&h, &format!("{MAPS}?{query}")).await;
    // Another resource's write moves the bookmark on.
    let secret = json!({"metadata": {"name": "s"}});
    let secret = h.create("/api/v1/namespaces/default/secrets", secret).await;
    let bookmark = marked.next().await.unwrap();
    let metadata = json!({"resourceVersion": secret["metadata"]["resourceVersion"]});
    let object = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata});
    assert_eq!(bookmark, json!({"type": "BOOKMARK", "object": object}));
    assert_eq!(marked.brief().await, "END");
}

#[tokio::test]
async fn a_streamed_list_says_where_it_ends() {
    let h = Harness::new().await;
    h.create(MAPS, map("a")).await;
    let b = h.create(MAPS, map("b")).await;
    let query =
        "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut lines = Lines::open(&h, &format!("{MAPS}?{query}")).await;
    assert_eq!(lines.brief().await, "ADDED a");
    assert_eq!(lines.brief().await, "ADDED b");
    let end = lines.next().await.unwrap();
    assert_eq!(end["type"], "BOOKMARK");
    let metadata = &end["object"]["metadata"];
    assert_eq!(metadata["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(
        metadata["resourceVersion"],
        b["metadata"]["resourceVersion"]
    );
    h.create(MAPS, map("c")).await;
    assert_eq!(lines.brief().await, "ADDED c");
    // Half of the parameters is none of them.
    for query in [
        "sendInitialEvents=true",
        "resourceVersionMatch=NotOlderThan",
    ] {
        h.get(&format!("{MAPS}?watch=1&{query}")).await.is(422);
    }
}

#[tokio::test]
async fn a_past_that_is_forgotten_is_an_error_event() {
    let h = Harness::new().await;
    // The server began with revision 1 and wrote its own objects: more than leases remember.
    let path = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    for i in 0..257 {
        h.create(
            path,
            json!({"metadata": {"name": format!("l{i}")}, "spec": {}}),
        )
        .await;
    }
    let mut lines = Lines::open(&h, &format!("{path}?watch=1&resourceVersion=1")).await;
    let error = lines.next().await.unwrap();
    assert_eq!(error["type"], "ERROR");
    let status = &error["object"];
    assert_eq!(
        (&status["code"], &status["reason"]),
        (&json!(410), &json!("Expired"))
    );
    assert!(text(status, "/message").starts_with("too old resource version: 1 ("));
    assert_eq!(lines.brief().await, "END");
}

#[tokio::test]
async fn events_come_as_tables_and_as_metadata_too() {
    let h = Harness::new().await;
    h.create(MAPS, map("a")).await;
    let path = format!("{MAPS}?watch=1");
    let accept = "Accept: application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let mut lines = Lines::open_with(&h, &path, &[accept]).await;
    let event = lines.next().await.unwrap();
    assert_eq!(
        (&event["type"], &event["object"]["kind"]),
        (&json!("ADDED"), &json!("Table"))
    );
    assert_eq!(event["object"]["rows"][0]["cells"][0], "a");
    let accept = "Accept: application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
    let mut lines = Lines::open_with(&h, &path, &[accept]).await;
    let event = lines.next().await.unwrap();
    assert_eq!(event["object"]["kind"], "PartialObjectMetadata");
    assert!(event["object"].get("data").is_none());
}

#[tokio::test]
async fn a_long_list_is_sent_whole() {
    let h = Harness::new().await;
    for i in 0..300 {
        let mut object = map(&format!("m{i}"));
        object["data"]["filler"] = "x".repeat(500).into();
        h.create(MAPS, object).await;
    }
    let mut lines = Lines::open(&h, &format!("{MAPS}?watch=1&timeoutSeconds=1")).await;
    let mut count = 0;
    while lines.next().await.is_some() {
        count += 1;
    }
    assert_eq!(count, 300);
}

#[tokio::test]
async fn shutting_down_ends_it() {
    let h = Harness::new().await;
    let mut lines = Lines::open(&h, &format!("{MAPS}?watch=1")).await;
    let shutdown = tokio::spawn(h.server.shutdown());
    assert_eq!(lines.brief().await, "END");
    shutdown.await.unwrap();
}
