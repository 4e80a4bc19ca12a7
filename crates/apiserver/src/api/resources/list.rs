//! The table itself, group by group.

use super::{ALL_VERBS, CREATE_ONLY, READ_ONLY, Resource, Subresource};

const RW: &[&str] = &["get", "patch", "update"];
const STREAM: &[&str] = &["create", "get"];

impl Resource {
    /// A resource in a namespace with all verbs; the builders below say how it differs.
    const fn new(
        group_version: (&'static str, &'static str),
        plural: &'static str,
        singular: &'static str,
        kind: &'static str,
    ) -> Self {
        Self {
            group: group_version.0,
            version: group_version.1,
            plural,
            singular,
            kind,
            short_names: &[],
            categories: &[],
            namespaced: true,
            verbs: ALL_VERBS,
            subresources: &[],
            has_generation: false,
            create_on_update: false,
            unconditional_update: true,
            storage: (group_version.0, plural),
        }
    }

    const fn cluster(mut self) -> Self {
        self.namespaced = false;
        self
    }

    const fn short(mut self, names: &'static [&'static str]) -> Self {
        self.short_names = names;
        self
    }

    const fn all(mut self) -> Self {
        self.categories = &["all"];
        self
    }

    const fn verbs(mut self, verbs: &'static [&'static str]) -> Self {
        self.verbs = verbs;
        self
    }

    const fn parts(mut self, parts: &'static [Subresource]) -> Self {
        self.subresources = parts;
        self
    }

    const fn generation(mut self) -> Self {
        self.has_generation = true;
        self
    }

    const fn put_creates(mut self) -> Self {
        self.create_on_update = true;
        self
    }

    const fn conditional(mut self) -> Self {
        self.unconditional_update = false;
        self
    }

    const fn stored_as(mut self, group: &'static str, plural: &'static str) -> Self {
        self.storage = (group, plural);
        self
    }
}

impl Subresource {
    const fn new(name: &'static str, kind: &'static str, verbs: &'static [&'static str]) -> Self {
        Self {
            name,
            kind,
            group_version: None,
            verbs,
        }
    }

    const fn of(mut self, group: &'static str, version: &'static str) -> Self {
        self.group_version = Some((group, version));
        self
    }
}

const fn status(kind: &'static str) -> Subresource {
    Subresource::new("status", kind, RW)
}

const fn scale() -> Subresource {
    Subresource::new("scale", "Scale", RW).of("autoscaling", "v1")
}

const CORE: (&str, &str) = ("", "v1");
const APPS: (&str, &str) = ("apps", "v1");
const AUTHENTICATION: (&str, &str) = ("authentication.k8s.io", "v1");
const AUTHORIZATION: (&str, &str) = ("authorization.k8s.io", "v1");
const CERTIFICATES: (&str, &str) = ("certificates.k8s.io", "v1");
const COORDINATION: (&str, &str) = ("coordination.k8s.io", "v1");
const DISCOVERY: (&str, &str) = ("discovery.k8s.io", "v1");
const DISCOVERY_BETA: (&str, &str) = ("discovery.k8s.io", "v1beta1");
const EVENTS: (&str, &str) = ("events.k8s.io", "v1");
const NETWORKING: (&str, &str) = ("networking.k8s.io", "v1");
const NODE: (&str, &str) = ("node.k8s.io", "v1");
const POLICY: (&str, &str) = ("policy", "v1");
const RBAC: (&str, &str) = ("rbac.authorization.k8s.io", "v1");
const SCHEDULING: (&str, &str) = ("scheduling.k8s.io", "v1");
const STORAGE: (&str, &str) = ("storage.k8s.io", "v1");

