//! The controllers and the API server together, in one process.

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use common::{Cluster, create, eventually, gone, until};
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet},
    certificates::v1::CertificateSigningRequest,
    coordination::v1::Lease,
    core::v1::{
        ConfigMap, Endpoints, Event, Namespace, Node, Pod, Secret, Service, ServiceAccount,
    },
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PropagationPolicy},
};
use malha_bootstrap::{
    csr::node_csr,
    jws,
    token::{BootstrapToken, Expiry, Token},
};
use malha_controllers::Timings;
use serde_json::{Value, json};

fn merge() -> PatchParams {
    PatchParams::default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_signs_until_it_ends() {
    let cluster = Cluster::start().await;
    let info = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cluster-info"},
        "data": {"kubeconfig": "content", "jws-kubeconfig-zzzzzz": "of a token that is gone"},
    });
    let infos = cluster.within::<ConfigMap>("kube-public");
    create(&infos, info).await;
    let token = Token::generate();
    let key = jws::config_map_key(&token.id);
    let described = BootstrapToken::new(token.clone(), Expiry::after(Timestamp::now(), 2));
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
        "metadata": {"name": token.id.secret_name()}, "stringData": described.to_data(),
    });
    let secrets = cluster.within::<Secret>("kube-system");
    create(&secrets, secret).await;
    let signature = |info: &ConfigMap| info.data.as_ref().and_then(|data| data.get(&key).cloned());
    let signed = until(&infos, "cluster-info", "the token signs", |info| {
        signature(info).is_some()
    })
    .await;
    jws::verify_detached(&signature(&signed).unwrap(), b"content", &token).unwrap();
    assert!(!signed.data.unwrap().contains_key("jws-kubeconfig-zzzzzz"));

    let changed = json!({"data": {"kubeconfig": "other content"}});
    infos
        .patch("cluster-info", &merge(), &Patch::Merge(changed))
        .await
        .unwrap();
    until(&infos, "cluster-info", "it signs what is new", |info| {
        signature(info).is_some_and(|s| jws::verify_detached(&s, b"other content", &token).is_ok())
    })
    .await;

    gone(&secrets, &token.id.secret_name()).await;
    until(&infos, "cluster-info", "the signature is gone", |info| {
        signature(info).is_none()
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_get_ranges_and_taints() {
    let cluster = Cluster::start().await;
    let nodes = cluster.all::<Node>();
    for name in ["w1", "w2"] {
        cluster.register(name, false).await;
    }
    let ranges = |node: &Node| {
        node.spec
            .clone()
            .and_then(|spec| spec.pod_cidrs)
            .unwrap_or_default()
    };
    let mut given = BTreeSet::new();
    for name in ["w1", "w2"] {
        let node = until(&nodes, name, "a pod range", |node| !ranges(node).is_empty()).await;
        assert_eq!(
            node.spec.as_ref().unwrap().pod_cidr.as_ref(),
            ranges(&node).first()
        );
        given.extend(ranges(&node));
    }
    let expected = [
        "10.244.0.0/24",
        "10.244.1.0/24",
        "fd00:244:0:1::/64",
        "fd00:244::/64",
    ];
    assert_eq!(given, expected.map(str::to_owned).into());
    assert_eq!(
        taints(&nodes.get("w1").await.unwrap()),
        ["not-ready:NoSchedule"]
    );
    cluster.report("w1").await;
    until(&nodes, "w1", "no taint", |node| taints(node).is_empty()).await;
    cluster.stop().await;
}

fn taints(node: &Node) -> Vec<String> {
    let taints = node
        .spec
        .iter()
        .flat_map(|spec| spec.taints.iter().flatten());
    let short = |key: &str| key.trim_start_matches("node.kubernetes.io/").to_owned();
    taints
        .map(|taint| format!("{}:{}", short(&taint.key), taint.effect))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nodes_request_is_approved_and_signed() {
    let cluster = Cluster::start().await;
    let group = "system:bootstrappers:kubeadm:default-node-token";
    let request = |name: &str| {
        json!({
            "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name},
            "spec": {
                "request": k8s_openapi::ByteString(node_csr("w1").unwrap().csr_pem.into_bytes()),
                "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
                "usages": ["digital signature", "key encipherment", "client auth"],
            },
        })
    };
    let requests = cluster.all::<CertificateSigningRequest>();
    let joining = cluster.client_as("system:bootstrap:abcdef", &["system:bootstrappers", group]);
    create(
        &Api::<CertificateSigningRequest>::all(joining),
        request("joins"),
    )
    .await;
    let status = |request: &CertificateSigningRequest| request.status.clone().unwrap_or_default();
    let signed = until(&requests, "joins", "a certificate", |r| {
        status(r).certificate.is_some()
    })
    .await;
    let status = status(&signed);
    let condition = &status.conditions.unwrap()[0];
    assert_eq!(
        (condition.type_.as_str(), condition.reason.as_deref()),
        ("Approved", Some("AutoApproved"))
    );
    let pem = String::from_utf8(status.certificate.unwrap().0).unwrap();
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----"), "{pem}");

    let stranger = cluster.client_as("stranger", &["system:bootstrappers"]);
    let refused = Api::<CertificateSigningRequest>::all(stranger)
        .create(
            &Default::default(),
            &serde_json::from_value(request("stranger")).unwrap(),
        )
        .await;
    assert!(refused.is_err(), "a stranger may not even ask");
    cluster.stop().await;
}

fn daemon_set(image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "agent", "namespace": "kube-system"},
        "spec": {
            "selector": {"matchLabels": {"app": "agent"}},
            "template": {
                "metadata": {"labels": {"app": "agent"}},
                "spec": {
                    "hostNetwork": true, "tolerations": [{"operator": "Exists"}],
                    "containers": [{"name": "agent", "image": image}],
                },
            },
        },
    })
}

