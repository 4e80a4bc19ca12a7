//! What admission lets pass and what it fills in, as tables.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Request, admit};
use crate::{
    attributes::UserInfo,
    auth::testing::{Memory, attributes, node, user},
    status::Status,
};

const RBAC: &str = "rbac.authorization.k8s.io";

fn store() -> Memory {
    let mut store = Memory::with_defaults();
    store.put(
        "",
        "serviceaccounts",
        json!({"metadata": {"namespace": "default", "name": "default"}}),
    );
    store.put("", "namespaces", json!({
        "metadata": {"name": "leaving", "deletionTimestamp": "2026-11-23T00:00:00Z"}, "status": {"phase": "Terminating"},
    }));
    for (name, at) in [("p1", "w1"), ("p2", "w2")] {
        store.put(
            "",
            "pods",
            json!({
                "metadata": {"namespace": "default", "name": name, "uid": format!("uid-{name}")},
                "spec": {"nodeName": at},
            }),
        );
    }
    store
}

/// Runs admission; `what` as in [`attributes`].
fn run(
    who: &UserInfo,
    what: &str,
    old: Option<&Value>,
    object: &mut Value,
    store: &Memory,
) -> Result<(), Status> {
    let request = Request {
        user: who,
        attributes: &attributes(what),
        old,
        objects: store,
        now: Timestamp::UNIX_EPOCH,
    };
    admit(&request, object)
}

fn admin() -> UserInfo {
    user("root", &["system:masters"])
}

fn pod(spec: Value) -> Value {
    json!({"metadata": {"namespace": "default", "name": "p"}, "spec": spec})
}

fn message(result: Result<(), Status>) -> (u16, String) {
    let status = result.unwrap_err();
    (status.code, status.message)
}

#[test]
fn namespaces_come_first_and_three_stay() {
    let store = store();
    let create = |namespace: &str| {
        let what = format!("create configmaps {namespace}/");
        run(
            &admin(),
            &what,
            None,
            &mut json!({"metadata": {"name": "c"}}),
            &store,
        )
    };
    assert_eq!(create("default"), Ok(()));
    assert_eq!(
        message(create("nonexist")),
        (404, "namespaces \"nonexist\" not found".to_owned())
    );
    let refused = create("leaving").unwrap_err();
    assert_eq!(
        refused.message,
        "configmaps \"c\" is forbidden: unable to create new content in namespace leaving because it is being terminated"
    );
    assert_eq!(
        refused.details["causes"][0]["reason"],
        "NamespaceTerminating"
    );
    // A patch that creates is a creation; changing and deleting what is there goes on.
    let old = json!({"metadata": {"name": "c"}});
    let what = "patch configmaps leaving/c";
    assert!(run(&admin(), what, None, &mut old.clone(), &store).is_err());
    assert_eq!(
        run(&admin(), what, Some(&old), &mut old.clone(), &store),
        Ok(())
    );
    for (name, allowed) in [
        ("default", false),
        ("kube-system", false),
        ("kube-public", false),
        ("mine", true),
    ] {
        let what = format!("delete namespaces {name}");
        assert_eq!(
            run(&admin(), &what, Some(&json!({})), &mut Value::Null, &store).is_ok(),
            allowed,
            "{name}"
        );
    }
}

