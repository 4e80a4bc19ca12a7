//! The cluster's pod ranges, from the configuration that `kubeadm init` or `malha init` uploaded. A cluster made another
//! way has none: then the nodes' own ranges are all that is known, which is enough to work.

use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use malha_bootstrap::kubeadm::ClusterConfiguration;
use tokio::sync::mpsc;

use super::Change;
use super::connection::{Current, error_chain};

/// Name of kubeadm's ConfigMap, in kube-system.
pub const KUBEADM_CONFIG: &str = "kubeadm-config";
/// How often it is read: a cluster's ranges hardly ever change.
const INTERVAL: Duration = Duration::from_secs(300);
/// How soon again after a failure.
const RETRY: Duration = Duration::from_secs(2);

/// Tell the ranges, now and when they change, until nobody listens.
pub async fn run(mut server: Current, changes: mpsc::Sender<Change>) {
    loop {
        let client = server.borrow_and_update().client.clone();
        let pause = match read(client).await {
            Ok(ranges) => {
                if changes.send(Change::ClusterRanges(ranges)).await.is_err() {
                    return;
                }
                INTERVAL
            }
            Err(error) => {
                tracing::debug!(
                    problem = error_chain(&error),
                    "cannot read kubeadm's configuration"
                );
                RETRY
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = changes.closed() => return,
        }
    }
}

async fn read(client: kube::Client) -> kube::Result<Vec<IpNet>> {
    let maps: Api<ConfigMap> = Api::namespaced(client, "kube-system");
    match maps.get_opt(KUBEADM_CONFIG).await {
        Ok(map) => {
            let data = map.and_then(|map| map.data).unwrap_or_default();
            Ok(data
                .get("ClusterConfiguration")
                .map_or(Vec::new(), |text| parse(text)))
        }
        // Not ours to read in this cluster: as if it were not there.
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// `networking.podSubnet`, comma separated. What cannot be read is left out, with a warning.
#[must_use]
pub fn parse(text: &str) -> Vec<IpNet> {
    let configuration = match ClusterConfiguration::parse(text) {
        Ok(configuration) => configuration,
        Err(error) => {
            tracing::warn!(%error, "kubeadm's ClusterConfiguration cannot be read: using the nodes' pod ranges only");
            return Vec::new();
        }
    };
    let subnets = configuration.networking.pod_subnet;
    let read = |text: &str| text.trim().parse::<IpNet>().ok().map(|net| net.trunc());
    subnets
        .split(',')
        .filter(|text| !text.trim().is_empty())
        .filter_map(read)
        .collect()
}
