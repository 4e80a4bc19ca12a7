//! Verdicts as tables: who, what, allowed.

use serde_json::json;

use super::{
    authorize,
    testing::{Memory, attributes, node, user},
};

const BOOTSTRAP_GROUP: &str = "system:bootstrappers:kubeadm:default-node-token";

#[test]
fn default_roles_give_what_kubernetes_gives() {
    let mut store = Memory::with_defaults();
    for role in ["view", "edit", "admin"] {
        store.put(
            "rbac.authorization.k8s.io",
            "rolebindings",
            json!({
                "metadata": {"namespace": "default", "name": role},
                "roleRef": {"kind": "ClusterRole", "name": role},
                "subjects": [{"kind": "User", "name": role}],
            }),
        );
    }
    let bootstrap = user(
        "system:bootstrap:abcdef",
        &["system:bootstrappers", BOOTSTRAP_GROUP],
    );
    let plain = |name| user(name, &[]);
    let table = [
        (user("root", &["system:masters"]), "delete nodes w1", true),
        (
            user("kubernetes-admin", &["kubeadm:cluster-admins"]),
            "delete secrets kube-system/x",
            true,
        ),
        (
            user("kubernetes-admin", &["kubeadm:cluster-admins"]),
            "get /metrics",
            true,
        ),
        (super::anonymous(), "get /version", true),
        (super::anonymous(), "get /api", false),
        (
            super::anonymous(),
            "get configmaps kube-public/cluster-info",
            true,
        ),
        (super::anonymous(), "list configmaps kube-public/", false),
        (
            super::anonymous(),
            "get configmaps kube-public/other",
            false,
        ),
        (super::anonymous(), "get secrets kube-system/x", false),
        (plain("x"), "get /api/v1", true),
        (plain("x"), "get /metrics", false),
        (
            plain("x"),
            "create selfsubjectaccessreviews.authorization.k8s.io",
            true,
        ),
        (plain("x"), "list pods default/", false),
        (
            bootstrap.clone(),
            "create certificatesigningrequests.certificates.k8s.io",
            true,
        ),
        (
            bootstrap.clone(),
            "create certificatesigningrequests.certificates.k8s.io/nodeclient",
            true,
        ),
        (
            bootstrap.clone(),
            "create certificatesigningrequests.certificates.k8s.io/selfnodeclient",
            false,
        ),
        (bootstrap.clone(), "list secrets kube-system/", false),
        (
            bootstrap.clone(),
            "get configmaps kube-system/kubeadm-config",
            true,
        ),
        (
            bootstrap.clone(),
            "get configmaps kube-system/kubelet-config",
            true,
        ),
        (bootstrap.clone(), "get configmaps kube-system/other", false),
        (bootstrap.clone(), "get nodes w1", true),
        (bootstrap, "list nodes", false),
        (plain("view"), "list pods default/", true),
        (plain("view"), "get pods/log default/p", true),
        (plain("view"), "get secrets default/s", false),
        (plain("view"), "create pods default/", false),
        (plain("view"), "list pods kube-system/", false),
        (plain("view"), "list pods", false),
        (plain("edit"), "get secrets default/s", true),
        (plain("edit"), "get configmaps default/c", true),
        (plain("edit"), "create pods/exec default/p", true),
        (
            plain("edit"),
            "create roles.rbac.authorization.k8s.io default/",
            false,
        ),
        (
            plain("admin"),
            "create roles.rbac.authorization.k8s.io default/",
            true,
        ),
        (plain("admin"), "get pods default/p", true),
        (plain("admin"), "get nodes w1", false),
    ];
    for (who, what, allowed) in table {
        let verdict = authorize(&who, &attributes(what), &store);
        assert_eq!(verdict.is_ok(), allowed, "{} {what}: {verdict:?}", who.name);
    }
}

#[test]
fn rules_match_names_subresources_and_paths() {
    let mut store = Memory::default();
    let group = "rbac.authorization.k8s.io";
    store.put(
        group,
        "clusterroles",
        json!({"metadata": {"name": "r"}, "rules": [
            {"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"]},
            {"verbs": ["update"], "apiGroups": ["*"], "resources": ["*/scale"]},
            {"verbs": ["get"], "apiGroups": [""], "resources": ["pods/log"]},
            {"verbs": ["get"], "nonResourceURLs": ["/logs/*", "/exact"]},
        ]}),
    );
    store.put(
        group,
        "clusterrolebindings",
        json!({
            "metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": "r"},
            "subjects": [{"kind": "ServiceAccount", "namespace": "ns", "name": "sa"}],
        }),
    );
    let table = [
        ("get configmaps x/a", true),
        ("get configmaps x/b", false),
        ("list configmaps x/", false),
        ("list configmaps x/a", false),
        ("update deployments.apps/scale x/a", true),
        ("update deployments.apps x/a", false),
        ("update deployments.apps/status x/a", false),
        ("get pods/log x/a", true),
        ("get pods x/a", false),
        ("get /logs/", true),
        ("get /logs/a/b", true),
        ("get /exact", true),
        ("get /exact/more", false),
        ("get /", false),
    ];
    let account = user("system:serviceaccount:ns:sa", &[]);
    let other = user("system:serviceaccount:other:sa", &[]);
    for (what, allowed) in table {
        let verdict = authorize(&account, &attributes(what), &store);
        assert_eq!(verdict.is_ok(), allowed, "{what}: {verdict:?}");
        assert!(
            authorize(&other, &attributes(what), &store).is_err(),
            "{what}"
        );
    }
}