#[test]
fn a_pod_gets_its_account_tolerations_and_priority() {
    let store = store();
    let mut object = pod(json!({"containers": [{"name": "c"}], "initContainers": [{"name": "i"}]}));
    run(&admin(), "create pods default/", None, &mut object, &store).unwrap();
    let spec = &object["spec"];
    let volume = &spec["volumes"][0];
    let name = volume["name"].as_str().unwrap();
    assert!(
        name.starts_with("kube-api-access-") && name.len() == 21,
        "{name}"
    );
    assert_eq!(
        volume["projected"],
        json!({"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [
                {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
            ]}},
        ]})
    );
    let mount = json!([{"name": name, "readOnly": true, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}]);
    assert_eq!(spec["containers"][0]["volumeMounts"], mount);
    assert_eq!(spec["initContainers"][0]["volumeMounts"], mount);
    assert_eq!(
        (&spec["serviceAccountName"], &spec["serviceAccount"]),
        (&json!("default"), &json!("default"))
    );
    assert_eq!(
        (&spec["priority"], &spec["preemptionPolicy"]),
        (&json!(0), &json!("PreemptLowerPriority"))
    );
    assert_eq!(
        spec["tolerations"],
        json!([
            {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
            {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
        ])
    );
}

#[test]
fn a_pod_that_says_otherwise_keeps_what_it_says() {
    let store = store();
    let mut object = pod(json!({
        "automountServiceAccountToken": false, "priorityClassName": "system-node-critical",
        "tolerations": [{"operator": "Exists"}], "containers": [{"name": "c"}],
    }));
    run(&admin(), "create pods default/", None, &mut object, &store).unwrap();
    assert_eq!(object["spec"].get("volumes"), None);
    assert_eq!(object["spec"]["priority"], 2_000_001_000);
    assert_eq!(
        object["spec"]["tolerations"],
        json!([{"operator": "Exists"}])
    );
    let table = [
        (
            json!({"serviceAccountName": "nope"}),
            "pods \"p\" is forbidden: error looking up service account default/nope: serviceaccount \"nope\" not found",
        ),
        (
            json!({"priorityClassName": "nope"}),
            "pods \"p\" is forbidden: no PriorityClass with name nope was found",
        ),
        (
            json!({"priority": 5}),
            "pods \"p\" is forbidden: the integer value of priority (5) must not be provided in pod spec; \
             priority admission controller computed 0 from the given PriorityClass name",
        ),
    ];
    for (spec, text) in table {
        let refused = run(
            &admin(),
            "create pods default/",
            None,
            &mut pod(spec),
            &store,
        );
        assert_eq!(message(refused), (403, text.to_owned()));
    }
}

#[test]
fn a_new_node_is_tainted_once() {
    let store = store();
    let taint = json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]);
    for spec in [json!(null), json!({}), json!({"taints": taint})] {
        let mut object = json!({"metadata": {"name": "w1"}, "spec": spec});
        run(&node("w1"), "create nodes", None, &mut object, &store).unwrap();
        assert_eq!(object["spec"]["taints"], taint);
    }
}