async fn running(pods: &Api<Pod>, image: &str) -> BTreeSet<String> {
    let list = pods
        .list(&ListParams::default().labels("app=agent"))
        .await
        .unwrap();
    let fitting = list.into_iter().filter(|pod| {
        let container = &pod.spec.as_ref().unwrap().containers[0];
        container.image.as_deref() == Some(image) && pod.metadata.deletion_timestamp.is_none()
    });
    fitting
        .filter_map(|pod| pod.spec.unwrap().node_name)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_set_runs_everywhere_and_rolls() {
    let cluster = Cluster::start().await.with_kubelet();
    for name in ["w1", "w2", "w3"] {
        cluster.register(name, name != "w3").await;
    }
    let sets = cluster.within::<DaemonSet>("kube-system");
    let pods = cluster.within::<Pod>("kube-system");
    let all =
        |names: &[&str]| -> BTreeSet<String> { names.iter().map(|n| (*n).to_owned()).collect() };
    create(&sets, daemon_set("one")).await;
    let on_three =
        || async { (running(&pods, "one").await == all(&["w1", "w2", "w3"])).then_some(()) };
    eventually("a bound pod on every node", on_three).await;
    cluster.register("w4", true).await;
    let on_four = || async { running(&pods, "one").await.contains("w4").then_some(()) };
    eventually("a pod on a new node", on_four).await;
    let status = |set: &DaemonSet| set.status.clone().unwrap_or_default();
    let set = until(&sets, "agent", "all available", |set| {
        status(set).number_available == Some(4)
    })
    .await;
    assert_eq!(status(&set).desired_number_scheduled, 4);

    let change = daemon_set("two");
    sets.patch("agent", &merge(), &Patch::Merge(change))
        .await
        .unwrap();
    let updated = || async { (running(&pods, "two").await.len() == 4).then_some(()) };
    eventually("every pod replaced", updated).await;
    let settled = |set: &DaemonSet| {
        let status = status(set);
        status.updated_number_scheduled == Some(4)
            && status.number_available == Some(4)
            && status.observed_generation == Some(2)
    };
    until(&sets, "agent", "the update is complete", settled).await;
    let revisions = cluster.within::<ControllerRevision>("kube-system");
    let revisions = revisions.list(&ListParams::default()).await.unwrap();
    assert_eq!(
        revisions
            .items
            .iter()
            .map(|r| r.revision)
            .collect::<BTreeSet<_>>(),
        [1, 2].into()
    );

    sets.delete("agent", &DeleteParams::default())
        .await
        .unwrap();
    let none = || async {
        pods.list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
            .then_some(())
    };
    eventually("the pods follow their set", none).await;
    cluster.stop().await;
}

fn pod(name: &str, labels: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
        "spec": {"containers": [{"name": "c", "image": "malha", "ports": [{"name": "web", "containerPort": 8080}]}]},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_waits_for_a_node_and_serves() {
    let cluster = Cluster::start().await.with_kubelet();
    // What a pod needs first is an account.
    until(
        &cluster.within::<ServiceAccount>("default"),
        "default",
        "an account",
        |_| true,
    )
    .await;
    let pods = cluster.within::<Pod>("default");
    create(&pods, pod("web", json!({"app": "web"}))).await;
    let unplaced = |pod: &Pod| {
        let conditions = pod
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten());
        let mut unplaced = conditions
            .filter(|c| c.type_ == "PodScheduled" && c.reason.as_deref() == Some("Unschedulable"));
        unplaced.any(|c| c.message.as_deref() == Some("no nodes available to schedule pods"))
    };
    until(&pods, "web", "a reason", unplaced).await;
    let events = cluster.within::<Event>("default");
    let told = |reason: &'static str| {
        let events = &events;
        eventually(reason, move || async move {
            let list = events.list(&ListParams::default()).await.unwrap();
            list.into_iter()
                .find(|event| event.reason.as_deref() == Some(reason))
        })
    };
    told("FailedScheduling").await;

    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {
            "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "web"}],
            "ipFamilyPolicy": "PreferDualStack",
        },
    });
    create(&cluster.within::<Service>("default"), service).await;
    cluster.register("w1", true).await;
    until(&pods, "web", "a node", |pod| {
        pod.spec.as_ref().unwrap().node_name.as_deref() == Some("w1")
    })
    .await;
    told("Scheduled").await;
    let ready = |endpoints: &Endpoints| {
        let subsets = endpoints.subsets.iter().flatten();
        subsets.flat_map(|s| s.addresses.iter().flatten()).count() == 1
    };
    let all = cluster.within::<Endpoints>("default");
    let endpoints = until(&all, "web", "an endpoint", ready).await;
    assert_eq!(
        endpoints.subsets.unwrap()[0].ports.as_ref().unwrap()[0].port,
        8080
    );
    let slices = cluster.within::<EndpointSlice>("default");
    let addresses = || async {
        let list = slices
            .list(&ListParams::default().labels("kubernetes.io/service-name=web"))
            .await
            .unwrap();
        let ready = |slice: &EndpointSlice| {
            slice
                .endpoints
                .iter()
                .filter(|e| e.conditions.as_ref().unwrap().ready == Some(true))
                .count()
        };
        let families: BTreeSet<String> = list
            .iter()
            .filter(|s| ready(s) == 1)
            .map(|s| s.address_type.clone())
            .collect();
        (families.len() == 2).then_some(())
    };
    eventually("a slice of each family", addresses).await;

    pods.delete("web", &DeleteParams::default()).await.unwrap();
    until(&all, "web", "no endpoint", |endpoints| {
        endpoints.subsets.iter().flatten().next().is_none()
    })
    .await;
    let service = cluster.within::<Service>("default");
    service
        .delete("web", &DeleteParams::default())
        .await
        .unwrap();
    gone(&all, "web").await;
    let left = || async {
        let list = slices
            .list(&ListParams::default().labels("kubernetes.io/service-name=web"))
            .await
            .unwrap();
        list.items.is_empty().then_some(())
    };
    eventually("no slices", left).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_is_furnished_emptied_and_let_go() {
    let cluster = Cluster::start().await.with_kubelet();
    cluster.register("w1", true).await;
    let namespaces = cluster.all::<Namespace>();
    create(
        &namespaces,
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}}),
    )
    .await;
    until(
        &cluster.within::<ServiceAccount>("x"),
        "default",
        "an account",
        |_| true,
    )
    .await;
    let maps = cluster.within::<ConfigMap>("x");
    let published = until(&maps, "kube-root-ca.crt", "the CA", |_| true).await;
    assert_eq!(published.data.unwrap()["ca.crt"], cluster.pki.ca.cert_pem());
    maps.delete("kube-root-ca.crt", &DeleteParams::default())
        .await
        .unwrap();
    until(&maps, "kube-root-ca.crt", "the CA again", |_| true).await;

    create(&cluster.within::<Pod>("x"), pod("web", json!({}))).await;
    let held = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "held", "finalizers": ["example.com/x"]}});
    create(&maps, held).await;
    namespaces
        .delete("x", &DeleteParams::default())
        .await
        .unwrap();
    let waits = |namespace: &Namespace| {
        let conditions = namespace
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten());
        let mut texts = conditions.filter_map(|c| c.message.clone());
        texts.any(|text| text == "Some content in the namespace has finalizers remaining: example.com/x in 1 resource instances")
    };
    until(&namespaces, "x", "it says what it waits for", waits).await;
    maps.patch(
        "held",
        &merge(),
        &Patch::Merge(json!({"metadata": {"finalizers": null}})),
    )
    .await
    .unwrap();
    gone(&namespaces, "x").await;
    cluster.stop().await;
}

