use serde_json::{Value, json};

use super::*;
use crate::api::{errors::invalid, resources::find};

/// The errors of a new object, one a line.
fn wrong(group: &str, plural: &str, object: Value) -> String {
    let resource = find(group, "v1", plural).expect("a resource");
    lines(create(resource, &object))
}

fn lines(errors: Vec<FieldError>) -> String {
    let lines = errors.iter().map(|e| format!("{}: {}", e.field, e.message));
    lines.collect::<Vec<_>>().join("\n")
}

/// The errors of a change.
fn changed(group: &str, plural: &str, old: &Value, new: &Value) -> String {
    let target = Target {
        resource: find(group, "v1", plural).expect("a resource"),
        subresource: "",
        namespace: "d",
        name: "x",
    };
    lines(update(&target, old, new))
}

fn named(more: Value) -> Value {
    let mut object = json!({"metadata": {"name": "x", "namespace": "d"}});
    object
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    object
}

fn pod(spec: Value) -> Value {
    named(json!({"spec": spec}))
}

#[test]
fn the_shape_of_a_refusal() {
    let resource = find("", "v1", "pods").unwrap();
    let errors = create(resource, &json!({"metadata": {"name": "p"}, "spec": {}}));
    let status = invalid(resource.group, resource.kind, "p", &errors);
    assert_eq!(
        status.message,
        "Pod \"p\" is invalid: spec.containers: Required value"
    );
    assert_eq!(
        status.details,
        json!({"name": "p", "kind": "Pod", "causes": [
            {"reason": "FieldValueRequired", "message": "Required value", "field": "spec.containers"}]})
    );
    let two = create(
        find("apps", "v1", "daemonsets").unwrap(),
        &named(json!({"spec": {"template": {}}})),
    );
    let status = invalid("apps", "DaemonSet", "x", &two);
    assert!(
        status
            .message
            .starts_with("DaemonSet.apps \"x\" is invalid: [spec.selector: Required value, "),
        "{status}"
    );
    assert_eq!(status.details["group"], "apps");
}

#[test]
fn metadata_of_every_kind() {
    assert_eq!(
        wrong("", "configmaps", json!({"metadata": {"name": "Bad_Name"}})),
        "metadata.name: Invalid value: \"Bad_Name\": a lowercase RFC 1123 subdomain must consist of lower case \
         alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. \
         'example.com', regex used for validation is \
         '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
    );
    assert_eq!(
        wrong(
            "rbac.authorization.k8s.io",
            "clusterroles",
            json!({"metadata": {"name": "system:Node"}})
        ),
        ""
    );
    assert!(
        wrong(
            "",
            "services",
            json!({"metadata": {"name": "1a"}, "spec": {"ports": [{"port": 1}]}})
        )
        .contains("DNS-1035")
    );
    let bad = json!({"metadata": {"name": "x", "labels": {"a b": "c", "d": "e f"}, "annotations": {"/": "x"},
        "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n"}]}});
    let text = wrong("", "configmaps", bad);
    for part in [
        "metadata.labels: Invalid value: \"a b\": name part must consist",
        "metadata.labels: Invalid value: \"e f\": a valid label must be",
        "metadata.annotations: Invalid value: \"/\": prefix part must be non-empty",
        "metadata.ownerReferences[0].uid: Invalid value: \"\": must not be empty",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn pods() {
    let container = json!({"name": "c", "image": "i"});
    for (spec, expected) in [
        (json!({"containers": [container]}), ""),
        (
            json!({"containers": [{"image": "i"}]}),
            "spec.containers[0].name: Required value",
        ),
        (
            json!({"containers": [{"name": "c"}]}),
            "spec.containers[0].image: Required value",
        ),
        (
            json!({"containers": [container, container]}),
            "spec.containers[1].name: Duplicate value: \"c\"",
        ),
        (
            json!({"containers": [container], "restartPolicy": "Sometimes"}),
            "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
        ),
        (
            json!({"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 70000}]}]}),
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            json!({"containers": [{"name": "c", "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/m"}]}]}),
            "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
        ),
        (
            json!({"containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": "much"}}}]}),
            "spec.containers[0].resources.limits[cpu]: Invalid value: \"much\": quantities must match the regular expression \
             '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            json!({"containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1500m"}}}]}),
            "spec.containers[0].resources.requests[cpu]: Invalid value: \"1500m\": must be less than or equal to cpu limit of 1",
        ),
        (
            json!({"containers": [{"name": "c", "image": "i", "readinessProbe": {"periodSeconds": 1}}]}),
            "spec.containers[0].readinessProbe: Required value: must specify a handler type",
        ),
        (
            json!({"containers": [container], "volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]}),
            "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
        ),
        (
            json!({"containers": [container], "volumes": [{"name": "v", "hostPath": {"path": "/a/../b", "type": ""}}]}),
            "spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
        ),
        (
            json!({"containers": [container], "volumes": [{"name": "v", "secret": {"secretName": "s", "items": [{"key": "k", "path": "../etc"}]}}]}),
            "spec.volumes[0].secret.items[0].path: Invalid value: \"../etc\": must not contain '..'",
        ),
        (
            json!({"containers": [container], "tolerations": [{"operator": "Exists", "effect": "Never"}]}),
            "spec.tolerations[0].effect: Unsupported value: \"Never\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
        ),
        (
            json!({"containers": [container], "nodeSelector": {"a": "b c"}}),
            "spec.nodeSelector: Invalid value: \"b c\": a valid label must be an empty string or consist of alphanumeric characters, '-', \
             '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used \
             for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
        ),
        (
            json!({"containers": [container], "terminationGracePeriodSeconds": -1}),
            "spec.terminationGracePeriodSeconds: Invalid value: -1: must be greater than or equal to 0",
        ),
    ] {
        assert_eq!(wrong("", "pods", pod(spec)), expected);
    }
}

