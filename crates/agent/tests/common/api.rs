//! An API server that knows nodes and pods, and remembers what it is told.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast;

type Body = BoxBody<Bytes, Infallible>;

/// Kinds that can be watched, as in paths; nobody makes some of them.
const KINDS: [&str; 4] = ["nodes", "pods", "namespaces", "networkpolicies"];

struct State {
    /// By kind and name.
    objects: BTreeMap<(&'static str, String), Value>,
    version: u64,
    events: Vec<Value>,
    /// What kubeadm's ConfigMap says, if there is one.
    cluster: Option<String>,
    /// Requests, as `VERB path`.
    requests: Vec<String>,
}

impl State {
    fn node(&self, name: &str) -> Option<&Value> {
        self.objects.get(&("nodes", name.to_owned()))
    }

    fn of_kind(&self, kind: &'static str) -> impl Iterator<Item = &Value> {
        let same = self.objects.iter().filter(move |((of, _), _)| *of == kind);
        same.map(|(_, object)| object)
    }
}

/// See the module. Clones are the same server.
#[derive(Clone)]
pub struct FakeApi {
    state: Arc<Mutex<State>>,
    changes: broadcast::Sender<(&'static str, u64, Value)>,
    pub socket: PathBuf,
}

impl FakeApi {
    /// Serve on a socket in this directory, on a thread of its own.
    pub fn start(directory: &Path) -> Self {
        let state = State {
            objects: BTreeMap::new(),
            version: 1,
            events: Vec::new(),
            cluster: None,
            requests: Vec::new(),
        };
        let api = Self {
            state: Arc::new(Mutex::new(state)),
            changes: broadcast::channel(1024).0,
            socket: directory.join("api.sock"),
        };
        let server = api.clone();
        let (ready, wait) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let listener = UnixListener::bind(&server.socket).unwrap();
                ready.send(()).unwrap();
                server.accept(listener).await;
            });
        });
        wait.recv().unwrap();
        api
    }

    pub fn set_cluster(&self, configuration: &str) {
        self.lock().cluster = Some(configuration.to_owned());
    }

    /// Add or change a node.
    pub fn set_node(&self, name: &str, addresses: &[String], ranges: &[String]) {
        let addresses: Vec<_> = addresses
            .iter()
            .map(|a| json!({ "type": "InternalIP", "address": a }))
            .collect();
        let (known, count) = {
            let state = self.lock();
            (state.node(name).cloned(), state.of_kind("nodes").count())
        };
        // The order of their registration is the order of their age.
        let created = match known {
            Some(old) => old["metadata"]["creationTimestamp"].clone(),
            None => json!(format!("2026-01-01T00:00:{count:02}Z")),
        };
        let node = json!({
            "kind": "Node", "apiVersion": "v1", "metadata": { "name": name, "uid": format!("uid-{name}"), "creationTimestamp": created },
            "spec": { "podCIDR": ranges.first(), "podCIDRs": ranges },
            "status": { "addresses": addresses, "images": [{ "names": ["left/out:1"], "sizeBytes": 1 }] },
        });
        self.put("MODIFIED", "nodes", name, node);
    }

    /// A pod of namespace default, bound to a node.
    pub fn set_pod(&self, name: &str, node: &str) {
        let pod = json!({
            "kind": "Pod", "apiVersion": "v1",
            "metadata": { "name": name, "namespace": "default", "uid": format!("uid-{name}") },
            "spec": { "nodeName": node, "containers": [] },
        });
        self.put("MODIFIED", "pods", name, pod);
    }

    pub fn delete_node(&self, name: &str) {
        let node = self.lock().node(name).cloned().expect("the node");
        self.put("DELETED", "nodes", name, node);
        self.lock().objects.remove(&("nodes", name.to_owned()));
    }

    /// Status and reason of a node's NetworkUnavailable condition.
    pub fn network_condition(&self, name: &str) -> Option<(String, String, String)> {
        let state = self.lock();
        let conditions = state.node(name)?["status"]["conditions"]
            .as_array()?
            .clone();
        let found = conditions
            .into_iter()
            .find(|c| c["type"] == "NetworkUnavailable")?;
        let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
        Some((text("status"), text("reason"), text("message")))
    }

    /// Events of a reason: kind and name of their object, and message.
    pub fn events(&self, reason: &str) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let state = self.lock();
        let found = state
            .events
            .iter()
            .filter(|event| event["reason"] == reason);
        found
            .map(|event| {
                let object = &event["involvedObject"];
                (
                    format!("{}/{}", text(&object["kind"]), text(&object["name"])),
                    text(&event["message"]),
                )
            })
            .collect()
    }

    /// Verbs and paths that were asked for, each once.
    pub fn requests(&self) -> Vec<String> {
        let mut requests = self.lock().requests.clone();
        requests.sort();
        requests.dedup();
        requests
    }

    fn put(&self, event: &str, kind: &'static str, name: &str, mut node: Value) {
        let mut state = self.lock();
        state.version += 1;
        node["metadata"]["resourceVersion"] = json!(state.version.to_string());
        // Conditions are others' business.
        let key = (kind, name.to_owned());
        if let Some(conditions) = state
            .objects
            .get(&key)
            .and_then(|old| old["status"].get("conditions"))
            && node["status"].get("conditions").is_none()
        {
            node["status"]["conditions"] = conditions.clone();
        }
        state.objects.insert(key, node.clone());
        let change = json!({ "type": event, "object": node });
        let _ = self.changes.send((kind, state.version, change));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    async fn accept(self, listener: UnixListener) {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let server = self.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let server = server.clone();
                    async move { Ok::<_, Infallible>(server.answer(request).await) }
                });
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let query = request.uri().query().unwrap_or_default().to_owned();
        let verb = match (&method, query.contains("watch=true")) {
            (_, true) => "watch".to_owned(),
            (method, _) => method.as_str().to_lowercase(),
        };
        self.lock().requests.push(format!("{verb} {path}"));
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        match (method, parts.as_slice()) {
            (Method::GET, ["readyz"]) => reply(StatusCode::OK, &json!("ok")),
            (Method::GET, ["api", "v1", kind] | ["apis", "networking.k8s.io", "v1", kind])
                if let Some(kind) = KINDS.iter().find(|known| *known == kind) =>
            {
                match verb.as_str() {
                    "watch" => self.watch(kind, &query),
                    _ => self.list(kind),
                }
            }
            (Method::PATCH, ["api", "v1", "nodes", name, "status"]) => self.patch(name, &body),
            (Method::POST, ["api", "v1", "namespaces", _, "events"]) => self.event(&body),
            (
                Method::GET,
                [
                    "api",
                    "v1",
                    "namespaces",
                    "kube-system",
                    "configmaps",
                    "kubeadm-config",
                ],
            ) => self.kubeadm(),
            _ => not_found(&path),
        }
    }

    fn list(&self, kind: &'static str) -> Response<Body> {
        let state = self.lock();
        let items: Vec<_> = state.of_kind(kind).collect();
        let metadata = json!({ "resourceVersion": state.version.to_string() });
        reply(
            StatusCode::OK,
            &json!({ "kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items }),
        )
    }

    /// From the version asked for; what changed between the list and now comes as modified.
    fn watch(&self, kind: &'static str, query: &str) -> Response<Body> {
        let from = query
            .split('&')
            .find_map(|part| part.strip_prefix("resourceVersion="))
            .and_then(|v| v.parse().ok());
        let from: u64 = from.unwrap_or(0);
        let state = self.lock();
        let newer = |node: &&Value| {
            node["metadata"]["resourceVersion"]
                .as_str()
                .and_then(|v| v.parse().ok())
                > Some(from)
        };
        let missed: Vec<_> = state
            .of_kind(kind)
            .filter(newer)
            .map(|node| {
                (
                    kind,
                    from + 1,
                    json!({ "type": "MODIFIED", "object": node }),
                )
            })
            .collect();
        let live = self.changes.subscribe();
        drop(state);
        let stream = futures::stream::unfold(
            (missed.into_iter(), live),
            move |(mut missed, mut live)| async move {
                loop {
                    let (of, version, event) = match missed.next() {
                        Some(event) => event,
                        None => live.recv().await.ok()?,
                    };
                    if of == kind && version > from {
                        let line = format!("{event}\n");
                        return Some((Ok(Frame::data(Bytes::from(line))), (missed, live)));
                    }
                }
            },
        );
        Response::new(BodyExt::boxed(StreamBody::new(stream)))
    }

    fn patch(&self, name: &str, body: &[u8]) -> Response<Body> {
        let patch: Value = serde_json::from_slice(body).unwrap();
        let Some(mut node) = self.lock().node(name).cloned() else {
            return not_found(name);
        };
        // As a strategic merge does it: conditions by type.
        let mut conditions = node["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        for condition in patch["status"]["conditions"].as_array().unwrap() {
            conditions.retain(|old| old["type"] != condition["type"]);
            conditions.push(condition.clone());
        }
        node["status"]["conditions"] = json!(conditions);
        self.put("MODIFIED", "nodes", name, node.clone());
        reply(StatusCode::OK, &node)
    }

    fn event(&self, body: &[u8]) -> Response<Body> {
        let mut event: Value = serde_json::from_slice(body).unwrap();
        let mut state = self.lock();
        event["metadata"]["name"] = json!(format!("event-{}", state.events.len()));
        state.events.push(event.clone());
        reply(StatusCode::CREATED, &event)
    }

    fn kubeadm(&self) -> Response<Body> {
        match &self.lock().cluster {
            None => not_found("kubeadm-config"),
            Some(text) => reply(
                StatusCode::OK,
                &json!({
                    "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "name": "kubeadm-config" },
                    "data": { "ClusterConfiguration": text },
                }),
            ),
        }
    }
}

fn reply(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(value.to_string())).boxed());
    *response.status_mut() = status;
    response
}

fn not_found(what: &str) -> Response<Body> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "reason": "NotFound",
        "message": format!("{what} not found"),
    });
    reply(StatusCode::NOT_FOUND, &status)
}

/// A client that reaches the server through its socket.
pub fn client(socket: PathBuf) -> kube::Client {
    let service = tower::service_fn(move |request: Request<kube::client::Body>| {
        let socket = socket.clone();
        async move {
            let stream = UnixStream::connect(&socket).await?;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            Ok::<_, tower::BoxError>(sender.send_request(request).await?)
        }
    });
    kube::Client::new(service, "default")
}
