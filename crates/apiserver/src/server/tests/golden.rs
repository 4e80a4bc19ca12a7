//! The answers of kube-apiserver 1.20.2, as it gave them (`details` left out where they say nothing more).

use super::*;

const STRATEGIC: &str = "Content-Type: application/strategic-merge-patch+json";
const PLAIN: &str = "Content-Type: text/plain";

#[tokio::test]
async fn creations() {
    let h = Harness::new().await;
    let post = format!("POST {MAPS}");
    let generated = h
        .send(
            &post,
            json!({"metadata": {"generateName": "g-"}, "data": {"a": "1"}}),
        )
        .await
        .is(201);
    let name = text(&generated, "/metadata/name");
    assert!(name.len() == 7 && name.starts_with("g-"), "{name}");
    assert_eq!(generated["kind"], "ConfigMap");
    assert_eq!(generated["apiVersion"], "v1");
    assert_eq!(text(&generated, "/metadata/generateName"), "g-");
    for field in ["uid", "resourceVersion", "creationTimestamp", "namespace"] {
        assert!(generated["metadata"][field].is_string(), "{field}");
    }

    let bad = h.send(&post, map("Bad_Name")).await.is(422);
    let message = text(&bad, "/message");
    assert!(
        message.starts_with(
            "ConfigMap \"Bad_Name\" is invalid: metadata.name: Invalid value: \"Bad_Name\": a lowercase RFC 1123 \
             subdomain must consist of lower case alphanumeric characters"
        ),
        "{message}"
    );
    h.send(&post, map("s1")).await.is(201);
    let taken = h
        .send(&post, map("s1"))
        .await
        .refused(409, "configmaps \"s1\" already exists");
    assert_eq!(taken["reason"], "AlreadyExists");
    assert_eq!(
        taken["details"],
        json!({"name": "s1", "kind": "configmaps"})
    );
    h.send("POST /api/v1/namespaces/nonexist/configmaps", map("s1"))
        .await
        .refused(404, "namespaces \"nonexist\" not found");
    let empty = h
        .send(
            &format!("POST {PODS}"),
            json!({"metadata": {"name": "p"}, "spec": {}}),
        )
        .await;
    // The service account is looked for first, as on Kubernetes.
    assert_eq!(empty.code, 403, "{empty:?}");
    with_account(&h).await;
    h.send(
        &format!("POST {PODS}"),
        json!({"metadata": {"name": "p"}, "spec": {}}),
    )
    .await
    .refused(422, "Pod \"p\" is invalid: spec.containers: Required value");
}

#[tokio::test]
async fn updates() {
    let h = Harness::new().await;
    let stored = h.create(MAPS, map("s1")).await;
    let put = format!("PUT {MAPS}/s1");
    let with = |metadata: Value, data: &str| json!({"metadata": metadata, "data": {"a": data}});
    h.send(&put, with(json!({"name": "s1", "resourceVersion": "1"}), "2"))
        .await
        .refused(
            409,
            "Operation cannot be fulfilled on configmaps \"s1\": the object has been modified; please apply your \
             changes to the latest version and try again",
        );
    h.send(&put, with(json!({"name": "s2"}), "2"))
        .await
        .refused(
            400,
            "the name of the object (s2) does not match the name on the URL (s1)",
        );
    let other = "00000000-0000-0000-0000-000000000000";
    let uid = h
        .send(&put, with(json!({"name": "s1", "uid": other}), "2"))
        .await;
    assert_eq!(uid.code, 409, "{uid:?}");
    assert!(
        uid.text
            .contains("Precondition failed: UID in precondition"),
        "{uid:?}"
    );
    let changed = h.send(&put, with(json!({"name": "s1"}), "3")).await.is(200);
    assert_eq!(changed["data"]["a"], "3");
    assert_eq!(changed["metadata"]["uid"], stored["metadata"]["uid"]);
    h.send(&format!("PUT {MAPS}/nope"), map("nope"))
        .await
        .refused(404, "configmaps \"nope\" not found");
    h.send(&format!("PUT {MAPS}/nope?dryRun=All"), map("nope"))
        .await
        .refused(404, "configmaps \"nope\" not found");
    let patch = h
        .send_with(
            &format!("PATCH {MAPS}/s1"),
            &[STRATEGIC],
            json!({"metadata": {"uid": other}}),
        )
        .await;
    assert!([409, 422].contains(&patch.code), "{patch:?}");
}