#[test]
fn a_node_writes_its_own_only() {
    let store = store();
    let own = |name: &str| json!({"metadata": {"name": name, "labels": {"a": "b"}}, "spec": {}});
    let with = |pointer: &str, value: Value| {
        let mut object = own("w1");
        *object.pointer_mut(pointer).unwrap() = value;
        object
    };
    let old_pod =
        |name: &str, at: &str| json!({"metadata": {"name": name}, "spec": {"nodeName": at}});
    let label = |key: &str| with("/metadata/labels", json!({"a": "b", key: "x"}));
    let bound = |pod: &str, uid: &str| json!({"spec": {"boundObjectRef": {"kind": "Pod", "name": pod, "uid": uid}}});
    let table: [(&str, Option<Value>, Value, &str); 24] = [
        (
            "patch nodes w1",
            Some(own("w1")),
            label("kubernetes.io/hostname"),
            "",
        ),
        (
            "patch nodes w1",
            Some(own("w1")),
            label("example.com/any"),
            "",
        ),
        (
            "patch nodes w1",
            Some(own("w1")),
            label("node.kubernetes.io/any"),
            "",
        ),
        (
            "patch nodes w2",
            Some(own("w2")),
            own("w2"),
            "nodes \"w2\" is forbidden: node \"w1\" is not allowed to modify node \"w2\"",
        ),
        (
            "patch nodes/status w2",
            Some(own("w2")),
            own("w2"),
            "nodes \"w2\" is forbidden: node \"w1\" is not allowed to modify node \"w2\"",
        ),
        (
            "create nodes",
            None,
            own("w2"),
            "nodes \"w2\" is forbidden: node \"w1\" is not allowed to modify node \"w2\"",
        ),
        (
            "patch nodes w1",
            Some(own("w1")),
            label("node-restriction.kubernetes.io/zone"),
            "nodes \"w1\" is forbidden: node \"w1\" is not allowed to modify labels: node-restriction.kubernetes.io/zone",
        ),
        (
            "update nodes w1",
            Some(label("node-role.kubernetes.io/worker")),
            own("w1"),
            "nodes \"w1\" is forbidden: node \"w1\" is not allowed to modify labels: node-role.kubernetes.io/worker",
        ),
        (
            "patch nodes/status w1",
            Some(own("w1")),
            with("/spec", json!({"taints": [{"key": "x"}]})),
            "nodes \"w1\" is forbidden: node \"w1\" is not allowed to modify taints",
        ),
        (
            "patch pods/status default/p1",
            Some(old_pod("p1", "w1")),
            old_pod("p1", "w1"),
            "",
        ),
        (
            "patch pods/status default/p2",
            Some(old_pod("p2", "w2")),
            old_pod("p2", "w1"),
            "pods \"p2\" is forbidden: node \"w1\" can only update pod status for pods with spec.nodeName set to itself",
        ),
        (
            "delete pods default/p1",
            Some(old_pod("p1", "w1")),
            Value::Null,
            "",
        ),
        (
            "delete pods default/p2",
            Some(old_pod("p2", "w2")),
            Value::Null,
            "pods \"p2\" is forbidden: node \"w1\" can only delete pods with spec.nodeName set to itself",
        ),
        (
            "update pods default/p1",
            Some(old_pod("p1", "w1")),
            old_pod("p1", "w1"),
            "pods \"p1\" is forbidden: unexpected operation \"UPDATE\", node \"w1\" can only create and delete mirror pods",
        ),
        ("create pods/eviction default/p1", None, json!({}), ""),
        (
            "create pods/eviction default/p2",
            None,
            json!({}),
            "pods \"p2\" is forbidden: node w1 can only evict pods with spec.nodeName set to itself",
        ),
        (
            "update leases.coordination.k8s.io kube-node-lease/w1",
            Some(json!({})),
            json!({}),
            "",
        ),
        (
            "create leases.coordination.k8s.io kube-node-lease/",
            None,
            json!({"metadata": {"name": "w2"}}),
            "leases.coordination.k8s.io \"w2\" is forbidden: can only access node lease with the same name as the requesting node",
        ),
        (
            "create csinodes.storage.k8s.io",
            None,
            json!({"metadata": {"name": "w2"}}),
            "csinodes.storage.k8s.io \"w2\" is forbidden: can only access CSINode with the same name as the requesting node",
        ),
        (
            "create serviceaccounts/token default/default",
            None,
            bound("p1", "uid-p1"),
            "",
        ),
        (
            "create serviceaccounts/token default/default",
            None,
            json!({"spec": {}}),
            "serviceaccounts \"default\" is forbidden: node requested token not bound to a pod",
        ),
        (
            "create serviceaccounts/token default/default",
            None,
            bound("p1", ""),
            "serviceaccounts \"default\" is forbidden: node requested token with a pod binding without a uid",
        ),
        (
            "create serviceaccounts/token default/default",
            None,
            bound("p2", "uid-p2"),
            "serviceaccounts \"default\" is forbidden: node requested token bound to a pod scheduled on a different node",
        ),
        (
            "create serviceaccounts/token default/default",
            None,
            bound("gone", "x"),
            "pods \"gone\" not found",
        ),
    ];
    for (what, old, mut object, text) in table {
        let result = run(&node("w1"), what, old.as_ref(), &mut object, &store);
        let said = result
            .err()
            .map(|status| status.message)
            .unwrap_or_default();
        assert_eq!(said, text, "{what}");
    }
}

