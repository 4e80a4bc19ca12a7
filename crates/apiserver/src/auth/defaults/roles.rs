//! The default ClusterRoles, as tables of verbs and resources.

use serde_json::{Value, json};

use super::{cluster_role, named, paths, rule, system};

const READ: &str = "get list watch";
const WRITE: &str = "create delete deletecollection patch update";
const ALL: &str = "create delete deletecollection get list patch update watch";
const CSR: &str = "certificates.k8s.io";
const WORKLOADS: &str = "daemonsets deployments deployments/rollback deployments/scale replicasets \
                         replicasets/scale statefulsets statefulsets/scale";

pub(super) fn cluster_roles() -> Vec<Value> {
    let mut roles = people();
    roles.extend(everyone());
    roles.extend(nodes());
    roles.extend(certificates());
    roles.into_iter().map(system).collect()
}

/// `admin`, `edit` and `view` are made of parts, so that an extension can add a part to each.
fn people() -> Vec<Value> {
    vec![
        cluster_role(
            "cluster-admin",
            vec![
                rule("*", "*", "*"),
                json!({"verbs": ["*"], "nonResourceURLs": ["*"]}),
            ],
        ),
        aggregated("admin", &["admin"], &[]),
        aggregated("edit", &["edit"], &["admin"]),
        aggregated("view", &["view"], &["edit"]),
        part("admin", admin_rules()),
        part("edit", edit_rules()),
        part("view", view_rules()),
    ]
}

fn aggregated(name: &str, takes: &[&str], into: &[&str]) -> Value {
    let selectors: Vec<_> = takes
        .iter()
        .map(|role| json!({"matchLabels": {aggregate_label(role): "true"}}))
        .collect();
    let mut role = cluster_role(name, Vec::new());
    role["aggregationRule"] = json!({"clusterRoleSelectors": selectors});
    for other in into {
        role["metadata"]["labels"][aggregate_label(other)] = "true".into();
    }
    role
}

fn part(of: &str, rules: Vec<Value>) -> Value {
    let mut role = cluster_role(&format!("system:aggregate-to-{of}"), rules);
    role["metadata"]["labels"][aggregate_label(of)] = "true".into();
    role
}

fn aggregate_label(role: &str) -> String {
    format!("rbac.authorization.k8s.io/aggregate-to-{role}")
}

fn admin_rules() -> Vec<Value> {
    vec![
        rule(
            "create",
            "authorization.k8s.io",
            "localsubjectaccessreviews",
        ),
        rule(ALL, "rbac.authorization.k8s.io", "roles rolebindings"),
    ]
}

fn edit_rules() -> Vec<Value> {
    vec![
        rule(
            READ,
            "",
            "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy",
        ),
        rule("impersonate", "", "serviceaccounts"),
        rule(
            WRITE,
            "",
            "pods pods/attach pods/exec pods/portforward pods/proxy configmaps events \
             persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets \
             serviceaccounts services services/proxy",
        ),
        rule("create", "", "pods/eviction serviceaccounts/token"),
        rule(WRITE, "apps", WORKLOADS),
        rule(WRITE, "autoscaling", "horizontalpodautoscalers"),
        rule(WRITE, "batch", "cronjobs jobs"),
        rule(WRITE, "policy", "poddisruptionbudgets"),
        rule(WRITE, "networking.k8s.io", "ingresses networkpolicies"),
        rule(ALL, "coordination.k8s.io", "leases"),
    ]
}

fn view_rules() -> Vec<Value> {
    vec![
        rule(
            READ,
            "",
            "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods \
             replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status \
             bindings events limitranges namespaces namespaces/status pods/log pods/status \
             replicationcontrollers/status resourcequotas resourcequotas/status",
        ),
        rule(READ, "discovery.k8s.io", "endpointslices"),
        rule(
            READ,
            "apps",
            "controllerrevisions daemonsets daemonsets/status deployments deployments/scale \
             deployments/status replicasets replicasets/scale replicasets/status statefulsets \
             statefulsets/scale statefulsets/status",
        ),
        rule(
            READ,
            "autoscaling",
            "horizontalpodautoscalers horizontalpodautoscalers/status",
        ),
        rule(READ, "batch", "cronjobs cronjobs/status jobs jobs/status"),
        rule(
            READ,
            "policy",
            "poddisruptionbudgets poddisruptionbudgets/status",
        ),
        rule(
            READ,
            "networking.k8s.io",
            "ingresses ingresses/status networkpolicies",
        ),
    ]
}

