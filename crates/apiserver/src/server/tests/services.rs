//! Addresses of Services.

use super::*;

const SERVICES: &str = "/api/v1/namespaces/default/services";

fn service(name: &str, spec: Value) -> Value {
    let mut service = json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}});
    for (field, value) in spec.as_object().unwrap() {
        service["spec"][field] = value.clone();
    }
    service
}

#[tokio::test]
async fn the_cluster_begins_with_its_own() {
    let h = Harness::new().await;
    let kubernetes = h.get(&format!("{SERVICES}/kubernetes")).await.is(200);
    assert_eq!(kubernetes["spec"]["clusterIP"], "10.96.0.1");
    assert_eq!(kubernetes["spec"]["clusterIPs"], json!(["10.96.0.1"]));
    let endpoints = "/api/v1/namespaces/default/endpoints/kubernetes";
    let endpoints = h.get(endpoints).await.is(200);
    assert_eq!(endpoints["subsets"][0]["addresses"][0]["ip"], "127.0.0.1");
    let port = h.server.local_addr().port();
    assert_eq!(endpoints["subsets"][0]["ports"][0]["port"], port);
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes";
    let slice = h.get(slices).await.is(200);
    assert_eq!(slice["endpoints"][0]["addresses"][0], "127.0.0.1");
}

#[tokio::test]
async fn each_gets_an_address_of_the_families_it_wants() {
    let h = Harness::new().await;
    let make = |name: &'static str, spec: Value| h.create(SERVICES, service(name, spec));
    let single = make("single", json!({})).await;
    let spec = &single["spec"];
    assert_eq!(spec["ipFamilies"], json!(["IPv4"]));
    assert_eq!(spec["ipFamilyPolicy"], "SingleStack");
    assert!(text(spec, "/clusterIP").starts_with("10.96.0."), "{spec}");
    let dual = make("dual", json!({"ipFamilyPolicy": "PreferDualStack"})).await;
    let spec = &dual["spec"];
    assert_eq!(spec["ipFamilies"], json!(["IPv4", "IPv6"]));
    assert!(
        text(spec, "/clusterIPs/1").starts_with("fd00:96::"),
        "{spec}"
    );
    let six = make("six", json!({"ipFamilies": ["IPv6"]})).await;
    assert!(text(&six, "/spec/clusterIP").starts_with("fd00:96::"));
    let headless = make("headless", json!({"clusterIP": "None"})).await;
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
    let external = json!({"type": "ExternalName", "externalName": "example.com"});
    let external = make("external", external).await;
    assert!(external["spec"].get("clusterIP").is_none());
    let fixed = make("fixed", json!({"clusterIP": "10.96.0.77"})).await;
    assert_eq!(fixed["spec"]["clusterIPs"], json!(["10.96.0.77"]));
    for address in ["10.96.0.77", "10.97.0.1", "10.96.0.255", "10.96.0.0", "x"] {
        let asked = service("again", json!({"clusterIP": address}));
        let refused = h.send(&format!("POST {SERVICES}"), asked).await;
        assert_eq!(refused.code, 422, "{address}: {refused:?}");
    }
}

#[tokio::test]
async fn an_update_keeps_address_and_node_port() {
    let h = Harness::new().await;
    let made = h
        .create(SERVICES, service("a", json!({"type": "NodePort"})))
        .await;
    let port = made["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
    assert!((30000..=32767).contains(&port));
    let put = service("a", json!({"type": "NodePort", "selector": {"a": "b"}}));
    let updated = h.send(&format!("PUT {SERVICES}/a"), put).await.is(200);
    assert_eq!(updated["spec"]["clusterIPs"], made["spec"]["clusterIPs"]);
    assert_eq!(updated["spec"]["ports"], made["spec"]["ports"]);
    let other = service("a", json!({"type": "NodePort", "clusterIP": "10.96.0.200"}));
    h.send(&format!("PUT {SERVICES}/a"), other).await.is(422);
    let both = service(
        "a",
        json!({"type": "NodePort", "ipFamilyPolicy": "PreferDualStack"}),
    );
    let both = h.send(&format!("PUT {SERVICES}/a"), both).await.is(200);
    assert_eq!(both["spec"]["clusterIP"], made["spec"]["clusterIP"]);
    assert_eq!(both["spec"]["clusterIPs"].as_array().unwrap().len(), 2);
    let one = service(
        "a",
        json!({"type": "NodePort", "ipFamilyPolicy": "SingleStack"}),
    );
    let one = h.send(&format!("PUT {SERVICES}/a"), one).await.is(200);
    assert_eq!(one["spec"]["clusterIPs"], made["spec"]["clusterIPs"]);
    assert_eq!(one["spec"]["ipFamilies"], json!(["IPv4"]));
    let taken = service(
        "b",
        json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]}),
    );
    h.send(&format!("POST {SERVICES}"), taken).await.is(422);
    let plain = h
        .send(
            &format!("PUT {SERVICES}/a"),
            service("a", json!({"type": "ClusterIP"})),
        )
        .await
        .is(200);
    assert!(plain["spec"]["ports"][0].get("nodePort").is_none());
}

#[tokio::test]
async fn a_full_range_is_said_to_be_full_and_gives_back() {
    let (dir, pki) = (TempDir::new().unwrap(), pki());
    let mut config = config(&pki, dir.path());
    config.service_ranges = vec!["10.96.0.0/29".parse().unwrap()];
    let server = Server::start(config).await.unwrap();
    let h = Harness { server, dir, pki };
    let mut addresses = Vec::new();
    for i in 0..5 {
        let made = h
            .create(SERVICES, service(&format!("s{i}"), json!({})))
            .await;
        addresses.push(text(&made, "/spec/clusterIP").to_owned());
    }
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 5);
    let full = h
        .send(&format!("POST {SERVICES}"), service("x", json!({})))
        .await;
    assert_eq!(full.code, 500);
    assert!(
        full.text.contains("the service range 10.96.0.0/29 is full"),
        "{full:?}"
    );
    h.send(&format!("DELETE {SERVICES}/s3"), Value::Null)
        .await
        .is(200);
    h.create(SERVICES, service("x", json!({}))).await;
}