#[test]
fn refusals_read_as_kubernetes() {
    let store = Memory::with_defaults();
    let table = [
        (
            "list pods default/",
            "pods is forbidden: User \"x\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"",
        ),
        (
            "get pods/log default/p",
            "pods \"p\" is forbidden: User \"x\" cannot get resource \"pods/log\" in API group \"\" in the namespace \"default\"",
        ),
        (
            "delete deployments.apps default/d",
            "deployments.apps \"d\" is forbidden: User \"x\" cannot delete resource \"deployments\" in API group \"apps\" in the namespace \"default\"",
        ),
        (
            "get nodes w1",
            "nodes \"w1\" is forbidden: User \"x\" cannot get resource \"nodes\" in API group \"\" at the cluster scope",
        ),
        (
            "get /metrics",
            "forbidden: User \"x\" cannot get path \"/metrics\"",
        ),
    ];
    for (what, text) in table {
        let status = authorize(&user("x", &[]), &attributes(what), &store).unwrap_err();
        assert_eq!(
            (status.code, status.reason, status.message.as_str()),
            (403, "Forbidden", text)
        );
    }
}

#[test]
fn a_node_reads_what_its_pods_name() {
    let mut store = Memory::with_defaults();
    let pod = |name: &str, node: &str| {
        json!({
            "metadata": {"namespace": "default", "name": name},
            "spec": {
                "nodeName": node, "serviceAccountName": "runner",
                "imagePullSecrets": [{"name": "pull"}],
                "containers": [{
                    "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "env", "key": "k"}}}],
                    "envFrom": [{"configMapRef": {"name": "all"}}],
                }],
                "volumes": [
                    {"name": "s", "secret": {"secretName": "vol"}},
                    {"name": "p", "projected": {"sources": [
                        {"configMap": {"name": "kube-root-ca.crt"}}, {"secret": {"name": "proj"}},
                    ]}},
                    {"name": "c", "persistentVolumeClaim": {"claimName": "claim"}},
                ],
            },
        })
    };
    let table = [
        "get secrets default/pull",
        "get secrets default/env",
        "get secrets default/vol",
        "watch secrets default/vol",
        "list secrets default/proj",
        "get configmaps default/all",
        "get configmaps default/kube-root-ca.crt",
        "create serviceaccounts/token default/runner",
        "get persistentvolumeclaims default/claim",
    ];
    let check = |store: &Memory, allowed: bool, when: &str| {
        for what in table {
            let verdict = authorize(&node("w1"), &attributes(what), store);
            assert_eq!(verdict.is_ok(), allowed, "{when}: {what}: {verdict:?}");
        }
    };
    check(&store, false, "no pod");
    store.put("", "pods", pod("p", "w2"));
    check(&store, false, "pod on another node");
    store.put("", "pods", pod("p", "w1"));
    check(&store, true, "pod bound");
    let refused = authorize(
        &node("w1"),
        &attributes("get secrets default/other"),
        &store,
    )
    .unwrap_err();
    assert_eq!(
        refused.message,
        "secrets \"other\" is forbidden: User \"system:node:w1\" cannot get resource \"secrets\" in API group \"\" \
         in the namespace \"default\": no relationship found between node 'w1' and this object"
    );
    let mut mirror = pod("p", "w1");
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    store.put("", "pods", mirror);
    check(&store, false, "mirror pod");
}

#[test]
fn a_node_touches_only_its_own() {
    let store = Memory::with_defaults();
    let table = [
        ("list secrets", false),
        ("list secrets default/", false),
        ("list secrets kube-system/", false),
        ("watch configmaps default/", false),
        ("get nodes w1", true),
        ("create nodes", true),
        ("delete nodes w1", false),
        ("patch nodes/status w1", true),
        ("list pods", true),
        ("update pods default/p", false),
        ("patch pods/status default/p", true),
        ("create pods/binding default/p", false),
        ("list services", true),
        ("update leases.coordination.k8s.io kube-node-lease/w1", true),
        (
            "update leases.coordination.k8s.io kube-node-lease/w2",
            false,
        ),
        ("get leases.coordination.k8s.io kube-system/w1", false),
        ("create leases.coordination.k8s.io kube-node-lease/", true),
        ("list leases.coordination.k8s.io kube-node-lease/", false),
        ("create csinodes.storage.k8s.io", true),
        ("update csinodes.storage.k8s.io w2", false),
        ("create serviceaccounts/token default/any", false),
        (
            "create certificatesigningrequests.certificates.k8s.io/selfnodeclient",
            true,
        ),
        (
            "create certificatesigningrequests.certificates.k8s.io/nodeclient",
            false,
        ),
        (
            "update certificatesigningrequests.certificates.k8s.io/approval c",
            false,
        ),
        ("get configmaps kube-system/kubelet-config", true),
    ];
    for (what, allowed) in table {
        let verdict = authorize(&node("w1"), &attributes(what), &store);
        assert_eq!(verdict.is_ok(), allowed, "{what}: {verdict:?}");
    }
    // The name alone does not make a node.
    let fake = user("system:node:w1", &[]);
    assert!(authorize(&fake, &attributes("get nodes w1"), &store).is_err());
}
