//! Subresources and reviews.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::*;

const MERGE: &str = "Content-Type: application/merge-patch+json";

#[tokio::test]
async fn a_pod_is_bound_once() {
    let h = Harness::new().await;
    with_account(&h).await;
    h.create(PODS, pod("p")).await;
    let line = format!("POST {PODS}/p/binding");
    let binding = |node: &str| {
        json!({
            "metadata": {"name": "p", "annotations": {"why": "so"}},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        })
    };
    let done = h.send(&line, binding("n1")).await.is(201);
    assert_eq!(
        (&done["kind"], &done["status"]),
        (&json!("Status"), &json!("Success"))
    );
    let bound = h.get(&format!("{PODS}/p")).await.is(200);
    assert_eq!(bound["spec"]["nodeName"], "n1");
    assert_eq!(bound["metadata"]["annotations"]["why"], "so");
    let scheduled = &bound["status"]["conditions"][0];
    assert_eq!(
        (&scheduled["type"], &scheduled["status"]),
        (&json!("PodScheduled"), &json!("True"))
    );
    h.send(&line, binding("n2")).await.refused(
        409,
        "Operation cannot be fulfilled on pods \"p\": pod p is already assigned to node \"n1\"",
    );
    h.send(
        &format!("POST {PODS}/q/binding"),
        json!({"target": {"name": "n"}}),
    )
    .await
    .is(404);
    h.send(&line, json!({"metadata": {"name": "p"}}))
        .await
        .is(422);
}

#[tokio::test]
async fn an_eviction_is_a_deletion() {
    let h = Harness::new().await;
    with_account(&h).await;
    h.create(PODS, pod("p")).await;
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p", "namespace": "default"},
    });
    h.send(&format!("POST {PODS}/p/eviction"), eviction.clone())
        .await
        .is(201);
    h.get(&format!("{PODS}/p")).await.is(404);
    h.send(&format!("POST {PODS}/p/eviction"), eviction)
        .await
        .is(404);
}

#[tokio::test]
async fn a_token_is_made_for_an_account() {
    let h = Harness::new().await;
    with_account(&h).await;
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let answer = h
        .send(
            &format!("POST {path}"),
            json!({"spec": {"expirationSeconds": 3600}}),
        )
        .await
        .is(201);
    assert_eq!(answer["kind"], "TokenRequest");
    let token = text(&answer, "/status/token").to_owned();
    let review = json!({"spec": {"token": token}});
    let review = h
        .send("POST /apis/authentication.k8s.io/v1/tokenreviews", review)
        .await
        .is(201);
    assert_eq!(review["status"]["authenticated"], true);
    assert_eq!(
        review["status"]["user"]["username"],
        "system:serviceaccount:default:default"
    );
}

#[tokio::test]
async fn replicas_are_set_through_scale() {
    let h = Harness::new().await;
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let deployment = json!({
        "metadata": {"name": "d"},
        "spec": {
            "selector": {"matchLabels": {"app": "d"}},
            "template": {
                "metadata": {"labels": {"app": "d"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            },
        },
    });
    h.create(path, deployment).await;
    let scale = h.get(&format!("{path}/d/scale")).await.is(200);
    assert_eq!(
        (&scale["kind"], &scale["spec"]["replicas"]),
        (&json!("Scale"), &json!(1))
    );
    let patched = h
        .send_with(
            &format!("PATCH {path}/d/scale"),
            &[MERGE],
            json!({"spec": {"replicas": 3}}),
        )
        .await
        .is(200);
    assert_eq!(patched["spec"]["replicas"], 3);
    let deployment = h.get(&format!("{path}/d")).await.is(200);
    assert_eq!(deployment["spec"]["replicas"], 3);
    assert_eq!(deployment["metadata"]["generation"], 2);
    let mut scale = patched;
    scale["spec"]["replicas"] = 2.into();
    let put = h.send(&format!("PUT {path}/d/scale"), scale).await.is(200);
    assert_eq!(put["spec"]["replicas"], 2);
}

#[tokio::test]
async fn a_request_for_a_certificate_is_approved_through_its_part() {
    let h = Harness::new().await;
    let path = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let request = malha_bootstrap::csr::node_csr("n1").unwrap().csr_pem;
    let encoded = STANDARD.encode(request);
    let csr = json!({
        "metadata": {"generateName": "csr-"},
        "spec": {
            "request": encoded, "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
            "usages": ["digital signature", "key encipherment", "client auth"],
        },
    });
    let mut csr = h.create(path, csr).await;
    assert_eq!(csr["spec"]["username"], "admin");
    let name = text(&csr, "/metadata/name").to_owned();
    csr["status"]["conditions"] = json!([{"type": "Approved", "status": "True", "reason": "R"}]);
    let approved = h
        .send(&format!("PUT {path}/{name}/approval"), csr)
        .await
        .is(200);
    assert_eq!(approved["status"]["conditions"][0]["type"], "Approved");
}

#[tokio::test]
async fn questions_are_answered() {
    let h = Harness::new().await;
    let path = "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let ask = json!({"spec": {"resourceAttributes": {"verb": "list", "resource": "nodes"}}});
    let answer = h.send(path, ask.clone()).await.is(201);
    assert_eq!(answer["status"]["allowed"], true);
    let user = UserInfo {
        name: "u".to_owned(),
        groups: vec![auth::AUTHENTICATED.to_owned()],
        ..UserInfo::default()
    };
    let answer = h.send_as(&user, path, &[], ask).await.is(201);
    assert_eq!(answer["status"]["allowed"], false);
    let whoami = "POST /apis/authentication.k8s.io/v1/selfsubjectreviews";
    let answer = h.send_as(&user, whoami, &[], json!({})).await.is(201);
    assert_eq!(answer["status"]["userInfo"]["username"], "u");
    h.get("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews")
        .await
        .is(405);
}

#[tokio::test]
async fn what_needs_a_node_says_so() {
    let h = Harness::new().await;
    with_account(&h).await;
    h.create(PODS, pod("p")).await;
    let log = h.get(&format!("{PODS}/p/log")).await;
    assert_eq!((log.code, log.text.as_str()), (200, ""));
    h.send(&format!("POST {PODS}/p/exec?command=ls"), Value::Null)
        .await
        .refused(400, "pod p does not have a host assigned");
    h.get(&format!("{PODS}/none/log")).await.is(404);
    h.get("/api/v1/nodes/n/proxy/metrics").await.is(501);
}
