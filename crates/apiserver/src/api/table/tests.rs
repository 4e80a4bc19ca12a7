//! Golden text: what kubectl prints, wide columns included.

use serde_json::{Value, json};

use super::*;
use crate::api::resources::find;

const NOW: &str = "2026-11-23T07:00:00Z";
const BORN: &str = "2026-11-23T06:55:00Z";

/// The table as text: a header line, then a line for each object, cells separated by ` | `.
fn print(group: &str, plural: &str, objects: &[Value]) -> String {
    let resource = find(group, "v1", plural).expect("a resource");
    let table = render(resource, objects, "7", Include::None, NOW.parse().unwrap());
    let header = table["columnDefinitions"].as_array().unwrap().iter();
    let header: Vec<_> = header
        .map(|c| c["name"].as_str().unwrap().to_uppercase())
        .collect();
    let mut lines = vec![header.join(" | ")];
    for row in table["rows"].as_array().unwrap() {
        let cells = row["cells"].as_array().unwrap();
        assert_eq!(cells.len(), header.len());
        let cells: Vec<_> = cells
            .iter()
            .map(|cell| {
                cell.as_str()
                    .map_or_else(|| cell.to_string(), str::to_owned)
            })
            .collect();
        lines.push(cells.join(" | "));
    }
    lines.join("\n")
}

fn pod(name: &str, spec: Value, status: Value) -> Value {
    json!({"metadata": {"name": name, "creationTimestamp": BORN}, "spec": spec, "status": status})
}

