//! Events: what an operator should see in `kubectl describe`. The same event again counts up, at most every half minute.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use tokio::sync::mpsc;

use super::condition::now;
use super::connection::{Current, error_chain};

/// The same event is sent again after this time at the earliest.
const AGAIN: Duration = Duration::from_secs(30);
/// Different events that are remembered.
const REMEMBERED: usize = 256;

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum About {
    /// This node.
    Node,
    /// A pod.
    Pod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its UID, if the runtime told it.
        uid: Option<String>,
    },
}

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Notice {
    /// What it is about.
    pub about: About,
    /// Whether somebody should act.
    pub warning: bool,
    /// One word.
    pub reason: &'static str,
    /// A sentence, with the remedy.
    pub message: String,
}

/// Where notices go. Never blocks: when more come than can be sent, they are left out.
#[derive(Clone, Debug)]
pub struct Notices(mpsc::Sender<Notice>);

impl Notices {
    /// The two ends.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<Notice>) {
        let (sender, receiver) = mpsc::channel(64);
        (Self(sender), receiver)
    }

    /// Tell.
    pub fn tell(&self, notice: Notice) {
        if self.0.try_send(notice).is_err() {
            tracing::debug!("an event was left out: too many at once");
        }
    }
}

struct Sent {
    name: String,
    count: i32,
    at: Instant,
}

/// Send what comes, until nobody tells any more.
pub async fn run(mut server: Current, node: String, mut notices: mpsc::Receiver<Notice>) {
    let mut sent: HashMap<Notice, Sent> = HashMap::new();
    while let Some(notice) = notices.recv().await {
        let client = server.borrow_and_update().client.clone();
        let api: Api<Event> = Api::namespaced(client, namespace(&notice.about));
        if sent.len() > REMEMBERED {
            sent.clear();
        }
        let result = match sent.get_mut(&notice) {
            Some(before) => {
                before.count += 1;
                again(&api, before).await
            }
            None => create(&api, &node, &notice).await.map(|name| {
                let first = Sent {
                    name,
                    count: 1,
                    at: Instant::now(),
                };
                sent.insert(notice, first);
            }),
        };
        if let Err(error) = result {
            tracing::debug!(problem = error_chain(&error), "cannot send an event");
        }
    }
}

async fn create(api: &Api<Event>, node: &str, notice: &Notice) -> kube::Result<String> {
    let event: Event =
        serde_json::from_value(event(node, notice)).map_err(kube::Error::SerdeError)?;
    let created = api.create(&PostParams::default(), &event).await?;
    Ok(created.metadata.name.unwrap_or_default())
}

async fn again(api: &Api<Event>, sent: &mut Sent) -> kube::Result<()> {
    if sent.at.elapsed() < AGAIN {
        return Ok(());
    }
    sent.at = Instant::now();
    let patch = serde_json::json!({ "count": sent.count, "lastTimestamp": now() });
    api.patch(
        &sent.name,
        &PatchParams::default(),
        &Patch::Strategic(patch),
    )
    .await?;
    Ok(())
}

fn namespace(about: &About) -> &str {
    match about {
        About::Node => "default",
        About::Pod { namespace, .. } => namespace,
    }
}

fn event(node: &str, notice: &Notice) -> serde_json::Value {
    let now = now();
    let (name, object) = match &notice.about {
        // Node events carry the name as UID, as the kubelet's do: `kubectl describe node` asks for that.
        About::Node => (
            node,
            serde_json::json!({ "kind": "Node", "name": node, "uid": node }),
        ),
        About::Pod {
            namespace,
            name,
            uid,
        } => {
            let object = serde_json::json!({
                "kind": "Pod", "apiVersion": "v1", "namespace": namespace, "name": name, "uid": uid,
            });
            (name.as_str(), object)
        }
    };
    serde_json::json!({
        "metadata": { "generateName": format!("{name}."), "namespace": namespace(&notice.about) },
        "involvedObject": object,
        "type": if notice.warning { "Warning" } else { "Normal" },
        "reason": notice.reason, "message": notice.message,
        "source": { "component": "malha-agent", "host": node },
        "reportingComponent": "malha-agent", "reportingInstance": node,
        "firstTimestamp": now, "lastTimestamp": now, "count": 1,
    })
}
