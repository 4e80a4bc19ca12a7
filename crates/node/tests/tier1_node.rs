//! The node agent against the API server.

mod cluster;

use std::fs;

use cluster::{Cluster, condition, in_own_network};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, api::DeleteParams};
use serde_json::json;

fn ready(node: &k8s_openapi::api::core::v1::Node) -> (String, String) {
    let all = node
        .status
        .as_ref()
        .and_then(|s| s.conditions.clone())
        .unwrap_or_default();
    let ready = all.into_iter().find(|c| c.type_ == "Ready");
    ready
        .map(|c| (c.status, c.message.unwrap_or_default()))
        .unwrap_or_default()
}

#[test]
fn a_node_registers_and_is_ready_once_it_has_a_network() {
    in_own_network(|| async {
        let cluster = Cluster::start().await;
        let node = cluster
            .until_node("registered", |node| ready(node).0 == "False")
            .await;
        assert_eq!(
            ready(&node).1,
            "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady \
             message:Network plugin returns error: cni plugin not initialized"
        );
        let info = node.status.as_ref().unwrap().node_info.as_ref().unwrap();
        assert_eq!(info.kubelet_version, malha_core::KUBERNETES_VERSION);
        cluster.install_network();
        cluster
            .until_node("ready", |node| ready(node).0 == "True")
            .await;
        let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), "kube-node-lease");
        cluster
            .until("the lease", async || {
                leases
                    .get_opt(&cluster.config.node_name)
                    .await
                    .unwrap()
                    .is_some()
            })
            .await;
        fs::remove_file(cluster.config.cni_conf_dir.join("10-test.conflist")).unwrap();
        cluster
            .until_node("not ready", |node| ready(node).0 == "False")
            .await;
        cluster.stop().await;
    });
}

#[test]
fn a_deleted_node_registers_again() {
    in_own_network(|| async {
        let cluster = Cluster::start().await;
        let node = cluster.until_node("registered", |_| true).await;
        cluster
            .nodes()
            .delete(&cluster.config.node_name, &DeleteParams::default())
            .await
            .unwrap();
        let again = cluster
            .until_node("registered again", |n| n.metadata.uid != node.metadata.uid)
            .await;
        assert_eq!(ready(&again).0, "False");
        cluster.stop().await;
    });
}

#[test]
fn a_pod_with_the_hosts_network_needs_no_other() {
    in_own_network(|| async {
        let cluster = Cluster::start().await;
        let command = json!({"command": ["/bin/sh", "-c", "echo hello from $NAME at $HOST; sleep 1000"], "env": [
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}},
        ]});
        cluster
            .create("p", json!({"hostNetwork": true}), command)
            .await;
        let pod = cluster.until_ready("p").await;
        assert_eq!(
            pod.status.as_ref().unwrap().pod_ip.as_deref(),
            Some("127.0.0.1")
        );
        cluster
            .pods()
            .delete("p", &DeleteParams::default())
            .await
            .unwrap();
        cluster.until_gone("p").await;
        cluster.stop().await;
    });
}

#[test]
fn a_pod_waits_for_its_network_and_gets_addresses_of_both_families() {
    in_own_network(|| async {
        let cluster = Cluster::start().await;
        let script = "cat /etc/hosts; ls /var/run/secrets/kubernetes.io/serviceaccount; sleep 1000";
        cluster
            .create(
                "p",
                json!({}),
                json!({"command": ["/bin/sh", "-c", script]}),
            )
            .await;
        cluster
            .until("the event", async || {
                cluster
                    .events("p")
                    .await
                    .iter()
                    .any(|e| e.starts_with("NetworkNotReady network is not ready"))
            })
            .await;
        cluster.install_network();
        let pod = cluster.until_ready("p").await;
        let status = pod.status.as_ref().unwrap();
        assert_eq!(status.pod_ips.as_ref().unwrap().len(), 2, "{status:?}");
        assert!(status.pod_ip.as_ref().unwrap().starts_with("10.7.0."));
        assert_eq!(condition(&pod, "PodReadyToStartContainers"), "True");
        for name in ["Pulled", "Created", "Started"] {
            cluster
                .until(name, async || {
                    cluster
                        .events("p")
                        .await
                        .iter()
                        .any(|e| e.starts_with(name))
                })
                .await;
        }
        assert_eq!(fs::read_dir(&cluster.config.netns_dir).unwrap().count(), 1);
        cluster
            .pods()
            .delete("p", &DeleteParams::default())
            .await
            .unwrap();
        cluster.until_gone("p").await;
        assert_eq!(fs::read_dir(&cluster.config.netns_dir).unwrap().count(), 0);
        cluster.stop().await;
    });
}
