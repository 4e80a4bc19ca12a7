//! What `kubeadm init` gives joining nodes and administrators.
//!
//! Left out: `kubeadm-certs`, which only joining control planes read; there is one control plane here.

use serde_json::Value;

use super::{binding, cluster_binding, cluster_role, named, role, rule};

const BOOTSTRAP: &str = "Group:system:bootstrappers:kubeadm:default-node-token";
const NODES: &str = "Group:system:nodes";
/// The config of kubelets, by its name since 1.24 and those before.
const KUBELET_CONFIGS: &str = "kubelet-config kubelet-config-1.20 kubelet-config-1.21 kubelet-config-1.22 kubelet-config-1.23";

pub(super) fn objects() -> Vec<Value> {
    let mut objects = vec![
        cluster_binding(
            "kubeadm:cluster-admins",
            "cluster-admin",
            &["Group:kubeadm:cluster-admins"],
        ),
        cluster_binding(
            "kubeadm:kubelet-bootstrap",
            "system:node-bootstrapper",
            &[BOOTSTRAP],
        ),
        cluster_binding(
            "kubeadm:node-autoapprove-bootstrap",
            "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
            &[BOOTSTRAP],
        ),
        cluster_binding(
            "kubeadm:node-autoapprove-certificate-rotation",
            "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
            &[NODES],
        ),
        cluster_role("kubeadm:get-nodes", vec![rule("get", "", "nodes")]),
        cluster_binding("kubeadm:get-nodes", "kubeadm:get-nodes", &[BOOTSTRAP]),
        cluster_binding(
            "kubeadm:node-proxier",
            "system:node-proxier",
            &["ServiceAccount:kube-system/kube-proxy"],
        ),
    ];
    objects.extend(reader(
        ("kube-public", "kubeadm:bootstrap-signer-clusterinfo"),
        "cluster-info",
        &["User:system:anonymous"],
    ));
    let kube_system = |name, configs, subjects| reader(("kube-system", name), configs, subjects);
    objects.extend(kube_system(
        "kubeadm:nodes-kubeadm-config",
        "kubeadm-config",
        &[BOOTSTRAP, NODES],
    ));
    objects.extend(kube_system(
        "kubeadm:kubelet-config",
        KUBELET_CONFIGS,
        &[NODES, BOOTSTRAP],
    ));
    objects.extend(kube_system("kube-proxy", "kube-proxy", &[BOOTSTRAP]));
    objects
}

/// A Role that lets `subjects` get some ConfigMaps by name, and its binding.
fn reader((namespace, name): (&str, &str), configs: &str, subjects: &[&str]) -> [Value; 2] {
    [
        role(
            namespace,
            name,
            vec![named("get", "", "configmaps", configs)],
        ),
        binding(namespace, name, subjects),
    ]
}