#[tokio::test]
async fn media_types() {
    let h = Harness::new().await;
    h.create(MAPS, map("s1")).await;
    let one = format!("{MAPS}/s1");
    h.send_with(&format!("PATCH {one}"), &[PLAIN], json!({}))
        .await
        .is(415);
    let message = "the body of the request was in an unknown format - accepted media types include: \
                   application/json, application/yaml, application/vnd.kubernetes.protobuf";
    h.send_with(&format!("POST {MAPS}"), &[PLAIN], json!({}))
        .await
        .refused(415, message);
    let bad = h.send(&format!("POST {MAPS}"), "{bad".into()).await;
    assert_eq!(bad.code, 400, "{bad:?}");
    let html = h
        .send_with(&format!("GET {one}"), &["Accept: text/html"], Value::Null)
        .await
        .is(406);
    assert_eq!(html["reason"], "NotAcceptable");
    let yaml = h
        .send_with(
            &format!("GET {one}"),
            &["Accept: application/yaml"],
            Value::Null,
        )
        .await;
    assert_eq!(yaml.content_type, "application/yaml");
    assert!(yaml.text.contains("kind: ConfigMap"), "{yaml:?}");
    let yaml_in = "metadata: {name: in-yaml}\ndata: {a: \"1\"}\n";
    h.send_with(
        &format!("POST {MAPS}"),
        &["Content-Type: application/yaml"],
        yaml_in.into(),
    )
    .await
    .is(201);
    let as_table = "Accept: application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let table = h
        .send_with(&format!("GET {one}"), &[as_table], Value::Null)
        .await
        .is(200);
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["columnDefinitions"][0]["name"], "Name");
    assert_eq!(table["rows"][0]["cells"][0], "s1");
    let metadata =
        "Accept: application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
    let list = h
        .send_with(&format!("GET {MAPS}"), &[metadata], Value::Null)
        .await
        .is(200);
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert!(list["items"][0].get("data").is_none());
    let large = json!({"metadata": {"name": "l"}, "data": {"a": "x".repeat(3 << 20)}});
    h.send(&format!("POST {MAPS}"), large).await.is(413);
}

#[tokio::test]
async fn lists() {
    let h = Harness::new().await;
    let stored = h.create(MAPS, map("s1")).await;
    let rv = text(&stored, "/metadata/resourceVersion");
    let list = h.get(&format!("{MAPS}?&limit=1")).await.is(200);
    assert_eq!(list["kind"], "ConfigMapList");
    assert_eq!(list["metadata"]["resourceVersion"], rv);
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    let get = |query: &str| {
        let path = format!("{MAPS}?{query}");
        let h = &h;
        async move { h.get(&path).await }
    };
    get("resourceVersion=1&resourceVersionMatch=Exact")
        .await
        .refused(410, "The resourceVersion for the provided list is too old.");
    get(&format!("resourceVersion={rv}&resourceVersionMatch=Exact"))
        .await
        .is(200);
    get("resourceVersion=1&resourceVersionMatch=NotOlderThan")
        .await
        .is(200);
    let future = get("resourceVersion=99999999").await.refused(
        504,
        &format!("Timeout: Too large resource version: 99999999, current: {rv}"),
    );
    assert_eq!(
        future["details"]["causes"][0]["reason"],
        "ResourceVersionTooLarge"
    );
    get("resourceVersion=abc").await.is(400);
    get("resourceVersionMatch=Exact").await.refused(
        422,
        "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden \
         unless resourceVersion is provided",
    );
    get("fieldSelector=spec.foo%3Dbar").await.refused(
        400,
        "\"spec.foo\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
    );
    get("labelSelector=a%20in%20(").await.refused(
        400,
        "unable to parse requirement: found '', expected: ',', ')' or identifier",
    );
    get("limit=1&continue=xyz").await.is(400);
    let one = get("fieldSelector=metadata.name%3Dother").await.is(200);
    assert_eq!(one["items"], json!([]));
}

#[tokio::test]
async fn what_is_not_there() {
    let h = Harness::new().await;
    h.get("/api/v1/foos")
        .await
        .refused(404, "the server could not find the requested resource");
    for path in ["/apis/foo/v1", "/apis/foo/v1/bars", "/metrics", "/api/v2"] {
        let page = h.get(path).await;
        assert_eq!(
            (page.code, page.text.as_str()),
            (404, "404 page not found\n"),
            "{path}"
        );
    }
    for line in [
        format!("POST {MAPS}/x"),
        "POST /api/v1/configmaps".to_owned(),
        "DELETE /api/v1/configmaps".to_owned(),
        format!("PUT {MAPS}"),
        "POST /api/v1/namespaces/default/limitranges".to_owned(),
    ] {
        h.send(&line, map("x")).await.refused(
            405,
            "the server does not allow this method on the requested resource",
        );
    }
    for path in [
        "/api/v1/configmaps/x",
        "/api/v1/namespaces/default/nodes/n",
        "/api/v1/namespaces/default/configmaps/x/status",
        "/api/v1/namespaces/default/pods/x/log/y",
    ] {
        h.get(path).await.is(404);
    }
    h.get(&format!("{PODS}/nope"))
        .await
        .refused(404, "pods \"nope\" not found");
    for path in ["/healthz", "/livez", "/readyz", "/readyz/ping"] {
        assert_eq!(h.get(path).await.text, "ok");
    }
    let verbose = h.get("/readyz?verbose").await.text;
    assert_eq!(verbose, "[+]store ok\nreadyz check passed\n");
    let version = h.get("/version").await.is(200);
    assert_eq!(version["gitVersion"], malha_core::KUBERNETES_VERSION);
    assert_eq!(
        (&version["major"], &version["minor"]),
        (&json!("1"), &json!("31"))
    );
}

#[tokio::test]
async fn deletions() {
    let h = Harness::new().await;
    let stored = h.create(MAPS, map("s1")).await;
    let delete = format!("DELETE {MAPS}/s1");
    let gone = h.send(&delete, Value::Null).await.is(200);
    assert_eq!(gone["status"], "Success");
    assert_eq!(
        gone["details"],
        json!({"name": "s1", "kind": "configmaps", "uid": stored["metadata"]["uid"]})
    );
    h.send(&delete, Value::Null)
        .await
        .refused(404, "configmaps \"s1\" not found");
}
