//! The manifest is what the agent needs, and nothing more.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Container, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding};
use malha_agent::{Config, Routing};
use malha_core::paths;
use serde::de::DeserializeOwned;
use serde_json::Value;

const MANIFEST: &str = include_str!("../../../deploy/malha.yaml");

fn documents() -> Vec<Value> {
    let texts = MANIFEST
        .split("\n---\n")
        .filter(|text| text.lines().any(|line| !line.starts_with('#')));
    texts
        .map(|text| {
            // As kubectl reads it.
            let options = serde_saphyr::options! { legacy_octal_numbers: true };
            serde_saphyr::from_str_with_options(text, options).expect("a YAML document")
        })
        .collect()
}

/// The only document of a kind, with every field known.
fn only<T: DeserializeOwned + serde::Serialize>(kind: &str) -> T {
    let found: Vec<Value> = documents()
        .into_iter()
        .filter(|document| document["kind"] == kind)
        .collect();
    assert_eq!(found.len(), 1, "documents of kind {kind}");
    let typed: T = serde_json::from_value(found[0].clone()).expect(kind);
    let back = serde_json::to_value(&typed).expect(kind);
    assert_eq!(
        back, found[0],
        "{kind} has a field that its type does not know"
    );
    typed
}

fn container() -> Container {
    let set: DaemonSet = only("DaemonSet");
    let mut containers = set.spec.unwrap().template.spec.unwrap().containers;
    assert_eq!(containers.len(), 1);
    containers.remove(0)
}

fn rules(rules: Option<Vec<PolicyRule>>) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for rule in rules.unwrap_or_default() {
        let groups = rule.api_groups.unwrap_or_default();
        let [group] = groups.as_slice() else {
            panic!("one group for a rule: {groups:?}");
        };
        let dot = if group.is_empty() { "" } else { "." };
        assert!(rule.non_resource_urls.is_none());
        let names = rule
            .resource_names
            .map(|names| format!(" {}", names.join(",")))
            .unwrap_or_default();
        for resource in rule.resources.unwrap_or_default() {
            lines.extend(
                rule.verbs
                    .iter()
                    .map(|verb| format!("{verb} {resource}{dot}{group}{names}")),
            );
        }
    }
    lines
}

/// What `tier2_agent` sees agents ask for, plus the `patch` of an event that happens again.
#[test]
fn the_roles_allow_what_is_used_and_no_more() {
    let cluster: ClusterRole = only("ClusterRole");
    let wanted = [
        "create events",
        "get pods",
        "list namespaces",
        "list networkpolicies.networking.k8s.io",
        "list nodes",
        "list pods",
        "patch events",
        "patch nodes/status",
        "watch namespaces",
        "watch networkpolicies.networking.k8s.io",
        "watch nodes",
        "watch pods",
    ];
    assert_eq!(rules(cluster.rules), wanted.map(String::from).into());
    let role: Role = only("Role");
    assert_eq!(role.metadata.namespace.as_deref(), Some("kube-system"));
    assert_eq!(
        rules(role.rules),
        ["get configmaps kubeadm-config".to_owned()].into()
    );
}

#[test]
fn the_roles_are_bound_to_the_pods_account() {
    let account: ServiceAccount = only("ServiceAccount");
    let name = account.metadata.name.unwrap();
    let set: DaemonSet = only("DaemonSet");
    let pod = set.spec.unwrap().template.spec.unwrap();
    assert_eq!(pod.service_account_name.as_ref(), Some(&name));
    let cluster: ClusterRoleBinding = only("ClusterRoleBinding");
    let role: RoleBinding = only("RoleBinding");
    for (kind, reference, subjects) in [
        ("ClusterRole", cluster.role_ref, cluster.subjects.unwrap()),
        ("Role", role.role_ref, role.subjects.unwrap()),
    ] {
        assert_eq!((reference.kind.as_str(), &reference.name), (kind, &name));
        assert_eq!(subjects.len(), 1);
        assert_eq!(
            (subjects[0].kind.as_str(), &subjects[0].name),
            ("ServiceAccount", &name)
        );
        assert_eq!(subjects[0].namespace.as_deref(), Some("kube-system"));
    }
}

#[test]
fn every_path_of_the_agent_is_the_hosts() {
    let set: DaemonSet = only("DaemonSet");
    let volumes = set.spec.unwrap().template.spec.unwrap().volumes.unwrap();
    let mounts = container().volume_mounts.unwrap();
    let host_path = |path: &str| {
        let mount = mounts
            .iter()
            .find(|mount| path.starts_with(&mount.mount_path))?;
        let volume = volumes.iter().find(|volume| volume.name == mount.name)?;
        Some((volume.host_path.clone()?.path, mount.mount_path.clone()))
    };
    let needed = [
        paths::RUN,
        paths::AGENT_SOCKET,
        paths::CNI_SOCKET,
        paths::ENDPOINT_STATE,
        paths::CNI_CONF_DIR,
        paths::CNI_BIN_DIR,
        paths::KUBELET_CONF,
        malha_datapath::DEFAULT_PINS,
    ];
    for path in needed {
        let (host, inside) = host_path(path).unwrap_or_else(|| panic!("{path} is not mounted"));
        assert_eq!(
            host, inside,
            "the plugin on the host and the agent in its pod mean the same by {path}"
        );
    }
    let bpf = mounts
        .iter()
        .find(|mount| mount.mount_path == "/sys/fs/bpf")
        .unwrap();
    assert_eq!(
        bpf.mount_propagation, None,
        "runtimes refuse Bidirectional where the host's mounts are private"
    );
}

#[test]
fn the_settings_are_the_defaults() {
    let map: ConfigMap = only("ConfigMap");
    let data = map.data.unwrap();
    let defaults = Config::new("any");
    let expected = [
        ("MALHA_LOG", "info".to_owned()),
        ("MALHA_ROUTING", defaults.routing.to_string()),
        ("MALHA_VNI", defaults.vni.to_string()),
        ("MALHA_VXLAN_PORT", defaults.vxlan_port.to_string()),
        ("MALHA_MTU", defaults.mtu.to_string()),
        ("MALHA_MASQUERADE", defaults.masquerade.to_string()),
    ];
    let expected = expected.map(|(key, value)| (key.to_owned(), value));
    assert_eq!(data, expected.into_iter().collect());
    assert!(data["MALHA_ROUTING"].parse::<Routing>().is_ok());
}

#[test]
fn it_runs_on_every_node_and_before_anything_else() {
    let set: DaemonSet = only("DaemonSet");
    let spec = set.spec.unwrap();
    let pod = spec.template.spec.unwrap();
    assert_eq!(
        spec.selector.match_labels,
        spec.template.metadata.unwrap().labels
    );
    assert_eq!(pod.host_network, Some(true));
    assert_eq!(
        pod.priority_class_name.as_deref(),
        Some("system-node-critical")
    );
    let tolerations = pod.tolerations.unwrap();
    assert!(
        tolerations
            .iter()
            .any(|t| t.operator.as_deref() == Some("Exists")
                && t.key.is_none()
                && t.effect.is_none())
    );
    let container = container();
    let image = container.image.unwrap();
    assert_eq!(
        image,
        format!("localhost/malha:{}", env!("CARGO_PKG_VERSION")),
        "the image is this release's"
    );
    assert_eq!(container.command.unwrap(), ["/usr/bin/malha", "agent"]);
}