#[test]
fn pods_hardly_change() {
    let old = pod(
        json!({"containers": [{"name": "c", "image": "i"}], "tolerations": [{"key": "a", "operator": "Exists"}]}),
    );
    let with = |pointer: &str, value: Value| {
        let mut new = old.clone();
        *new.pointer_mut(pointer).unwrap() = value;
        changed("", "pods", &old, &new)
    };
    assert_eq!(with("/spec/containers/0/image", json!("j")), "");
    assert_eq!(
        with(
            "/spec/tolerations",
            json!([{"key": "a", "operator": "Exists"}, {"key": "b", "operator": "Exists"}])
        ),
        ""
    );
    assert!(
        with("/spec/tolerations", json!([]))
            .starts_with("spec: Forbidden: pod updates may not change")
    );
    assert!(
        with("/spec/containers/0/name", json!("d"))
            .starts_with("spec: Forbidden: pod updates may not change")
    );
    let mut bound = old.clone();
    bound["spec"]["nodeName"] = "n".into();
    assert!(changed("", "pods", &old, &bound).starts_with("spec: Forbidden"));
}

#[test]
fn workloads() {
    let template = json!({"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let good = named(
        json!({"spec": {"replicas": 1, "selector": {"matchLabels": {"app": "x"}}, "template": template}}),
    );
    assert_eq!(wrong("apps", "deployments", good.clone()), "");
    let with = |pointer: &str, value: Value| {
        let mut new = good.clone();
        *new.pointer_mut(pointer).unwrap() = value;
        new
    };
    assert_eq!(
        wrong(
            "apps",
            "deployments",
            with("/spec/selector/matchLabels/app", json!("y"))
        ),
        "spec.template.metadata.labels: Invalid value: {\"app\":\"x\"}: `selector` does not match template `labels`"
    );
    assert_eq!(
        wrong("apps", "deployments", with("/spec/selector", json!({}))),
        "spec.selector: Invalid value: {}: empty selector is invalid"
    );
    assert_eq!(
        wrong("apps", "replicasets", with("/spec/replicas", json!(-1))),
        "spec.replicas: Invalid value: -1: must be greater than or equal to 0"
    );
    let mut none = good.clone();
    none["spec"]["strategy"] =
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}});
    assert_eq!(
        wrong("apps", "deployments", none),
        "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0"
    );
    let mut other = good.clone();
    other["spec"]["selector"]["matchLabels"] = json!({"app": "y"});
    other["spec"]["template"]["metadata"]["labels"] = json!({"app": "y"});
    assert_eq!(
        changed("apps", "deployments", &good, &other),
        "spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"y\"}}: field is immutable"
    );
}

