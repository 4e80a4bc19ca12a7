//! The node condition `NetworkUnavailable`: False while pods get a network, True with the reason while they do not.
//! Kubernetes keeps pods away from a node where it is True.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::connection::{Current, error_chain};

/// The condition's type.
pub const NETWORK_UNAVAILABLE: &str = "NetworkUnavailable";
/// How soon again after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// A node condition, as far as it matters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True` or `False`.
    pub status: String,
    /// One word.
    #[serde(default)]
    pub reason: String,
    /// A sentence.
    #[serde(default)]
    pub message: String,
}

impl Condition {
    /// Pods get a network.
    #[must_use]
    pub fn up() -> Self {
        Self::new("False", "MalhaIsUp", "Malha is running on this node")
    }

    /// They do not.
    #[must_use]
    pub fn down(why: &str) -> Self {
        Self::new("True", "MalhaIsDown", why)
    }

    /// Whether it is the one that tells of the network.
    #[must_use]
    pub fn is_network(&self) -> bool {
        self.kind == NETWORK_UNAVAILABLE
    }

    fn new(status: &str, reason: &str, message: &str) -> Self {
        Self {
            kind: NETWORK_UNAVAILABLE.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
        }
    }
}

/// Keep the condition in the API server as it is wanted; None: as it is.
pub async fn run(
    mut server: Current,
    node: String,
    mut wanted: watch::Receiver<Option<Condition>>,
    mut found: watch::Receiver<Option<Condition>>,
) {
    loop {
        let want = wanted.borrow_and_update().clone();
        let have = found.borrow_and_update().clone();
        let mut retry = false;
        if let Some(want) = want.filter(|want| have.as_ref() != Some(want)) {
            let client = server.borrow_and_update().client.clone();
            let changes = have.is_none_or(|have| have.status != want.status);
            if let Err(error) = patch(client, &node, &want, changes).await {
                tracing::warn!(
                    problem = error_chain(&error),
                    "cannot set the node's condition"
                );
                retry = true;
            }
        }
        tokio::select! {
            result = wanted.changed() => if result.is_err() { return },
            result = found.changed() => if result.is_err() { return },
            () = tokio::time::sleep(RETRY), if retry => {}
        }
    }
}

async fn patch(
    client: kube::Client,
    node: &str,
    want: &Condition,
    changes: bool,
) -> kube::Result<()> {
    let now = now();
    let mut condition = serde_json::json!({
        "type": want.kind, "status": want.status, "reason": want.reason, "message": want.message,
        "lastHeartbeatTime": now,
    });
    if changes {
        condition["lastTransitionTime"] = now.into();
    }
    let patch = serde_json::json!({ "status": { "conditions": [condition] } });
    let nodes: Api<Node> = Api::all(client);
    let params = PatchParams {
        field_manager: Some("malha".to_owned()),
        ..PatchParams::default()
    };
    nodes
        .patch_status(node, &params, &Patch::Strategic(patch))
        .await?;
    tracing::info!(
        status = want.status,
        reason = want.reason,
        "node condition NetworkUnavailable set"
    );
    Ok(())
}

/// The time as Kubernetes writes it, in whole seconds.
#[must_use]
pub fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
