//! One request that changes the cluster, as a value: what most decisions are made of.

use std::{fmt, sync::Arc, time::Duration};

use futures::future::select_all;
use http::{Method, Request, header::CONTENT_TYPE};
use kube::Resource;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{ActError, Action, Note, Recorder, Watched, store::parse_version};

/// How long to wait for a store to see what was written. It takes a millisecond; after this the decision is made on
/// what is known, which conflicts at worst.
const SETTLE: Duration = Duration::from_secs(2);

/// An object or a collection in the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// `apps/v1/daemonsets`.
    collection: String,
    namespace: Option<String>,
    name: Option<String>,
    subresource: Option<&'static str>,
}

impl Target {
    /// The collection of a kind.
    pub fn all<K: Resource<DynamicType = ()>>(namespace: Option<&str>) -> Self {
        Self::dynamic(&K::api_version(&()), &K::plural(&()), namespace)
    }

    /// A collection of a kind known only at run time.
    pub fn dynamic(api_version: &str, plural: &str, namespace: Option<&str>) -> Self {
        Self {
            collection: format!("{api_version}/{plural}"),
            namespace: namespace.filter(|n| !n.is_empty()).map(str::to_owned),
            name: None,
            subresource: None,
        }
    }

    /// An object that exists.
    pub fn of<K: Resource<DynamicType = ()>>(object: &K) -> Self {
        let meta = object.meta();
        Self::all::<K>(meta.namespace.as_deref()).named(meta.name.as_deref().unwrap_or_default())
    }

    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    pub fn sub(mut self, subresource: &'static str) -> Self {
        self.subresource = Some(subresource);
        self
    }

    fn path(&self) -> String {
        let group = self.collection.matches('/').count() == 2;
        let (version, plural) = self
            .collection
            .rsplit_once('/')
            .unwrap_or(("", &self.collection));
        let mut path = format!("/{}/{version}/", if group { "apis" } else { "api" });
        if let Some(namespace) = &self.namespace {
            path += &format!("namespaces/{namespace}/");
        }
        path += plural;
        for part in self.name.as_deref().into_iter().chain(self.subresource) {
            path += "/";
            path += part;
        }
        path
    }
}

/// What must be true of an object for its deletion.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Precondition {
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_version: Option<String>,
}

impl Precondition {
    /// The object is the one that was seen, in whatever state.
    pub fn same<K: Resource>(object: &K) -> Self {
        Self {
            uid: object.meta().uid.clone(),
            resource_version: None,
        }
    }

    /// The object is the one with this uid.
    pub fn uid(uid: &str) -> Self {
        Self {
            uid: Some(uid.to_owned()),
            resource_version: None,
        }
    }

    /// The object has not changed since it was seen.
    pub fn unchanged<K: Resource>(object: &K) -> Self {
        Self {
            resource_version: object.meta().resource_version.clone(),
            ..Self::same(object)
        }
    }
}

/// A request. Its text form is what golden tests compare: `PATCH /api/v1/nodes/w1 {…}`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Write {
    method: Method,
    target: Target,
    body: Value,
    /// Tells apart creations that let the server choose the name.
    about: String,
    /// What to tell the user once it is done; the new object's name replaces `{}`.
    note: Option<Box<Note>>,
    /// What to tell the user when it fails; the reason replaces `{}`.
    complaint: Option<Box<Note>>,
}

impl Write {
    fn new(method: Method, target: Target, body: Value) -> Self {
        Self {
            method,
            target,
            body,
            about: String::new(),
            note: None,
            complaint: None,
        }
    }

    /// Creates an object in a collection, or posts to a subresource.
    pub fn create(target: Target, body: Value) -> Self {
        Self::new(Method::POST, target, body)
    }

    /// Replaces an object.
    pub fn replace(target: Target, body: Value) -> Self {
        Self::new(Method::PUT, target, body)
    }