#[test]
fn policies() {
    let policy = |peer: Value, port: Value| {
        wrong(
            "networking.k8s.io",
            "networkpolicies",
            named(
                json!({"spec": {"podSelector": {}, "ingress": [{"from": [peer], "ports": [port]}]}}),
            ),
        )
    };
    let any = json!({"podSelector": {}});
    assert_eq!(policy(any.clone(), json!({"port": 80})), "");
    assert_eq!(
        policy(
            json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}),
            json!({})
        ),
        ""
    );
    assert_eq!(
        policy(
            json!({"ipBlock": {"cidr": "fd00::/8", "except": ["fd00:1::/32"]}}),
            json!({})
        ),
        ""
    );
    for (peer, port, expected) in [
        (
            json!({}),
            json!({}),
            "spec.ingress[0].from[0]: Required value: must specify a peer",
        ),
        (
            json!({"ipBlock": {"cidr": "10.0.0.0"}}),
            json!({}),
            "spec.ingress[0].from[0].ipBlock.cidr: Invalid value: \"10.0.0.0\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
        ),
        (
            json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}}),
            json!({}),
            "spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`",
        ),
        (
            json!({"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}),
            json!({}),
            "spec.ingress[0].from[0]: Forbidden: may not specify both ipBlock and another peer",
        ),
        (
            any.clone(),
            json!({"port": 80, "endPort": 79}),
            "spec.ingress[0].ports[0].endPort: Invalid value: 79: must be greater than or equal to `port`",
        ),
        (
            any.clone(),
            json!({"protocol": "ICMP"}),
            "spec.ingress[0].ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
        ),
        (
            any,
            json!({"port": "UPPER"}),
            "spec.ingress[0].ports[0].port: Invalid value: \"UPPER\": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)\n\
             spec.ingress[0].ports[0].port: Invalid value: \"UPPER\": must contain at least one letter (a-z)",
        ),
    ] {
        assert_eq!(policy(peer, port), expected);
    }
}

#[test]
fn services() {
    let service = |spec: Value| wrong("", "services", named(json!({"spec": spec})));
    assert_eq!(
        service(
            json!({"type": "ClusterIP", "ports": [{"port": 80, "protocol": "TCP", "targetPort": "http"}]})
        ),
        ""
    );
    assert_eq!(
        service(json!({"type": "ClusterIP"})),
        "spec.ports: Required value"
    );
    assert_eq!(
        service(json!({"type": "ClusterIP", "clusterIP": "None"})),
        ""
    );
    assert_eq!(
        service(json!({"ports": [{"port": 1, "name": "a"}, {"port": 2}]})),
        "spec.ports[1].name: Required value"
    );
    assert_eq!(
        service(json!({"type": "ExternalName"})),
        "spec.externalName: Required value"
    );
    let old = named(json!({"spec": {"clusterIP": "10.96.0.9", "ports": [{"port": 80}]}}));
    let new = named(json!({"spec": {"clusterIP": "10.96.0.8", "ports": [{"port": 80}]}}));
    assert_eq!(
        changed("", "services", &old, &new),
        "spec.clusterIPs[0]: Invalid value: \"10.96.0.8\": may not change once set"
    );
}

#[test]
fn tokens_that_could_never_be_used() {
    let secret = |name: &str, id: &str, token: &str| {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let object = json!({"metadata": {"name": name}, "type": "bootstrap.kubernetes.io/token",
            "data": {"token-id": STANDARD.encode(id), "token-secret": STANDARD.encode(token)}});
        wrong("", "secrets", object)
    };
    assert_eq!(
        secret("bootstrap-token-abcdef", "abcdef", "0123456789abcdef"),
        ""
    );
    assert_eq!(
        secret("bootstrap-token-abcde", "abcde", "0123456789abcdef"),
        "data[token-id]: Invalid value: \"abcde\": must be six characters of a-z and 0-9"
    );
    assert_eq!(
        secret("my-token", "abcdef", "0123456789abcdef"),
        "metadata.name: Invalid value: \"my-token\": must be \"bootstrap-token-\" and the token's id"
    );
    let text = secret("bootstrap-token-abcdef", "abcdef", "tooshort");
    assert!(
        !text.contains("tooshort") && text.contains("data[token-secret]"),
        "{text}"
    );
}