#[test]
fn pods() {
    let one = json!({"containers": [{"name": "c"}], "nodeName": "n1"});
    let running = json!({"name": "c", "ready": true, "restartCount": 0, "state": {"running": {}}});
    let objects = [
        pod(
            "pending",
            json!({"containers": [{"name": "c"}]}),
            json!({"phase": "Pending"}),
        ),
        pod(
            "creating",
            one.clone(),
            json!({"phase": "Pending", "containerStatuses": [
            {"name": "c", "restartCount": 0, "state": {"waiting": {"reason": "ContainerCreating"}}}]}),
        ),
        pod(
            "running",
            one.clone(),
            json!({"phase": "Running", "podIPs": [{"ip": "10.0.0.2"}, {"ip": "fd00::2"}],
            "containerStatuses": [running]}),
        ),
        pod(
            "crashing",
            one.clone(),
            json!({"phase": "Running", "containerStatuses": [
            {"name": "c", "ready": false, "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
             "lastState": {"terminated": {"finishedAt": "2026-11-23T06:59:00Z"}}}]}),
        ),
        pod(
            "done",
            one.clone(),
            json!({"phase": "Succeeded", "containerStatuses": [
            {"name": "c", "restartCount": 0, "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]}),
        ),
        pod(
            "killed",
            one.clone(),
            json!({"phase": "Failed", "containerStatuses": [
            {"name": "c", "restartCount": 0, "state": {"terminated": {"exitCode": 137, "signal": 9}}}]}),
        ),
        pod(
            "evicted",
            one.clone(),
            json!({"phase": "Failed", "reason": "Evicted"}),
        ),
        pod(
            "init",
            json!({"containers": [{"name": "c"}], "initContainers": [{"name": "i"}, {"name": "j"}]}),
            json!({"phase": "Pending", "initContainerStatuses": [
                {"name": "i", "state": {"terminated": {"exitCode": 0}}}, {"name": "j", "state": {"running": {}}}]}),
        ),
        pod(
            "init-error",
            json!({"containers": [{"name": "c"}], "initContainers": [{"name": "i"}]}),
            json!({"phase": "Pending", "initContainerStatuses": [
                {"name": "i", "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}]}),
        ),
    ];
    assert_eq!(
        print("", "pods", &objects),
        "NAME | READY | STATUS | RESTARTS | AGE | IP | NODE | NOMINATED NODE | READINESS GATES\n\
         pending | 0/1 | Pending | 0 | 5m | <none> | <none> | <none> | <none>\n\
         creating | 0/1 | ContainerCreating | 0 | 5m | <none> | n1 | <none> | <none>\n\
         running | 1/1 | Running | 0 | 5m | 10.0.0.2 | n1 | <none> | <none>\n\
         crashing | 0/1 | CrashLoopBackOff | 3 (60s ago) | 5m | <none> | n1 | <none> | <none>\n\
         done | 0/1 | Completed | 0 | 5m | <none> | n1 | <none> | <none>\n\
         killed | 0/1 | Signal:9 | 0 | 5m | <none> | n1 | <none> | <none>\n\
         evicted | 0/1 | Evicted | 0 | 5m | <none> | n1 | <none> | <none>\n\
         init | 0/1 | Init:1/2 | 0 | 5m | <none> | <none> | <none> | <none>\n\
         init-error | 0/1 | Init:Error | 0 | 5m | <none> | <none> | <none> | <none>"
    );
    let mut going = pod(
        "going",
        one,
        json!({"phase": "Running", "containerStatuses": [running]}),
    );
    going["metadata"]["deletionTimestamp"] = NOW.into();
    assert!(print("", "pods", &[going]).contains("going | 1/1 | Terminating | 0 | 5m"));
}

#[test]
fn nodes() {
    let node = |name: &str, labels: Value, spec: Value, conditions: Value| {
        json!({
            "metadata": {"name": name, "creationTimestamp": BORN, "labels": labels}, "spec": spec,
            "status": {
                "conditions": conditions,
                "addresses": [{"type": "InternalIP", "address": "172.20.0.11"}, {"type": "Hostname", "address": name}],
                "nodeInfo": {"kubeletVersion": "v1.31.4+malha", "osImage": "Debian", "kernelVersion": "6.1"},
            },
        })
    };
    let ready = json!([{"type": "Ready", "status": "True"}]);
    let objects = [
        node(
            "a",
            json!({"node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "edge"}),
            json!({}),
            ready.clone(),
        ),
        node("b", json!({}), json!({"unschedulable": true}), ready),
        node(
            "c",
            json!({}),
            json!({}),
            json!([{"type": "Ready", "status": "Unknown"}]),
        ),
        node("d", json!({}), json!({}), json!([])),
    ];
    assert_eq!(
        print("", "nodes", &objects),
        "NAME | STATUS | ROLES | AGE | VERSION | INTERNAL-IP | EXTERNAL-IP | OS-IMAGE | KERNEL-VERSION | CONTAINER-RUNTIME\n\
         a | Ready | control-plane,edge | 5m | v1.31.4+malha | 172.20.0.11 | <none> | Debian | 6.1 | <unknown>\n\
         b | Ready,SchedulingDisabled | <none> | 5m | v1.31.4+malha | 172.20.0.11 | <none> | Debian | 6.1 | <unknown>\n\
         c | NotReady | <none> | 5m | v1.31.4+malha | 172.20.0.11 | <none> | Debian | 6.1 | <unknown>\n\
         d | Unknown | <none> | 5m | v1.31.4+malha | 172.20.0.11 | <none> | Debian | 6.1 | <unknown>"
    );
}

#[test]
fn workloads() {
    let metadata = json!({"name": "w", "creationTimestamp": BORN});
    let template = json!({"spec": {"nodeSelector": {"kubernetes.io/os": "linux"},
        "containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "y"}]}});
    let selector = json!({"matchLabels": {"app": "w"}});
    let set = json!({"metadata": metadata, "spec": {"template": template, "selector": selector},
        "status": {"desiredNumberScheduled": 3, "currentNumberScheduled": 3, "numberReady": 2, "updatedNumberScheduled": 3, "numberAvailable": 2}});
    assert_eq!(
        print("apps", "daemonsets", &[set]),
        "NAME | DESIRED | CURRENT | READY | UP-TO-DATE | AVAILABLE | NODE SELECTOR | AGE | CONTAINERS | IMAGES | SELECTOR\n\
         w | 3 | 3 | 2 | 3 | 2 | kubernetes.io/os=linux | 5m | a,b | x,y | app=w"
    );
    let deployment = json!({"metadata": metadata, "spec": {"replicas": 2, "template": template, "selector": selector},
        "status": {"replicas": 2, "readyReplicas": 1, "updatedReplicas": 2, "availableReplicas": 1}});
    assert_eq!(
        print("apps", "deployments", std::slice::from_ref(&deployment)),
        "NAME | READY | UP-TO-DATE | AVAILABLE | AGE | CONTAINERS | IMAGES | SELECTOR\n\
         w | 1/2 | 2 | 1 | 5m | a,b | x,y | app=w"
    );
    assert_eq!(
        print("apps", "replicasets", &[deployment]),
        "NAME | DESIRED | CURRENT | READY | AGE | CONTAINERS | IMAGES | SELECTOR\n\
         w | 2 | 2 | 1 | 5m | a,b | x,y | app=w"
    );
    let revision = json!({"metadata": {"name": "w-1", "creationTimestamp": BORN, "ownerReferences": [
        {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "w", "controller": true}]}, "revision": 4});
    assert_eq!(
        print("apps", "controllerrevisions", &[revision]),
        "NAME | CONTROLLER | REVISION | AGE\nw-1 | daemonset.apps/w | 4 | 5m"
    );
}

#[test]
fn network() {
    let service = json!({"metadata": {"name": "s", "creationTimestamp": BORN}, "spec": {
        "type": "NodePort", "clusterIP": "10.96.0.9", "selector": {"app": "x"},
        "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}});
    let balancer = json!({"metadata": {"name": "l", "creationTimestamp": BORN}, "spec": {"type": "LoadBalancer", "clusterIP": "None"}});
    assert_eq!(
        print("", "services", &[service, balancer]),
        "NAME | TYPE | CLUSTER-IP | EXTERNAL-IP | PORT(S) | AGE | SELECTOR\n\
         s | NodePort | 10.96.0.9 | <none> | 80:30080/TCP,53/UDP | 5m | app=x\n\
         l | LoadBalancer | None | <pending> | <none> | 5m | <none>"
    );
    let endpoints = json!({"metadata": {"name": "e", "creationTimestamp": BORN}, "subsets": [
        {"addresses": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}, {"ip": "10.0.0.3"}, {"ip": "10.0.0.4"}], "ports": [{"port": 80}]}]});
    assert_eq!(
        print("", "endpoints", &[endpoints]),
        "NAME | ENDPOINTS | AGE\ne | 10.0.0.1:80,[fd00::1]:80,10.0.0.3:80 + 1 more... | 5m"
    );
    let slice = json!({"metadata": {"name": "e", "creationTimestamp": BORN}, "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]});
    let empty =
        json!({"metadata": {"name": "f", "creationTimestamp": BORN}, "addressType": "IPv6"});
    assert_eq!(
        print("discovery.k8s.io", "endpointslices", &[slice, empty]),
        "NAME | ADDRESSTYPE | PORTS | ENDPOINTS | AGE\ne | IPv4 | 80 | 10.0.0.1 | 5m\nf | IPv6 | <unset> | <unset> | 5m"
    );
    let policy = |selector: Value| json!({"metadata": {"name": "p", "creationTimestamp": BORN}, "spec": {"podSelector": selector}});
    assert_eq!(
        print(
            "networking.k8s.io",
            "networkpolicies",
            &[
                policy(json!({})),
                policy(
                    json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "In", "values": ["d", "e"]}]})
                ),
            ]
        ),
        "NAME | POD-SELECTOR | AGE\np | <none> | 5m\np | a=b,c in (d,e) | 5m"
    );
}

#[test]
fn the_rest() {
    let named = |more: Value| {
        let mut object = json!({"metadata": {"name": "x", "creationTimestamp": BORN}});
        object
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        object
    };
    for (group, plural, object, expected) in [
        (
            "",
            "configmaps",
            named(json!({"data": {"a": "1"}, "binaryData": {"b": ""}})),
            "NAME | DATA | AGE\nx | 2 | 5m",
        ),
        (
            "",
            "secrets",
            named(json!({"type": "Opaque", "data": {"a": ""}})),
            "NAME | TYPE | DATA | AGE\nx | Opaque | 1 | 5m",
        ),
        (
            "",
            "serviceaccounts",
            named(json!({})),
            "NAME | SECRETS | AGE\nx | 0 | 5m",
        ),
        (
            "",
            "namespaces",
            named(json!({"status": {"phase": "Active"}})),
            "NAME | STATUS | AGE\nx | Active | 5m",
        ),
        (
            "coordination.k8s.io",
            "leases",
            named(json!({"spec": {"holderIdentity": "n1"}})),
            "NAME | HOLDER | AGE\nx | n1 | 5m",
        ),
        (
            "rbac.authorization.k8s.io",
            "roles",
            named(json!({})),
            "NAME | CREATED AT\nx | 2026-11-23T06:55:00Z",
        ),
        (
            "rbac.authorization.k8s.io",
            "clusterrolebindings",
            named(
                json!({"roleRef": {"kind": "ClusterRole", "name": "admin"}, "subjects": [
                {"kind": "User", "name": "u"}, {"kind": "Group", "name": "g"}, {"kind": "ServiceAccount", "namespace": "n", "name": "s"}]}),
            ),
            "NAME | ROLE | AGE | USERS | GROUPS | SERVICEACCOUNTS\nx | ClusterRole/admin | 5m | u | g | n/s",
        ),
        (
            "scheduling.k8s.io",
            "priorityclasses",
            named(json!({"value": 7})),
            "NAME | VALUE | GLOBAL-DEFAULT | AGE | PREEMPTIONPOLICY\nx | 7 | false | 5m | PreemptLowerPriority",
        ),
        (
            "node.k8s.io",
            "runtimeclasses",
            named(json!({"handler": "runc"})),
            "NAME | HANDLER | AGE\nx | runc | 5m",
        ),
        (
            "storage.k8s.io",
            "csinodes",
            named(json!({"spec": {"drivers": []}})),
            "NAME | DRIVERS | AGE\nx | 0 | 5m",
        ),
        (
            "policy",
            "poddisruptionbudgets",
            named(json!({})),
            "NAME | AGE\nx | 5m",
        ),
        (
            "certificates.k8s.io",
            "certificatesigningrequests",
            named(
                json!({"spec": {"signerName": "s/k", "username": "u"}, "status": {"certificate": "QQ==", "conditions": [{"type": "Approved"}]}}),
            ),
            "NAME | AGE | SIGNERNAME | REQUESTOR | REQUESTEDDURATION | CONDITION\nx | 5m | s/k | u | <none> | Approved,Issued",
        ),
        (
            "",
            "events",
            named(
                json!({"type": "Normal", "reason": "Started", "message": " hi\n", "count": 2, "involvedObject": {"kind": "Pod", "name": "p"},
                "source": {"component": "kubelet", "host": "n1"}, "firstTimestamp": BORN, "lastTimestamp": "2026-11-23T06:59:30Z"}),
            ),
            "LAST SEEN | TYPE | REASON | OBJECT | SUBOBJECT | SOURCE | MESSAGE | FIRST SEEN | COUNT | NAME\n\
             30s | Normal | Started | pod/p |  | kubelet, n1 | hi | 5m | 2 | x",
        ),
    ] {
        assert_eq!(print(group, plural, &[object]), expected, "{plural}");
    }
}

#[test]
fn rows_carry_what_is_asked_for() {
    let resource = find("", "v1", "pods").unwrap();
    let object = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p"}, "status": {"phase": "Succeeded"}});
    let table = |include| render(resource, [&object], "7", include, NOW.parse().unwrap());
    assert_eq!(table(Include::None)["rows"][0]["object"], Value::Null);
    assert_eq!(table(Include::Object)["rows"][0]["object"], object);
    let metadata = table(Include::Metadata);
    assert_eq!(
        metadata["rows"][0]["object"],
        json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {"name": "p"}})
    );
    assert_eq!(metadata["rows"][0]["conditions"][0]["type"], "Completed");
    assert_eq!(metadata["metadata"]["resourceVersion"], "7");
    assert_eq!(metadata["columnDefinitions"][0]["format"], "name");
}