fn everyone() -> Vec<Value> {
    let own = "selfsubjectaccessreviews selfsubjectrulesreviews";
    vec![
        cluster_role(
            "system:basic-user",
            vec![
                rule("create", "authorization.k8s.io", own),
                rule("create", "authentication.k8s.io", "selfsubjectreviews"),
            ],
        ),
        cluster_role(
            "system:discovery",
            vec![paths(
                "/api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/",
            )],
        ),
        cluster_role(
            "system:public-info-viewer",
            vec![paths("/healthz /livez /readyz /version /version/")],
        ),
        cluster_role(
            "system:monitoring",
            vec![paths(
                "/healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/*",
            )],
        ),
        cluster_role(
            "system:service-account-issuer-discovery",
            vec![paths(
                "/.well-known/openid-configuration /.well-known/openid-configuration/ \
                 /openid/v1/jwks /openid/v1/jwks/",
            )],
        ),
        cluster_role(
            "system:auth-delegator",
            vec![
                rule("create", "authentication.k8s.io", "tokenreviews"),
                rule("create", "authorization.k8s.io", "subjectaccessreviews"),
            ],
        ),
        cluster_role(
            "system:kube-dns",
            vec![rule("list watch", "", "endpoints services")],
        ),
    ]
}

fn nodes() -> Vec<Value> {
    vec![
        cluster_role(
            "system:node",
            granted_by_graph().chain(node_rules()).collect(),
        ),
        cluster_role(
            "system:node-bootstrapper",
            vec![rule(
                "create get list watch",
                CSR,
                "certificatesigningrequests",
            )],
        ),
        cluster_role(
            "system:node-proxier",
            vec![
                rule("list watch", "", "services endpoints"),
                rule("get list watch", "", "nodes"),
                rule("create patch update", "", "events"),
                rule("create patch update", "events.k8s.io", "events"),
                rule("list watch", "discovery.k8s.io", "endpointslices"),
            ],
        ),
        cluster_role(
            "system:kubelet-api-admin",
            vec![
                rule("get list watch proxy", "", "nodes"),
                rule(
                    "*",
                    "",
                    "nodes/log nodes/metrics nodes/proxy nodes/spec nodes/stats",
                ),
            ],
        ),
    ]
}

/// What the Node authorizer gives by relationship: written down in the role for readers, never taken from it.
fn granted_by_graph() -> impl Iterator<Item = Value> {
    [
        rule(READ, "", "secrets configmaps"),
        rule("get", "", "persistentvolumeclaims persistentvolumes"),
        rule("get patch update", "", "persistentvolumeclaims/status"),
        rule("create", "", "serviceaccounts/token"),
        rule("get", "storage.k8s.io", "volumeattachments"),
        rule(
            "create delete get patch update",
            "coordination.k8s.io",
            "leases",
        ),
        rule(
            "create delete get patch update",
            "storage.k8s.io",
            "csinodes",
        ),
    ]
    .into_iter()
}

/// What a node may do without a relationship; admission (NodeRestriction) narrows the writes to its own objects.
pub(super) fn node_rules() -> Vec<Value> {
    vec![
        rule("create", "authentication.k8s.io", "tokenreviews"),
        rule(
            "create",
            "authorization.k8s.io",
            "localsubjectaccessreviews subjectaccessreviews",
        ),
        rule(READ, "", "services"),
        rule("create get list patch update watch", "", "nodes"),
        rule("patch update", "", "nodes/status"),
        rule("create patch update", "", "events"),
        rule("create patch update", "events.k8s.io", "events"),
        rule("create delete get list watch", "", "pods"),
        rule("patch update", "", "pods/status"),
        rule("create", "", "pods/eviction"),
        rule("create get list watch", CSR, "certificatesigningrequests"),
        rule(READ, "storage.k8s.io", "csidrivers"),
        rule(READ, "node.k8s.io", "runtimeclasses"),
    ]
}

fn certificates() -> Vec<Value> {
    let approver = |signer: &str| {
        cluster_role(
            &format!("system:certificates.k8s.io:{signer}-approver"),
            vec![named(
                "approve",
                CSR,
                "signers",
                &format!("kubernetes.io/{signer}"),
            )],
        )
    };
    let request = |kind: &str| {
        cluster_role(
            &format!("system:certificates.k8s.io:certificatesigningrequests:{kind}"),
            vec![rule(
                "create",
                CSR,
                &format!("certificatesigningrequests/{kind}"),
            )],
        )
    };
    vec![
        request("nodeclient"),
        request("selfnodeclient"),
        request("selfnodeserver"),
        approver("kube-apiserver-client"),
        approver("kube-apiserver-client-kubelet"),
        approver("kubelet-serving"),
        approver("legacy-unknown"),
    ]
}