#[test]
fn a_node_makes_mirror_pods_only() {
    let store = store();
    let mirror = |spec: Value| json!({"metadata": {"name": "m", "annotations": {"kubernetes.io/config.mirror": "x"}}, "spec": spec});
    let table = [
        (mirror(json!({"nodeName": "w1", "containers": []})), ""),
        (
            pod(json!({"nodeName": "w1", "containers": []})),
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node \"w1\" can only create mirror pods",
        ),
        (
            mirror(json!({"nodeName": "w2"})),
            "node \"w1\" can only create pods with spec.nodeName set to itself",
        ),
        (
            mirror(json!({"nodeName": "w1", "serviceAccountName": "default"})),
            "a mirror pod may not reference service accounts",
        ),
        (
            mirror(json!({"nodeName": "w1", "volumes": [{"secret": {"secretName": "s"}}]})),
            "a mirror pod may not reference secrets",
        ),
        (
            mirror(
                json!({"nodeName": "w1", "volumes": [{"projected": {"sources": [{"serviceAccountToken": {}}]}}]}),
            ),
            "a mirror pod may not use ServiceAccountToken volume projections",
        ),
        (
            mirror(json!({"nodeName": "w1", "volumes": [{"configMap": {"name": "c"}}]})),
            "node \"w1\" can not create pods that reference configmaps",
        ),
    ];
    for (mut object, text) in table {
        let result = run(
            &node("w1"),
            "create pods default/",
            None,
            &mut object,
            &store,
        );
        let said = result
            .err()
            .map(|status| status.message)
            .unwrap_or_default();
        assert!(
            said.ends_with(text) && said.is_empty() == text.is_empty(),
            "{said}"
        );
        let mirror = object.pointer("/metadata/annotations").is_some();
        assert!(
            !mirror
                || object["spec"]
                    .get("volumes")
                    .is_none_or(|v| v[0].get("name").is_none()),
            "left alone"
        );
    }
}

const CSR: &str = "certificatesigningrequests.certificates.k8s.io";

#[test]
fn a_signing_request_says_who_asks_and_keeps_it() {
    let store = store();
    let joe = user("joe", &["devs"]);
    let mut csr = json!({
        "metadata": {"name": "c"},
        "spec": {"username": "root", "groups": ["system:masters"], "uid": "0", "extra": {"a": ["b"]}, "signerName": "example.com/s"},
        "status": {"conditions": [{"type": "Approved", "status": "True"}]},
    });
    run(&joe, &format!("create {CSR}"), None, &mut csr, &store).unwrap();
    assert_eq!(
        csr["spec"],
        json!({"username": "joe", "groups": ["devs", "system:authenticated"], "signerName": "example.com/s"})
    );
    assert_eq!(csr["status"], json!({}));
    let mut changed = csr.clone();
    changed["spec"]["username"] = "root".into();
    changed["status"] = json!({"conditions": [{"type": "Approved"}], "certificate": "x"});
    run(
        &joe,
        &format!("update {CSR} c"),
        Some(&csr),
        &mut changed,
        &store,
    )
    .unwrap();
    assert_eq!(changed, csr);
}

#[test]
fn approving_and_signing_need_their_own_rights() {
    let mut store = store();
    let csr = json!({"metadata": {"name": "c"}, "spec": {"signerName": "kubernetes.io/kubelet-serving", "username": "x"}});
    let approved = {
        let mut csr = csr.clone();
        csr["status"] = json!({"conditions": [{"type": "Approved", "status": "True"}], "certificate": "forged"});
        csr
    };
    let joe = user("joe", &[]);
    let (approval, status) = (
        format!("update {CSR}/approval c"),
        format!("update {CSR}/status c"),
    );
    assert_eq!(
        message(run(&joe, &approval, Some(&csr), &mut approved.clone(), &store)),
        (
            403,
            "certificatesigningrequests.certificates.k8s.io \"c\" is forbidden: user not permitted to approve requests \
             with signerName \"kubernetes.io/kubelet-serving\""
                .to_owned()
        )
    );
    let forbidden = message(run(
        &joe,
        &status,
        Some(&csr),
        &mut approved.clone(),
        &store,
    ));
    assert!(
        forbidden.1.contains("not permitted to sign"),
        "{}",
        forbidden.1
    );
    store.put(RBAC, "clusterroles", json!({"metadata": {"name": "a"}, "rules": [
        {"verbs": ["approve", "sign"], "apiGroups": ["certificates.k8s.io"], "resources": ["signers"],
         "resourceNames": ["kubernetes.io/*"]},
    ]}));
    store.put(
        RBAC,
        "clusterrolebindings",
        json!({
            "metadata": {"name": "a"}, "roleRef": {"kind": "ClusterRole", "name": "a"},
            "subjects": [{"kind": "User", "name": "joe"}],
        }),
    );
    let mut object = approved.clone();
    run(&joe, &approval, Some(&csr), &mut object, &store).unwrap();
    assert_eq!(
        object["status"],
        json!({"conditions": [{"type": "Approved", "status": "True"}]}),
        "no certificate slips in"
    );
    let mut object = approved;
    run(&joe, &status, Some(&csr), &mut object, &store).unwrap();
    assert_eq!(
        object["status"],
        json!({"conditions": [], "certificate": "forged"}),
        "no approval slips in"
    );
}