#[test]
fn immutable_data() {
    let old = named(json!({"immutable": true, "data": {"a": "1"}}));
    let new = named(json!({"data": {"a": "2"}}));
    assert_eq!(
        changed("", "configmaps", &old, &new),
        "immutable: Forbidden: field is immutable when `immutable` is set\n\
         data: Forbidden: field is immutable when `immutable` is set"
    );
    let binding = |role: &str| {
        named(
            json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}}),
        )
    };
    assert!(
        changed(
            "rbac.authorization.k8s.io",
            "clusterrolebindings",
            &binding("a"),
            &binding("b")
        )
        .ends_with("cannot change roleRef")
    );
    let node = |range: Value| named(json!({"spec": {"podCIDR": range, "podCIDRs": [range]}}));
    assert_eq!(
        changed(
            "",
            "nodes",
            &named(json!({"spec": {}})),
            &node(json!("10.0.0.0/24"))
        ),
        ""
    );
    assert!(
        changed(
            "",
            "nodes",
            &node(json!("10.0.0.0/24")),
            &node(json!("10.0.1.0/24"))
        )
        .contains("may not change podCIDR")
    );
    let mut deleting = named(json!({}));
    deleting["metadata"]["deletionTimestamp"] = "2026-11-23T06:54:42Z".into();
    let mut held = deleting.clone();
    held["metadata"]["finalizers"] = json!(["a/b"]);
    assert!(changed("", "configmaps", &deleting, &held).contains("no new finalizers can be added"));
}

#[test]
fn the_rest() {
    for (group, plural, object, expected) in [
        (
            "",
            "configmaps",
            named(json!({"data": {"a/b": "1"}})),
            "data[a/b]: Invalid value: \"a/b\": a valid config key",
        ),
        (
            "",
            "secrets",
            named(json!({"type": "kubernetes.io/tls", "data": {}})),
            "data[tls.crt]: Required value",
        ),
        (
            "",
            "events",
            named(json!({"involvedObject": {"namespace": "other"}})),
            "involvedObject.namespace: Invalid value: \"other\": does not match event.namespace",
        ),
        (
            "coordination.k8s.io",
            "leases",
            named(json!({"spec": {"leaseDurationSeconds": 0}})),
            "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
        ),
        (
            "rbac.authorization.k8s.io",
            "roles",
            named(json!({"rules": [{"apiGroups": [""], "resources": ["pods"]}]})),
            "rules[0].verbs: Required value: verbs must contain at least one value",
        ),
        (
            "rbac.authorization.k8s.io",
            "clusterrolebindings",
            named(json!({"roleRef": {"kind": "Role", "name": "r"}})),
            "roleRef.kind: Unsupported value: \"Role\"",
        ),
        (
            "certificates.k8s.io",
            "certificatesigningrequests",
            named(
                json!({"spec": {"signerName": "x", "usages": ["client auth"], "request": "eA=="}}),
            ),
            "spec.signerName: Invalid value: \"x\": must be a fully qualified domain and path",
        ),
        (
            "scheduling.k8s.io",
            "priorityclasses",
            json!({"metadata": {"name": "system-mine"}}),
            "metadata.name: Forbidden: priority class names with 'system-' prefix",
        ),
        (
            "",
            "nodes",
            named(json!({"spec": {"taints": [{"key": "a"}]}})),
            "spec.taints[0].effect: Required value",
        ),
        (
            "discovery.k8s.io",
            "endpointslices",
            named(json!({"addressType": "IPv6", "endpoints": [{"addresses": ["10.0.0.1"]}]})),
            "endpoints[0].addresses[0]: Invalid value: \"10.0.0.1\": must be a valid IPv6 address",
        ),
        (
            "",
            "endpoints",
            named(json!({"subsets": [{"addresses": [{"ip": "x"}]}]})),
            "subsets[0].addresses[0].ip: Invalid value: \"x\": must be a valid IP address",
        ),
    ] {
        let text = wrong(group, plural, object);
        assert!(text.starts_with(expected), "{plural}: {text}");
    }
}