async fn owned(maps: &Api<ConfigMap>, name: &str, owner: Option<&ConfigMap>) -> ConfigMap {
    let owners: Vec<Value> = owner
        .iter()
        .map(|owner| {
            json!({
                "apiVersion": "v1", "kind": "ConfigMap", "name": owner.name_any(), "uid": owner.metadata.uid,
                "blockOwnerDeletion": true,
            })
        })
        .collect();
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "ownerReferences": owners}});
    create(maps, object).await
}

#[tokio::test(flavor = "multi_thread")]
async fn dependents_follow_their_owners() {
    let cluster = Cluster::start().await;
    let maps = cluster.within::<ConfigMap>("default");
    let delete = |policy| DeleteParams {
        propagation_policy: Some(policy),
        ..DeleteParams::default()
    };
    let a = owned(&maps, "a", None).await;
    let b = owned(&maps, "b", Some(&a)).await;
    owned(&maps, "c", Some(&b)).await;
    maps.delete("a", &delete(PropagationPolicy::Background))
        .await
        .unwrap();
    for name in ["b", "c"] {
        gone(&maps, name).await;
    }

    let a = owned(&maps, "a", None).await;
    owned(&maps, "b", Some(&a)).await;
    maps.delete("a", &delete(PropagationPolicy::Orphan))
        .await
        .unwrap();
    gone(&maps, "a").await;
    let left = maps.get("b").await.unwrap();
    assert!(
        left.metadata
            .owner_references
            .unwrap_or_default()
            .is_empty()
    );

    let a = owned(&maps, "x", None).await;
    let b = owned(&maps, "y", Some(&a)).await;
    owned(&maps, "z", Some(&b)).await;
    maps.delete("x", &delete(PropagationPolicy::Foreground))
        .await
        .unwrap();
    for name in ["x", "y", "z"] {
        gone(&maps, name).await;
    }
    // Made after its owner was gone.
    owned(&maps, "late", Some(&a)).await;
    gone(&maps, "late").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_node_is_unknown_and_its_pods_leave() {
    let timings = Timings {
        node_grace: Duration::from_secs(2),
        orphan_quarantine: Duration::from_millis(200),
        ..Timings::default()
    };
    let cluster = Cluster::start_with(timings).await;
    let renewing = tokio::spawn(renew(cluster.client.clone(), "alive"));
    cluster.register("silent", true).await;
    cluster.register("alive", true).await;
    until(
        &cluster.within::<ServiceAccount>("default"),
        "default",
        "an account",
        |_| true,
    )
    .await;
    let mut web = pod("web", json!({}));
    web["spec"]["nodeName"] = "silent".into();
    web["spec"]["tolerations"] = json!([{
        "key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1,
    }]);
    let pods = cluster.within::<Pod>("default");
    create(&pods, web).await;

    let nodes = cluster.all::<Node>();
    let ready = |node: &Node| {
        let conditions = node
            .status
            .iter()
            .flat_map(|status| status.conditions.clone().unwrap_or_default());
        conditions
            .into_iter()
            .find(|condition| condition.type_ == "Ready")
    };
    let unknown = |node: &Node| ready(node).is_some_and(|ready| ready.status == "Unknown");
    let silent = until(&nodes, "silent", "unknown", unknown).await;
    assert_eq!(
        ready(&silent).unwrap().message.as_deref(),
        Some("Kubelet stopped posting node status.")
    );
    until(&nodes, "silent", "tainted", |node| {
        taints(node) == ["unreachable:NoSchedule", "unreachable:NoExecute"]
    })
    .await;
    until(&pods, "web", "evicted", |pod| {
        pod.metadata.deletion_timestamp.is_some()
    })
    .await;
    assert!(ready(&nodes.get("alive").await.unwrap()).unwrap().status == "True");

    nodes
        .delete("silent", &DeleteParams::default())
        .await
        .unwrap();
    gone(&pods, "web").await;
    renewing.abort();
    cluster.stop().await;
}

/// Renews a node's lease, as a kubelet does.
async fn renew(client: kube::Client, name: &'static str) {
    let leases = Api::<Lease>::namespaced(client, "kube-node-lease");
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}});
    create(&leases, lease).await;
    loop {
        let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime(Timestamp::now());
        let patch = json!({"spec": {"holderIdentity": name, "renewTime": now}});
        leases
            .patch(name, &merge(), &Patch::Merge(patch))
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_changes_nothing_that_is_in_order() {
    let mut cluster = Cluster::start().await.with_kubelet();
    cluster.register("w1", true).await;
    let sets = cluster.within::<DaemonSet>("kube-system");
    create(&sets, daemon_set("one")).await;
    let settled = |set: &DaemonSet| {
        set.status
            .as_ref()
            .is_some_and(|status| status.number_available == Some(1))
    };
    until(&sets, "agent", "it runs", settled).await;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "agent"},
        "spec": {"selector": {"app": "agent"}, "ports": [{"port": 80}]},
    });
    create(&cluster.within::<Service>("kube-system"), service).await;
    let endpoints = cluster.within::<Endpoints>("kube-system");
    until(&endpoints, "agent", "endpoints", |e| {
        e.subsets.iter().flatten().count() == 1
    })
    .await;
    let slices = cluster.within::<EndpointSlice>("kube-system");
    let one = || async {
        (slices
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .len()
            == 1)
            .then_some(())
    };
    eventually("a slice", one).await;

    let before = versions(&cluster).await;
    cluster.restart_controllers().await;
    // The new ones are at work when they have seen to a new node and to a pod on it.
    cluster.register("w2", true).await;
    let two = |set: &DaemonSet| {
        set.status
            .as_ref()
            .is_some_and(|status| status.number_available == Some(2))
    };
    until(&sets, "agent", "it runs on the new node", two).await;
    let after = versions(&cluster).await;
    for (name, version) in before {
        assert_eq!(after.get(&name), Some(&version), "{name} was written again");
    }
    cluster.stop().await;
}

/// Name and resource version of everything that a new node does not change.
async fn versions(cluster: &Cluster) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::new();
    let mut note = |kind: &str, meta: &ObjectMeta| {
        let name = format!("{kind} {}", meta.name.as_deref().unwrap());
        versions.insert(name, meta.resource_version.clone().unwrap());
    };
    for pod in cluster
        .all::<Pod>()
        .list(&ListParams::default())
        .await
        .unwrap()
    {
        note("pod", &pod.metadata);
    }
    for map in cluster
        .all::<ConfigMap>()
        .list(&ListParams::default())
        .await
        .unwrap()
    {
        note("config map", &map.metadata);
    }
    for revision in cluster
        .all::<ControllerRevision>()
        .list(&ListParams::default())
        .await
        .unwrap()
    {
        note("revision", &revision.metadata);
    }
    note(
        "node",
        &cluster.all::<Node>().get("w1").await.unwrap().metadata,
    );
    versions
}