/// Every resource; within a group the preferred version comes first.
pub static RESOURCES: &[Resource] = &[
    Resource::new(CORE, "configmaps", "configmap", "ConfigMap").short(&["cm"]),
    Resource::new(CORE, "endpoints", "endpoints", "Endpoints")
        .short(&["ep"])
        .put_creates(),
    Resource::new(CORE, "events", "event", "Event")
        .short(&["ev"])
        .put_creates(),
    // No LimitRanger, no ResourceQuota admission, no volumes, no ReplicationController: `kubectl describe` and the e2e
    // suite list these, so they can be read, and nothing can be stored in them.
    Resource::new(CORE, "limitranges", "limitrange", "LimitRange")
        .short(&["limits"])
        .verbs(READ_ONLY),
    Resource::new(CORE, "namespaces", "namespace", "Namespace")
        .short(&["ns"])
        .cluster()
        .verbs(&[
            "create", "delete", "get", "list", "patch", "update", "watch",
        ])
        .parts(&[
            Subresource::new("finalize", "Namespace", &["update"]),
            status("Namespace"),
        ]),
    Resource::new(CORE, "nodes", "node", "Node")
        .short(&["no"])
        .cluster()
        .parts(&[
            Subresource::new(
                "proxy",
                "NodeProxyOptions",
                &["create", "delete", "get", "patch", "update"],
            ),
            status("Node"),
        ]),
    Resource::new(
        CORE,
        "persistentvolumeclaims",
        "persistentvolumeclaim",
        "PersistentVolumeClaim",
    )
    .short(&["pvc"])
    .verbs(READ_ONLY),
    Resource::new(
        CORE,
        "persistentvolumes",
        "persistentvolume",
        "PersistentVolume",
    )
    .short(&["pv"])
    .cluster()
    .verbs(READ_ONLY),
    Resource::new(CORE, "pods", "pod", "Pod")
        .short(&["po"])
        .all()
        .parts(&[
            Subresource::new("attach", "PodAttachOptions", STREAM),
            Subresource::new("binding", "Binding", CREATE_ONLY),
            Subresource::new("eviction", "Eviction", CREATE_ONLY).of("policy", "v1"),
            Subresource::new("exec", "PodExecOptions", STREAM),
            Subresource::new("log", "Pod", &["get"]),
            Subresource::new("portforward", "PodPortForwardOptions", STREAM),
            status("Pod"),
        ]),
    Resource::new(
        CORE,
        "replicationcontrollers",
        "replicationcontroller",
        "ReplicationController",
    )
    .short(&["rc"])
    .all()
    .verbs(READ_ONLY),
    Resource::new(CORE, "resourcequotas", "resourcequota", "ResourceQuota")
        .short(&["quota"])
        .verbs(READ_ONLY),
    Resource::new(CORE, "secrets", "secret", "Secret"),
    Resource::new(CORE, "serviceaccounts", "serviceaccount", "ServiceAccount")
        .short(&["sa"])
        .parts(&[Subresource::new("token", "TokenRequest", CREATE_ONLY)
            .of("authentication.k8s.io", "v1")]),
    Resource::new(CORE, "services", "service", "Service")
        .short(&["svc"])
        .all()
        .put_creates()
        .parts(&[status("Service")]),
    Resource::new(
        APPS,
        "controllerrevisions",
        "controllerrevision",
        "ControllerRevision",
    ),
    Resource::new(APPS, "daemonsets", "daemonset", "DaemonSet")
        .short(&["ds"])
        .all()
        .generation()
        .parts(&[status("DaemonSet")]),
    Resource::new(APPS, "deployments", "deployment", "Deployment")
        .short(&["deploy"])
        .all()
        .generation()
        .parts(&[scale(), status("Deployment")]),
    Resource::new(APPS, "replicasets", "replicaset", "ReplicaSet")
        .short(&["rs"])
        .all()
        .generation()
        .parts(&[scale(), status("ReplicaSet")]),
    Resource::new(
        AUTHENTICATION,
        "selfsubjectreviews",
        "selfsubjectreview",
        "SelfSubjectReview",
    )
    .cluster()
    .verbs(CREATE_ONLY),
    Resource::new(AUTHENTICATION, "tokenreviews", "tokenreview", "TokenReview")
        .cluster()
        .verbs(CREATE_ONLY),
    Resource::new(
        AUTHORIZATION,
        "localsubjectaccessreviews",
        "localsubjectaccessreview",
        "LocalSubjectAccessReview",
    )
    .verbs(CREATE_ONLY),
    Resource::new(
        AUTHORIZATION,
        "selfsubjectaccessreviews",
        "selfsubjectaccessreview",
        "SelfSubjectAccessReview",
    )
    .cluster()
    .verbs(CREATE_ONLY),
    Resource::new(
        AUTHORIZATION,
        "selfsubjectrulesreviews",
        "selfsubjectrulesreview",
        "SelfSubjectRulesReview",
    )
    .cluster()
    .verbs(CREATE_ONLY),
    Resource::new(
        AUTHORIZATION,
        "subjectaccessreviews",
        "subjectaccessreview",
        "SubjectAccessReview",
    )
    .cluster()
    .verbs(CREATE_ONLY),
    Resource::new(
        CERTIFICATES,
        "certificatesigningrequests",
        "certificatesigningrequest",
        "CertificateSigningRequest",
    )
    .short(&["csr"])
    .cluster()
    .parts(&[
        Subresource::new("approval", "CertificateSigningRequest", RW),
        status("CertificateSigningRequest"),
    ]),
    Resource::new(COORDINATION, "leases", "lease", "Lease")
        .put_creates()
        .conditional(),
    Resource::new(
        DISCOVERY,
        "endpointslices",
        "endpointslice",
        "EndpointSlice",
    )
    .generation(),
    // kube-proxy before 1.25 asks for nothing else.
    Resource::new(
        DISCOVERY_BETA,
        "endpointslices",
        "endpointslice",
        "EndpointSlice",
    )
    .generation(),
    Resource::new(EVENTS, "events", "event", "Event")
        .short(&["ev"])
        .put_creates()
        .stored_as("", "events"),
    Resource::new(
        NETWORKING,
        "networkpolicies",
        "networkpolicy",
        "NetworkPolicy",
    )
    .short(&["netpol"])
    .generation(),
    Resource::new(NODE, "runtimeclasses", "runtimeclass", "RuntimeClass")
        .cluster()
        .put_creates()
        .conditional(),
    // Evictions here honour no budgets, so none can be stored; `kubectl drain` wants to see the group.
    Resource::new(
        POLICY,
        "poddisruptionbudgets",
        "poddisruptionbudget",
        "PodDisruptionBudget",
    )
    .short(&["pdb"])
    .verbs(READ_ONLY),
    Resource::new(
        RBAC,
        "clusterrolebindings",
        "clusterrolebinding",
        "ClusterRoleBinding",
    )
    .cluster()
    .put_creates(),
    Resource::new(RBAC, "clusterroles", "clusterrole", "ClusterRole")
        .cluster()
        .put_creates(),
    Resource::new(RBAC, "rolebindings", "rolebinding", "RoleBinding").put_creates(),
    Resource::new(RBAC, "roles", "role", "Role").put_creates(),
    Resource::new(
        SCHEDULING,
        "priorityclasses",
        "priorityclass",
        "PriorityClass",
    )
    .short(&["pc"])
    .cluster()
    .generation(),
    Resource::new(STORAGE, "csidrivers", "csidriver", "CSIDriver")
        .cluster()
        .conditional(),
    Resource::new(STORAGE, "csinodes", "csinode", "CSINode")
        .cluster()
        .conditional(),
];