#[test]
fn nobody_signs_up_as_superuser() {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let store = store();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::default();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters
        .distinguished_name
        .push(rcgen::DnType::OrganizationName, "system:masters");
    let pem = parameters.serialize_request(&key).unwrap().pem().unwrap();
    let mut csr = json!({"metadata": {"name": "c"}, "spec": {
        "signerName": "kubernetes.io/kube-apiserver-client", "request": STANDARD.encode(pem),
    }});
    let refused = message(run(
        &admin(),
        &format!("create {CSR}"),
        None,
        &mut csr,
        &store,
    ));
    assert!(
        refused
            .1
            .ends_with("signer with system:masters group is not allowed"),
        "{}",
        refused.1
    );
}

#[test]
fn nobody_hands_out_what_they_do_not_hold() {
    let mut store = store();
    store.put(RBAC, "rolebindings", json!({
        "metadata": {"namespace": "default", "name": "b"}, "roleRef": {"kind": "ClusterRole", "name": "admin"},
        "subjects": [{"kind": "User", "name": "joe"}],
    }));
    let joe = user("joe", &[]);
    let role = |rules: Value| json!({"kind": "Role", "metadata": {"name": "r"}, "rules": rules});
    let rule = |verb: &str, resource: &str| json!([{"verbs": [verb], "apiGroups": [""], "resources": [resource]}]);
    let table = [
        (rule("get", "pods"), true),
        (rule("get", "secrets"), true),
        (rule("*", "pods"), false),
        (rule("get", "*"), false),
        (rule("get", "nodes"), false),
        (
            json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}]),
            true,
        ),
        (
            json!([{"verbs": ["get"], "nonResourceURLs": ["/metrics"]}]),
            false,
        ),
        (json!([]), true),
    ];
    for (rules, allowed) in table {
        let result = run(
            &joe,
            "create roles.rbac.authorization.k8s.io default/",
            None,
            &mut role(rules.clone()),
            &store,
        );
        assert_eq!(result.is_ok(), allowed, "{rules}: {result:?}");
    }
    let refused = run(
        &joe,
        "create roles.rbac.authorization.k8s.io default/",
        None,
        &mut role(rule("get", "nodes")),
        &store,
    );
    assert_eq!(
        message(refused).1,
        "roles.rbac.authorization.k8s.io \"r\" is forbidden: user \"joe\" (groups=[\"system:authenticated\"]) is \
         attempting to grant RBAC permissions not currently held:\n\
         {APIGroups:[\"\"], Resources:[\"nodes\"], Verbs:[\"get\"]}"
    );
    let binding = |role: &str| {
        json!({
            "kind": "RoleBinding", "metadata": {"name": "x"}, "roleRef": {"kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "User", "name": "friend"}],
        })
    };
    let what = "create rolebindings.rbac.authorization.k8s.io default/";
    for (name, code) in [
        ("view", 0),
        ("admin", 0),
        ("cluster-admin", 403),
        ("nope", 404),
    ] {
        let result = run(&joe, what, None, &mut binding(name), &store);
        assert_eq!(result.err().map_or(0, |status| status.code), code, "{name}");
    }
    // An aggregated role may grow to hold anything.
    let mut grown =
        json!({"metadata": {"name": "g"}, "aggregationRule": {"clusterRoleSelectors": []}});
    let what = "create clusterroles.rbac.authorization.k8s.io";
    assert_eq!(message(run(&joe, what, None, &mut grown, &store)).0, 403);
    assert_eq!(run(&admin(), what, None, &mut grown, &store), Ok(()));
    // What a binding binds to stays, for everyone.
    let mut moved = binding("cluster-admin");
    let what = "update rolebindings.rbac.authorization.k8s.io default/x";
    assert_eq!(
        message(run(
            &admin(),
            what,
            Some(&binding("view")),
            &mut moved,
            &store
        ))
        .0,
        422
    );
}