    /// Changes an object by a JSON merge patch (RFC 7396): lists are replaced as a whole, so a patch with a list has a
    /// [`versioned`] body.
    pub fn patch(target: Target, body: Value) -> Self {
        Self::new(Method::PATCH, target, body)
    }

    /// Deletes an object, or every object of a collection.
    pub fn delete(target: Target, precondition: &Precondition) -> Self {
        let mut body = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
        if precondition != &Precondition::default() {
            body["preconditions"] = json!(precondition);
        }
        Self::new(Method::DELETE, target, body)
    }

    /// Deletes at once, without waiting for a node to stop the pod.
    pub fn now(mut self) -> Self {
        self.body["gracePeriodSeconds"] = 0.into();
        self
    }

    /// `Background` or `Foreground`: what becomes of the dependents.
    pub fn propagate(mut self, policy: &str) -> Self {
        self.body["propagationPolicy"] = policy.into();
        self
    }

    pub fn about(mut self, what: impl Into<String>) -> Self {
        self.about = what.into();
        self
    }

    pub fn note(mut self, note: Note) -> Self {
        self.note = Some(Box::new(note));
        self
    }

    pub fn complaint(mut self, note: Note) -> Self {
        self.complaint = Some(Box::new(note));
        self
    }
}

/// A merge patch that holds only for the version of `object` that was seen.
pub(crate) fn versioned<K: Resource>(object: &K, mut patch: Value) -> Value {
    if let Some(version) = &object.meta().resource_version {
        patch["metadata"]["resourceVersion"] = version.as_str().into();
    }
    patch
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.method, self.target.path(), self.body)
    }
}

impl Action for Write {
    fn key(&self) -> String {
        format!("{} {} {}", self.method, self.target.path(), self.about)
    }

    async fn perform(&self, api: &Api) -> Result<(), ActError> {
        let outcome = api.write(self).await;
        if let (Err(error), Some(complaint)) = (&outcome, &self.complaint)
            && !error.is_ordinary()
        {
            api.record(Note::clone(complaint).filled(&error.to_string()));
        }
        outcome.map(drop)
    }
}

/// The way to the cluster.
#[derive(Clone)]
pub(crate) struct Api {
    client: kube::Client,
    stores: Arc<Vec<Arc<dyn Watched>>>,
    recorder: Recorder,
}

/// What is read of an answer: an object's metadata, or of a `Status` nothing.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Written {
    #[serde(default)]
    pub metadata: WrittenMeta,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WrittenMeta {
    pub name: Option<String>,
    pub resource_version: Option<String>,
}

impl Api {
    pub fn new(client: kube::Client, stores: Vec<Arc<dyn Watched>>, recorder: Recorder) -> Self {
        Self {
            client,
            stores: Arc::new(stores),
            recorder,
        }
    }

    /// The same, for a controller with stores of its own.
    pub fn with_stores(self, stores: Vec<Arc<dyn Watched>>) -> Self {
        Self {
            stores: Arc::new(stores),
            ..self
        }
    }

    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// Tells the user about something.
    pub fn record(&self, note: Note) {
        self.recorder.record(note);
    }

    /// Asks for something that changes nothing: a review.
    pub async fn ask<T: DeserializeOwned>(&self, write: &Write) -> Result<T, ActError> {
        Ok(send(&self.client, write).await?)
    }

