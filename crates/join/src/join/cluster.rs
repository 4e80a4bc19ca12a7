//! The cluster's configuration, as kubeadm keeps it in ConfigMaps.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use malha_bootstrap::kubeadm::{
    CLUSTER_CONFIG_KEY, CLUSTER_CONFIG_MAP, ClusterConfiguration, KUBELET_CONFIG_KEY,
    KUBELET_CONFIG_MAP, KubeletConfiguration, versioned_kubelet_config_map,
};
use serde_json::Value;
use tokio::time::sleep;

use crate::client::{Answer, RequestError, Verified};

/// How often a request is repeated that may succeed in a moment.
const ATTEMPTS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(400);

/// What the cluster says of itself.
pub(super) struct Configuration {
    /// Version of the control plane, with a leading `v`.
    pub(super) kubernetes_version: String,
    /// `KubeletConfiguration`.
    pub(super) kubelet: String,
}

/// Reads the configuration of kubelets; checks that the cluster's is one that can be read.
pub(super) async fn configuration(client: &Verified) -> Result<Configuration> {
    let text = config_map(client, CLUSTER_CONFIG_MAP, CLUSTER_CONFIG_KEY).await?;
    let text = text.with_context(|| missing(CLUSTER_CONFIG_MAP))?;
    let cluster = ClusterConfiguration::parse(&text)
        .with_context(|| format!("cannot use the ConfigMap kube-system/{CLUSTER_CONFIG_MAP}"))?;
    // Clusters before 1.24 have it under a name with their version.
    let older = versioned_kubelet_config_map(&cluster.kubernetes_version);
    let mut found = config_map(client, KUBELET_CONFIG_MAP, KUBELET_CONFIG_KEY).await?;
    if found.is_none() {
        found = config_map(client, &older, KUBELET_CONFIG_KEY).await?;
    }
    let text = found.with_context(|| missing(KUBELET_CONFIG_MAP))?;
    KubeletConfiguration::check(&text)
        .with_context(|| format!("cannot use the ConfigMap kube-system/{KUBELET_CONFIG_MAP}"))?;
    Ok(Configuration {
        kubernetes_version: cluster.kubernetes_version,
        kubelet: text,
    })
}

fn missing(name: &str) -> String {
    format!(
        "the cluster has no ConfigMap kube-system/{name} that this token may read; create it on the control plane with: \
         kubeadm init phase upload-config all"
    )
}

/// One key of a ConfigMap in `kube-system`; absent also when the token may not read it.
async fn config_map(client: &Verified, name: &str, key: &str) -> Result<Option<String>> {
    let path = format!("/api/v1/namespaces/kube-system/configmaps/{name}");
    let answer = get(client, &path).await?;
    match answer.status.as_u16() {
        200 => {
            let map = answer
                .json()
                .context("the API server did not answer with JSON")?;
            let text = map.pointer(&format!("/data/{key}")).and_then(Value::as_str);
            Ok(text.map(str::to_owned))
        }
        401 => bail!("{}", token_rejected(&answer)),
        403 | 404 => Ok(None),
        _ => bail!(
            "the API server refused to give the ConfigMap kube-system/{name}: {}; look at its log",
            answer.message()
        ),
    }
}

/// GET that tries again when a busy server breaks the connection or says so.
pub(super) async fn get(client: &Verified, path: &str) -> Result<Answer, RequestError> {
    let mut attempt = 1;
    loop {
        let outcome = client.get(path).await;
        let again = match &outcome {
            Ok(answer) => answer.status.is_server_error() || answer.status.as_u16() == 429,
            Err(error) => error.may_heal(),
        };
        if !again || attempt == ATTEMPTS {
            return outcome;
        }
        attempt += 1;
        sleep(PAUSE).await;
    }
}

/// The token signed `cluster-info`, yet is not accepted.
pub(super) fn token_rejected(answer: &Answer) -> String {
    format!(
        "the API server does not accept the token ({}): it has just expired or was deleted, or is not for authentication; \
         create a new one on the control plane with: malha token create --print-join-command",
        answer.message()
    )
}
