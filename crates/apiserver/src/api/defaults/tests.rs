use serde_json::{Value, json};

use super::*;
use crate::api::resources::find;

fn created(group: &str, plural: &str, mut object: Value) -> Value {
    let resource = find(group, "v1", plural).expect("a resource");
    create(resource, &mut object);
    let once = object.clone();
    update(resource, &mut object);
    assert_eq!(object, once, "a default changes what it made");
    object
}

#[test]
fn a_pod_is_completed() {
    let pod = created(
        "",
        "pods",
        json!({"metadata": {"name": "p"}, "spec": {
            "hostNetwork": true,
            "containers": [{
                "name": "c", "image": "nginx", "ports": [{"containerPort": 80}],
                "readinessProbe": {"httpGet": {"port": 80}},
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
            }],
            "volumes": [{"name": "a"}, {"name": "b", "secret": {"secretName": "s"}}, {"name": "c", "hostPath": {"path": "/"}}],
        }}),
    );
    assert_eq!(
        pod["spec"],
        json!({
            "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "terminationGracePeriodSeconds": 30,
            "schedulerName": "default-scheduler", "securityContext": {}, "enableServiceLinks": true,
            "hostNetwork": true,
            "containers": [{
                "name": "c", "image": "nginx", "imagePullPolicy": "Always",
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                "ports": [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}],
                "readinessProbe": {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1,
                    "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}},
            }],
            "volumes": [
                {"name": "a", "emptyDir": {}},
                {"name": "b", "secret": {"secretName": "s", "defaultMode": 420}},
                {"name": "c", "hostPath": {"path": "/", "type": ""}},
            ],
        })
    );
    assert_eq!(
        pod["status"],
        json!({"phase": "Pending", "qosClass": "Guaranteed"})
    );
}

#[test]
fn image_tags_decide_the_pull_policy() {
    for (image, policy) in [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1.2", "IfNotPresent"),
        ("host:5000/nginx", "Always"),
        ("host:5000/nginx:1", "IfNotPresent"),
        ("nginx@sha256:abc", "IfNotPresent"),
    ] {
        let pod = json!({"spec": {"containers": [{"name": "c", "image": image}]}});
        assert_eq!(
            created("", "pods", pod)["spec"]["containers"][0]["imagePullPolicy"],
            policy,
            "{image}"
        );
    }
}

#[test]
fn quality_of_service() {
    for (resources, class) in [
        (json!({}), "BestEffort"),
        (json!({"requests": {"cpu": "100m"}}), "Burstable"),
        (
            json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}}),
            "Guaranteed",
        ),
        (json!({"limits": {"cpu": "1"}}), "Burstable"),
    ] {
        let pod = json!({"spec": {"containers": [{"name": "c", "resources": resources}]}});
        assert_eq!(created("", "pods", pod)["status"]["qosClass"], class);
    }
}

#[test]
fn workloads_are_completed() {
    let template = json!({"spec": {"containers": [{"name": "c", "image": "x:1"}]}});
    let set = created(
        "apps",
        "daemonsets",
        json!({"spec": {"template": template}}),
    );
    assert_eq!(
        set["spec"]["updateStrategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}})
    );
    assert_eq!(set["spec"]["template"]["spec"]["restartPolicy"], "Always");
    assert_eq!(
        set["spec"]["template"]["spec"].get("enableServiceLinks"),
        None
    );
    assert_eq!(set["status"]["desiredNumberScheduled"], 0);
    let deployment = created(
        "apps",
        "deployments",
        json!({"spec": {"template": template}}),
    );
    assert_eq!(deployment["spec"]["replicas"], 1);
    assert_eq!(
        deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"],
        "25%"
    );
    let recreate = json!({"spec": {"template": template, "strategy": {"type": "Recreate"}}});
    assert_eq!(
        created("apps", "deployments", recreate)["spec"]["strategy"],
        json!({"type": "Recreate"})
    );
}

#[test]
fn services_and_policies() {
    let service = created(
        "",
        "services",
        json!({"spec": {"ports": [{"port": 80}, {"port": 53, "targetPort": "dns"}]}}),
    );
    assert_eq!(service["spec"]["type"], "ClusterIP");
    assert_eq!(
        service["spec"]["ports"],
        json!([{"port": 80, "targetPort": 80, "protocol": "TCP"}, {"port": 53, "targetPort": "dns", "protocol": "TCP"}])
    );
    let types = |spec: Value| {
        created(
            "networking.k8s.io",
            "networkpolicies",
            json!({"spec": spec}),
        )["spec"]["policyTypes"]
            .clone()
    };
    assert_eq!(types(json!({"podSelector": {}})), json!(["Ingress"]));
    assert_eq!(
        types(json!({"podSelector": {}, "egress": []})),
        json!(["Ingress"])
    );
    assert_eq!(
        types(json!({"podSelector": {}, "egress": [{}]})),
        json!(["Ingress", "Egress"])
    );
    assert_eq!(
        types(json!({"podSelector": {}, "policyTypes": ["Egress"]})),
        json!(["Egress"])
    );
}

#[test]
fn small_kinds() {
    let secret = created(
        "",
        "secrets",
        json!({"stringData": {"a": "b"}, "data": {"a": "eA==", "c": "ZA=="}}),
    );
    assert_eq!(
        secret,
        json!({"type": "Opaque", "data": {"a": "Yg==", "c": "ZA=="}})
    );
    let namespace = created("", "namespaces", json!({"metadata": {"name": "n"}}));
    assert_eq!(
        namespace["metadata"]["labels"]["kubernetes.io/metadata.name"],
        "n"
    );
    assert_eq!(namespace["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(namespace["status"]["phase"], "Active");
    let binding = created(
        RBAC,
        "rolebindings",
        json!({"roleRef": {"kind": "Role", "name": "r"},
        "subjects": [{"kind": "Group", "name": "g"}, {"kind": "ServiceAccount", "name": "s"}]}),
    );
    assert_eq!(binding["roleRef"]["apiGroup"], RBAC);
    assert_eq!(binding["subjects"][0]["apiGroup"], RBAC);
    assert_eq!(binding["subjects"][1].get("apiGroup"), None);
}
