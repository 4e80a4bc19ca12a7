//! The RBAC objects and priority classes every cluster starts with.
//!
//! Of Kubernetes' default ClusterRoles those that matter here: for people ([`roles`]), for nodes, discovery and
//! bootstrap; the roles of controllers that Malha does not run as separate users are left out. [`kubeadm`] adds what
//! `kubeadm init` creates so that bootstrap tokens, `cluster-info` and CSR auto-approval work for `kubeadm join` too.

mod kubeadm;
mod roles;

use std::sync::LazyLock;

use serde_json::{Value, json};

const AUTHENTICATED: &str = "Group:system:authenticated";

/// Every default object, ready to be created where it is missing (namespaces must exist first).
pub fn default_objects() -> Vec<Value> {
    let mut objects = roles::cluster_roles();
    objects.extend(bindings());
    objects.extend(kubeadm::objects());
    objects.extend(priority_classes());
    objects
}

/// What every node may do, whichever it is; the Node authorizer narrows the rest down per node.
pub(super) fn node_rules() -> &'static [Value] {
    static RULES: LazyLock<Vec<Value>> = LazyLock::new(roles::node_rules);
    &RULES
}

fn bindings() -> Vec<Value> {
    let bind = |name: &str, subjects: &[&str]| system(cluster_binding(name, name, subjects));
    vec![
        bind("cluster-admin", &["Group:system:masters"]),
        bind("system:basic-user", &[AUTHENTICATED]),
        bind("system:discovery", &[AUTHENTICATED]),
        bind(
            "system:public-info-viewer",
            &[AUTHENTICATED, "Group:system:unauthenticated"],
        ),
        bind("system:monitoring", &["Group:system:monitoring"]),
        bind("system:node", &[]),
        bind("system:node-proxier", &["User:system:kube-proxy"]),
        bind("system:kube-dns", &["ServiceAccount:kube-system/kube-dns"]),
        bind(
            "system:service-account-issuer-discovery",
            &["Group:system:serviceaccounts"],
        ),
    ]
}

fn priority_classes() -> Vec<Value> {
    let class = |name: &str, value: i64, what: &str| {
        json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": {"name": name}, "value": value,
            "preemptionPolicy": "PreemptLowerPriority",
            "description": format!("Used for system critical pods that must {what}."),
        })
    };
    vec![
        class(
            "system-cluster-critical",
            crate::admission::CLUSTER_CRITICAL,
            "run in the cluster, but can be moved to another node if necessary",
        ),
        class(
            "system-node-critical",
            crate::admission::NODE_CRITICAL,
            "not be moved from their current node",
        ),
    ]
}

/// Marks an object as one of Kubernetes' own defaults.
fn system(mut object: Value) -> Value {
    object["metadata"]["labels"]["kubernetes.io/bootstrapping"] = "rbac-defaults".into();
    object["metadata"]["annotations"]["rbac.authorization.kubernetes.io/autoupdate"] =
        "true".into();
    object
}

fn words(list: &str) -> Vec<&str> {
    list.split_whitespace().collect()
}

/// `verbs` on `resources` of `group`; `""` is the core group. Lists are separated by blanks.
fn rule(verbs: &str, group: &str, resources: &str) -> Value {
    json!({"verbs": words(verbs), "apiGroups": [group], "resources": words(resources)})
}

/// The same, for objects of these names only.
fn named(verbs: &str, group: &str, resources: &str, names: &str) -> Value {
    let mut rule = rule(verbs, group, resources);
    rule["resourceNames"] = words(names).into();
    rule
}

/// `get` on paths.
fn paths(urls: &str) -> Value {
    json!({"verbs": ["get"], "nonResourceURLs": words(urls)})
}

fn cluster_role(name: &str, rules: Vec<Value>) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": name}, "rules": rules,
    })
}

fn role(namespace: &str, name: &str, rules: Vec<Value>) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"namespace": namespace, "name": name}, "rules": rules,
    })
}

fn cluster_binding(name: &str, role: &str, subjects: &[&str]) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": name}, "roleRef": role_ref("ClusterRole", role),
        "subjects": subjects.iter().map(|s| subject(s)).collect::<Vec<_>>(),
    })
}

fn binding(namespace: &str, name: &str, subjects: &[&str]) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"namespace": namespace, "name": name}, "roleRef": role_ref("Role", name),
        "subjects": subjects.iter().map(|s| subject(s)).collect::<Vec<_>>(),
    })
}

fn role_ref(kind: &str, name: &str) -> Value {
    json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name})
}

/// `User:NAME`, `Group:NAME` or `ServiceAccount:NAMESPACE/NAME`.
fn subject(text: &str) -> Value {
    let (kind, name) = text.split_once(':').unwrap_or(("User", text));
    match name.split_once('/') {
        Some((namespace, name)) if kind == "ServiceAccount" => {
            json!({"kind": kind, "namespace": namespace, "name": name})
        }
        _ => json!({"kind": kind, "apiGroup": "rbac.authorization.k8s.io", "name": name}),
    }
}
