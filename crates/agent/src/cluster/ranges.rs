//! The cluster's ranges of pods and services, from the configuration that `kubeadm init` or `malha init` uploaded. A cluster made another
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
            Ok((pods, services)) => {
                for change in [Change::ClusterRanges(pods), Change::ServiceRanges(services)] {
                    if changes.send(change).await.is_err() {
                        return;
                    }
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

async fn read(client: kube::Client) -> kube::Result<(Vec<IpNet>, Vec<IpNet>)> {
    let maps: Api<ConfigMap> = Api::namespaced(client, "kube-system");
    match maps.get_opt(KUBEADM_CONFIG).await {
        Ok(map) => {
            let data = map.and_then(|map| map.data).unwrap_or_default();
            Ok(data
                .get("ClusterConfiguration")
                .map_or_else(Default::default, |text| parse(text)))
        }
        // Not ours to read in this cluster: as if it were not there.
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(Default::default()),
        Err(error) => Err(error),
    }
}

/// `networking.podSubnet` and `networking.serviceSubnet`, comma separated. What cannot be read is left out, with a warning.
#[must_use]
pub fn parse(text: &str) -> (Vec<IpNet>, Vec<IpNet>) {
    let networking = match ClusterConfiguration::parse(text) {
        Ok(configuration) => configuration.networking,
        Err(error) => {
            tracing::warn!(%error, "kubeadm's ClusterConfiguration cannot be read: using the nodes' pod ranges only");
            return Default::default();
        }
    };
    let read = |text: &str| text.trim().parse::<IpNet>().ok().map(|net| net.trunc());
    let all = |list: &str| list.split(',').filter_map(read).collect();
    (all(&networking.pod_subnet), all(&networking.service_subnet))
}
