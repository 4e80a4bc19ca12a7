//! Who may do what, end to end.

use super::*;

fn node(name: &str) -> UserInfo {
    UserInfo {
        name: format!("system:node:{name}"),
        groups: vec!["system:nodes".to_owned(), auth::AUTHENTICATED.to_owned()],
        ..UserInfo::default()
    }
}

#[tokio::test]
async fn strangers_see_health_and_version_only() {
    let h = Harness::new().await;
    let anonymous = auth::anonymous();
    let get = |path: &'static str| {
        let (h, anonymous) = (&h, &anonymous);
        async move {
            h.send_as(anonymous, &format!("GET {path}"), &[], Value::Null)
                .await
        }
    };
    for path in ["/healthz", "/livez", "/readyz", "/version"] {
        assert_eq!(get(path).await.code, 200, "{path}");
    }
    get("/api").await.refused(
        403,
        "forbidden: User \"system:anonymous\" cannot get path \"/api\"",
    );
    get("/api/v1/nodes").await.refused(
        403,
        "nodes is forbidden: User \"system:anonymous\" cannot list resource \"nodes\" in API group \"\" at the \
         cluster scope",
    );
    // What does not exist is none of a stranger's business either.
    assert_eq!(get("/api/v1/foos").await.code, 403);
    let info = "/api/v1/namespaces/kube-public/configmaps/cluster-info";
    assert_eq!(get(info).await.code, 404);
}

#[tokio::test]
async fn a_node_watches_the_secrets_of_its_pods_one_by_one() {
    let h = Harness::new().await;
    with_account(&h).await;
    let secrets = "/api/v1/namespaces/default/secrets";
    for name in ["s", "t"] {
        h.create(secrets, json!({"metadata": {"name": name}})).await;
    }
    let mut bound = pod("p");
    bound["spec"]["nodeName"] = "n1".into();
    bound["spec"]["volumes"] = json!([{"name": "v", "secret": {"secretName": "s"}}]);
    h.create(PODS, bound).await;
    let n1 = node("n1");
    let get = |query: &'static str| {
        let (h, n1) = (&h, &n1);
        let line = format!("GET {secrets}{query}");
        async move { h.send_as(n1, &line, &[], Value::Null).await }
    };
    get("/s").await.is(200);
    get("/t").await.is(403);
    get("").await.is(403);
    let list = get("?fieldSelector=metadata.name%3Ds").await.is(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    get("?fieldSelector=metadata.name%3Dt").await.is(403);
    let stream = get("?watch=1&timeoutSeconds=1&fieldSelector=metadata.name%3Ds").await;
    assert_eq!(stream.code, 200);
    assert!(stream.text.starts_with("{\"type\":\"ADDED\""));
}

#[tokio::test]
async fn a_node_writes_to_itself_only() {
    let h = Harness::new().await;
    h.create("/api/v1/nodes", json!({"metadata": {"name": "n2"}}))
        .await;
    let patch = h
        .send_as(
            &node("n1"),
            "PATCH /api/v1/nodes/n2/status",
            &["Content-Type: application/merge-patch+json"],
            json!({"status": {"phase": "x"}}),
        )
        .await
        .is(403);
    assert!(
        text(&patch, "/message").contains("is not allowed to modify node \"n2\""),
        "{patch}"
    );
    let other = h
        .send_as(
            &node("n1"),
            "POST /api/v1/nodes",
            &[],
            json!({"metadata": {"name": "n3"}}),
        )
        .await;
    assert_eq!(other.code, 403, "{other:?}");
}
