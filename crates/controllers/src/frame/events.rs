//! Events: what `kubectl describe` shows the user of a controller's decisions.

use std::collections::HashMap;

use http::{Method, Request, header::CONTENT_TYPE};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// Events that wait to be written; more are dropped, since they inform and nothing depends on them.
const WAITING: usize = 512;
/// Events that are remembered so that a repetition is counted instead of written again.
const REMEMBERED: usize = 1024;

/// `Normal` or `Warning`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Severity {
    Normal,
    Warning,
}

/// Something to tell the user about an object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Note {
    pub regarding: ObjectReference,
    pub severity: Severity,
    pub reason: &'static str,
    pub message: String,
    /// Who says it.
    pub component: &'static str,
}

impl Note {
    pub fn new<K: Resource<DynamicType = ()>>(
        object: &K,
        severity: Severity,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        let regarding = ObjectReference {
            resource_version: None,
            ..object.object_ref(&())
        };
        Self {
            regarding,
            severity,
            reason,
            message: message.into(),
            component: "malha-controllers",
        }
    }

    /// Says it in the name of `component`.
    pub fn by(mut self, component: &'static str) -> Self {
        self.component = component;
        self
    }

    /// With the name of a new object in place of `{}`.
    pub(super) fn filled(mut self, name: &str) -> Self {
        self.message = self.message.replace("{}", name);
        self
    }

    fn key(&self) -> (String, &'static str, String) {
        let about = &self.regarding;
        let about = about.uid.as_ref().or(about.name.as_ref());
        (
            about.cloned().unwrap_or_default(),
            self.reason,
            self.message.clone(),
        )
    }

    /// The namespace the event lives in: the object's, or `default` for cluster-wide objects.
    fn namespace(&self) -> &str {
        self.regarding.namespace.as_deref().unwrap_or("default")
    }

    fn event(&self, now: Timestamp) -> Event {
        let name = self.regarding.name.as_deref().unwrap_or_default();
        // As Kubernetes names them: by the object and the time.
        let unique = now.as_nanosecond();
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{name}.{unique:x}")),
                namespace: Some(self.namespace().to_owned()),
                ..ObjectMeta::default()
            },
            involved_object: self.regarding.clone(),
            reason: Some(self.reason.to_owned()),
            message: Some(self.message.clone()),
            source: Some(EventSource {
                component: Some(self.component.to_owned()),
                host: None,
            }),
            reporting_component: Some(self.component.to_owned()),
            reporting_instance: Some(String::new()),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            count: Some(1),
            type_: Some(format!("{:?}", self.severity)),
            ..Event::default()
        }
    }
}

/// Takes notes; [`write_events`] writes them down.
#[derive(Clone)]
pub(crate) struct Recorder(mpsc::Sender<Note>);

impl Recorder {
    pub fn new() -> (Self, mpsc::Receiver<Note>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(sender), receiver)
    }

    pub fn record(&self, note: Note) {
        if let Err(error) = self.0.try_send(note) {
            tracing::debug!(%error, "an event was dropped");
        }
    }
}

/// Writes notes as events until nobody takes notes any more. The same note about the same object raises a count.
pub(crate) async fn write_events(client: kube::Client, mut notes: mpsc::Receiver<Note>) {
    let mut written: HashMap<_, (String, i32)> = HashMap::new();
    while let Some(note) = notes.recv().await {
        if written.len() >= REMEMBERED {
            written.clear();
        }
        let now = Timestamp::now();
        let known = written.get(&note.key()).cloned();
        let outcome = match known {
            Some((name, count)) => repeat(&client, &note, (name, count + 1), now).await,
            None => create(&client, &note, now).await,
        };
        match outcome {
            Ok(entry) => drop(written.insert(note.key(), entry)),
            Err(error) => {
                // It may have expired meanwhile; the next one is written anew.
                written.remove(&note.key());
                tracing::debug!(%error, reason = note.reason, "an event was not written");
            }
        }
    }
}

async fn create(
    client: &kube::Client,
    note: &Note,
    now: Timestamp,
) -> Result<(String, i32), kube::Error> {
    let path = Event::url_path(&(), Some(note.namespace()));
    let event = note.event(now);
    let body = serde_json::to_vec(&event).map_err(kube::Error::SerdeError)?;
    send(client, (Method::POST, "application/json"), path, body).await?;
    Ok((event.name_any(), 1))
}

async fn repeat(
    client: &kube::Client,
    note: &Note,
    (name, count): (String, i32),
    now: Timestamp,
) -> Result<(String, i32), kube::Error> {
    let path = format!("{}/{name}", Event::url_path(&(), Some(note.namespace())));
    let patch = json!({"count": count, "lastTimestamp": Time(now)}).to_string();
    send(
        client,
        (Method::PATCH, "application/merge-patch+json"),
        path,
        patch.into(),
    )
    .await?;
    Ok((name, count))
}

async fn send(
    client: &kube::Client,
    (method, media): (Method, &str),
    path: String,
    body: Vec<u8>,
) -> Result<(), kube::Error> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(CONTENT_TYPE, media)
        .body(body)
        .map_err(kube::Error::HttpError)?;
    client.request::<Value>(request).await.map(drop)
}
