//! Sends a pod's status to the API server: always the latest, never twice the same.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use tokio::{sync::watch, task::JoinHandle, time::timeout};

use super::status;

const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(5);
/// No request takes longer.
const LIMIT: Duration = Duration::from_secs(10);
/// How long the last status of a deleted pod is waited for.
const FLUSH: Duration = Duration::from_secs(3);

/// Takes statuses.
pub struct Reporter {
    latest: watch::Sender<PodStatus>,
    task: JoinHandle<()>,
}

impl Reporter {
    /// Starts from what the API server has.
    pub fn start(client: Client, pod: &Pod) -> Self {
        let before = pod.status.clone().unwrap_or_default();
        let (latest, statuses) = watch::channel(before.clone());
        let task = tokio::spawn(send(client, Arc::new(pod.clone()), before, statuses));
        Self { latest, task }
    }

    /// This is so now.
    pub fn report(&self, status: PodStatus) {
        self.latest.send_if_modified(|latest| {
            let changed = *latest != status;
            *latest = status;
            changed
        });
    }

    /// What was reported last, sent or not.
    pub fn latest(&self) -> PodStatus {
        self.latest.borrow().clone()
    }

    /// Waits a little for the last one to be sent, and stops.
    pub async fn finish(self) {
        drop(self.latest);
        let mut task = self.task;
        if timeout(FLUSH, &mut task).await.is_err() {
            task.abort();
        }
    }
}

async fn send(
    client: Client,
    pod: Arc<Pod>,
    mut before: PodStatus,
    mut statuses: watch::Receiver<PodStatus>,
) {
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    let (namespace, name) = (text(&pod.metadata.namespace), text(&pod.metadata.name));
    let uid = text(&pod.metadata.uid);
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    let mut retry = FIRST_RETRY;
    while statuses.changed().await.is_ok() {
        let wanted = statuses.borrow_and_update().clone();
        if wanted == before {
            continue;
        }
        let patch = Patch::Strategic(status::patch(&uid, &before, &wanted));
        let parameters = PatchParams::default();
        match timeout(LIMIT, pods.patch_status(&name, &parameters, &patch)).await {
            Ok(Ok(_)) => {
                before = wanted;
                retry = FIRST_RETRY;
                continue;
            }
            // Deleted, or another pod of this name.
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {
                tracing::debug!(namespace, name, why = status.message, "nobody to report to");
                if status.code == 404 {
                    return;
                }
            }
            Ok(Err(error)) => {
                tracing::warn!(namespace, name, %error, "cannot report the pod's status")
            }
            Err(_) => tracing::warn!(
                namespace,
                name,
                "the API server did not take the pod's status in time"
            ),
        }
        statuses.mark_changed();
        tokio::time::sleep(retry).await;
        retry = (retry * 2).min(LAST_RETRY);
    }
}
