//! Events: what users see of the agent's doings with `kubectl describe`.

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, Node, ObjectReference, Pod},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::sync::mpsc;

/// What may wait to be sent; more than that is lost, and logged.
const QUEUE: usize = 256;
/// Remembered so that repetitions are counted instead of written anew.
const MEMORY: usize = 1024;
const COMPONENT: &str = "kubelet";

/// Sends events; cheap to copy.
#[derive(Clone)]
pub struct Events {
    sender: mpsc::Sender<Occurrence>,
}

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// As it should be.
    Normal,
    /// Somebody should look.
    Warning,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Occurrence {
    uid: String,
    object: [String; 4],
    field: Option<String>,
    kind: Kind,
    reason: &'static str,
    message: String,
}

impl Events {
    /// Starts the sender; it ends when the last copy of this does.
    pub fn start(client: Client, host: String) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(send_all(client, host, receiver));
        Self { sender }
    }

    /// About a pod, or one of its containers.
    pub fn pod(
        &self,
        pod: &Pod,
        container: Option<&str>,
        kind: Kind,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        let text = |t: &Option<String>| t.clone().unwrap_or_default();
        let field = container.map(|name| {
            let spec = pod.spec.as_ref();
            let init = spec
                .and_then(|s| s.init_containers.as_ref())
                .is_some_and(|l| l.iter().any(|c| c.name == name));
            let list = if init { "initContainers" } else { "containers" };
            format!("spec.{list}{{{name}}}")
        });
        let metadata = &pod.metadata;
        self.send(Occurrence {
            uid: text(&metadata.uid),
            object: [
                "v1".into(),
                "Pod".into(),
                text(&metadata.namespace),
                text(&metadata.name),
            ],
            field,
            kind,
            reason,
            message: message.into(),
        });
    }

    /// About the node.
    pub fn node(&self, node: &Node, kind: Kind, reason: &'static str, message: impl Into<String>) {
        let text = |t: &Option<String>| t.clone().unwrap_or_default();
        self.send(Occurrence {
            uid: text(&node.metadata.uid),
            object: [
                "v1".into(),
                "Node".into(),
                String::new(),
                text(&node.metadata.name),
            ],
            field: None,
            kind,
            reason,
            message: message.into(),
        });
    }

    fn send(&self, occurrence: Occurrence) {
        let Occurrence {
            reason, message, ..
        } = &occurrence;
        tracing::debug!(
            object = occurrence.object.join("/"),
            reason,
            message,
            "event"
        );
        if let Err(error) = self.sender.try_send(occurrence) {
            tracing::warn!(%error, "an event was lost");
        }
    }
}

async fn send_all(client: Client, host: String, mut receiver: mpsc::Receiver<Occurrence>) {
    let mut sent: HashMap<Occurrence, (String, i32)> = HashMap::new();
    while let Some(occurrence) = receiver.recv().await {
        if sent.len() >= MEMORY {
            sent.clear();
        }
        let known = sent.get(&occurrence).cloned();
        match send(&client, &host, &occurrence, known).await {
            Ok(known) => drop(sent.insert(occurrence, known)),
            Err(error) => {
                tracing::debug!(%error, reason = occurrence.reason, "an event could not be sent")
            }
        }
    }
}

async fn send(
    client: &Client,
    host: &str,
    occurrence: &Occurrence,
    known: Option<(String, i32)>,
) -> Result<(String, i32), kube::Error> {
    let [api_version, kind, namespace, name] = &occurrence.object;
    let place = if namespace.is_empty() {
        "default"
    } else {
        namespace
    };
    let events: Api<Event> = Api::namespaced(client.clone(), place);
    let now = Time(crate::machine::seconds(Timestamp::now()));
    if let Some((event, count)) = known {
        let count = count.saturating_add(1);
        let patch = Patch::Strategic(json!({"count": count, "lastTimestamp": now}));
        match events.patch(&event, &PatchParams::default(), &patch).await {
            // Events are forgotten by the server after an hour.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            other => return other.map(|_| (event, count)),
        }
    }
    let stamp = Timestamp::now().as_nanosecond();
    let event = Event {
        metadata: ObjectMeta {
            name: Some(format!("{name}.{stamp:x}")),
            namespace: Some(place.to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some(api_version.clone()),
            kind: Some(kind.clone()),
            namespace: Some(namespace.clone()).filter(|n| !n.is_empty()),
            name: Some(name.clone()),
            uid: Some(occurrence.uid.clone()).filter(|u| !u.is_empty()),
            field_path: occurrence.field.clone(),
            resource_version: None,
        },
        reason: Some(occurrence.reason.to_owned()),
        message: Some(occurrence.message.clone()),
        type_: Some(format!("{:?}", occurrence.kind)),
        source: Some(EventSource {
            component: Some(COMPONENT.to_owned()),
            host: Some(host.to_owned()),
        }),
        first_timestamp: Some(now.clone()),
        last_timestamp: Some(now),
        count: Some(1),
        reporting_component: Some(COMPONENT.to_owned()),
        reporting_instance: Some(host.to_owned()),
        ..Event::default()
    };
    let made = events.create(&PostParams::default(), &event).await?;
    Ok((made.metadata.name.unwrap_or_default(), 1))
}