    /// An object as it is now, if it exists.
    pub async fn look<T: DeserializeOwned>(&self, target: &Target) -> Result<Option<T>, ActError> {
        let request = Request::get(target.path())
            .body(Vec::new())
            .map_err(kube::Error::HttpError)?;
        match self.client.request(request).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            other => Ok(Some(other?)),
        }
    }

    /// Sends a request and waits until the stores have seen the result. What is there already counts as created, what
    /// is gone already as deleted.
    pub async fn write(&self, write: &Write) -> Result<Written, ActError> {
        let before = self.known(&write.target);
        let done = match send(&self.client, write).await {
            Err(kube::Error::Api(status)) if is_done_already(write, &status) => Written::default(),
            other => other?,
        };
        if let Some(note) = &write.note {
            let name = done.metadata.name.as_deref().unwrap_or_default();
            self.recorder.record(Note::clone(note).filled(name));
        }
        let seen = self.seen(write, &done, before);
        // A store that is behind is no failure: the next decision may conflict, and is then made again.
        let _ = tokio::time::timeout(SETTLE, seen).await;
        Ok(done)
    }

    fn watching(&self, target: &Target) -> impl Iterator<Item = &Arc<dyn Watched>> {
        let stores = self.stores.iter();
        stores.filter(|store| store.collection() == target.collection)
    }

    fn known(&self, target: &Target) -> Option<String> {
        let namespace = target.namespace.as_deref().unwrap_or_default();
        let name = target.name.as_deref()?;
        self.watching(target)
            .find_map(|store| store.version_of(namespace, name))
    }

    /// Waits until one store of the kind shows the result.
    async fn seen(&self, write: &Write, done: &Written, before: Option<String>) {
        let version = parse_version(done.metadata.resource_version.as_deref());
        let namespace = write.target.namespace.as_deref().unwrap_or_default();
        let name = write.target.name.as_deref();
        let waits = self.watching(&write.target).map(|store| {
            let before = &before;
            Box::pin(async move {
                let shows = |seen: u64| match (version, name) {
                    (0, Some(name)) => store.version_of(namespace, name) != *before,
                    (0, None) => true,
                    (version, _) => seen >= version,
                };
                let mut progress = store.progress();
                let _ = progress.wait_for(|progress| shows(progress.version)).await;
            })
        });
        let waits: Vec<_> = waits.collect();
        let unknown = version == 0 && before.is_none();
        if !waits.is_empty() && !unknown {
            select_all(waits).await;
        }
    }
}

fn is_done_already(write: &Write, status: &kube::core::Status) -> bool {
    match write.method {
        Method::DELETE => status.code == 404,
        // A generated name that is taken is bad luck, not success.
        Method::POST => {
            status.reason == "AlreadyExists" && write.body.pointer("/metadata/name").is_some()
        }
        _ => false,
    }
}

async fn send<T: DeserializeOwned>(client: &kube::Client, write: &Write) -> Result<T, kube::Error> {
    let media = match write.method {
        Method::PATCH => "application/merge-patch+json",
        _ => "application/json",
    };
    let query = match write.method {
        Method::DELETE => "",
        _ => "?fieldManager=malha-controllers",
    };
    let request = Request::builder()
        .method(write.method.clone())
        .uri(format!("{}{query}", write.target.path()))
        .header(CONTENT_TYPE, media)
        .body(write.body.to_string().into_bytes())
        .map_err(kube::Error::HttpError)?;
    client.request(request).await
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::{apps::v1::DaemonSet, core::v1::Pod};

    use super::*;

    #[test]
    fn writes_read_as_requests() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {
            "name": "p", "namespace": "default", "uid": "u1", "resourceVersion": "7",
        }}))
        .unwrap();
        let cases = [
            (
                Write::patch(
                    Target::of(&pod).sub("status"),
                    versioned(&pod, json!({"status": {}})),
                ),
                r#"PATCH /api/v1/namespaces/default/pods/p/status {"metadata":{"resourceVersion":"7"},"status":{}}"#,
            ),
            (
                Write::create(Target::all::<DaemonSet>(Some("x")), json!({})),
                "POST /apis/apps/v1/namespaces/x/daemonsets {}",
            ),
            (
                Write::delete(Target::of(&pod), &Precondition::unchanged(&pod)).now(),
                r#"DELETE /api/v1/namespaces/default/pods/p {"apiVersion":"v1","gracePeriodSeconds":0,"kind":"DeleteOptions","preconditions":{"resourceVersion":"7","uid":"u1"}}"#,
            ),
        ];
        for (write, expected) in cases {
            assert_eq!(write.to_string(), expected);
        }
    }
}
