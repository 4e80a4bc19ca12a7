//! Requests and what answers them.

use std::sync::Arc;

use futures::StreamExt;
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use serde_json::json;

use super::{
    Body, Shared,
    access::{self, User},
    exec, forward, logs,
    query::{self, Query},
    remote::{self, Remote, Wanted},
    text,
    upgrade::{Agreed, Stream, agree, upgrade},
};
use crate::runtime::{ContainerRecord, State};

type Answer = Result<Response<Body>, Box<Response<Body>>>;

/// Answers a request of somebody whom TLS may have named.
pub async fn answer(
    request: Request<Incoming>,
    user: Option<User>,
    shared: Arc<Shared>,
) -> Response<Body> {
    match admitted(&request, user, &shared).await {
        Ok(()) => route(request, shared)
            .await
            .unwrap_or_else(|refused| *refused),
        Err(refused) => *refused,
    }
}

fn refused<T>(code: u16, why: impl Into<String>) -> Result<T, Box<Response<Body>>> {
    Err(Box::new(text(code, why)))
}

async fn admitted(
    request: &Request<Incoming>,
    user: Option<User>,
    shared: &Shared,
) -> Result<(), Box<Response<Body>>> {
    let unanswered = |e: kube::Error| Box::new(text(500, format!("Authorization error: {e}")));
    let user = match user {
        Some(user) => Some(user),
        None => access::of_token(request.headers(), &shared.client)
            .await
            .map_err(unanswered)?,
    };
    let Some(user) = user else {
        return refused(401, "Unauthorized");
    };
    let node = &shared.config.node_name;
    if access::may(&user, node, request.method(), &shared.client)
        .await
        .map_err(unanswered)?
    {
        return Ok(());
    }
    refused(
        403,
        format!(
            "Forbidden (user={}, verb={}, resource=nodes, subresource=proxy)",
            user.name,
            request.method()
        ),
    )
}

async fn route(request: Request<Incoming>, shared: Arc<Shared>) -> Answer {
    let parts = query::parts(request.uri().path());
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let streams = [Method::GET, Method::POST].contains(request.method());
    match (request.method(), parts.as_slice()) {
        (&Method::GET, ["healthz"]) => Ok(text(200, "ok")),
        (&Method::GET, ["pods"]) => Ok(pods(&shared)),
        (&Method::GET, ["containerLogs", namespace, pod, container]) => {
            container_logs(&request, &shared, [namespace, pod, container])
        }
        (_, ["exec", namespace, pod, container] | ["exec", namespace, pod, _, container])
            if streams =>
        {
            let record = running(&shared, namespace, pod, container)?;
            run_exec(request, shared, record)
        }
        (_, ["attach", namespace, pod, container] | ["attach", namespace, pod, _, container])
            if streams =>
        {
            let record = running(&shared, namespace, pod, container)?;
            attach(request, &shared, &record)
        }
        (_, ["portForward", namespace, pod] | ["portForward", namespace, pod, _]) if streams => {
            port_forward(request, &shared, namespace, pod)
        }
        _ => refused(404, "404 page not found"),
    }
}

fn pods(shared: &Shared) -> Response<Body> {
    let items: Vec<Pod> = shared
        .registry
        .all()
        .iter()
        .map(|pod| Pod::clone(pod))
        .collect();
    let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items});
    let mut response = text(200, list.to_string());
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

fn find_pod(shared: &Shared, namespace: &str, name: &str) -> Result<Arc<Pod>, Box<Response<Body>>> {
    match shared.registry.get(namespace, name) {
        Some(pod) => Ok(pod),
        None => refused(404, format!("pod \"{name}\" not found\n")),
    }
}

/// The runs of a container, oldest first.
fn runs(
    shared: &Shared,
    pod: &Pod,
    container: &str,
) -> Result<Vec<ContainerRecord>, Box<Response<Body>>> {
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    match shared.runtime.inventory() {
        Ok(inventory) => {
            let all = inventory.containers.into_iter();
            Ok(all
                .filter(|c| c.pod_uid == uid && c.name == container)
                .collect())
        }
        Err(error) => refused(
            500,
            format!("cannot read the records of containers: {error}"),
        ),
    }
}

fn running(
    shared: &Shared,
    namespace: &str,
    name: &str,
    container: &str,
) -> Result<ContainerRecord, Box<Response<Body>>> {
    let pod = find_pod(shared, namespace, name)?;
    let newest = runs(shared, &pod, container)?.pop();
    let state = newest.as_ref().map(|record| shared.runtime.state(record));
    match (newest, state) {
        (Some(record), Some(Ok(State::Running(_)))) => Ok(record),
        _ => refused(500, format!("container not found (\"{container}\")")),
    }
}

fn container_logs(
    request: &Request<Incoming>,
    shared: &Arc<Shared>,
    [namespace, name, container]: [&str; 3],
) -> Answer {
    let query = Query::of(request.uri());
    let wanted = logs::Wanted::of(&query, Timestamp::now()).or_else(|why| refused(400, why))?;
    let pod = find_pod(shared, namespace, name)?;
    let status = container_status(&pod, container);
    let runs = runs(shared, &pod, container)?;
    let chosen = if query.flag("previous") {
        previous(&runs, status.as_ref())
    } else {
        runs.last()
    };
    let Some(record) = chosen.filter(|r| r.log_path.exists()) else {
        return refused(400, not_there(&query, name, container, status.as_ref()));
    };
    let (shared, asked) = (shared.clone(), record.clone());
    let running = move || matches!(shared.runtime.state(&asked), Ok(State::Running(_)));
    let lines = logs::read(record.log_path.clone(), wanted, running);
    let lines = futures::stream::unfold(lines, |mut lines| async move {
        Some((lines.recv().await?, lines))
    });
    let body = BodyExt::boxed(StreamBody::new(lines.map(|chunk| chunk.map(Frame::data))));
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}

fn container_status(pod: &Pod, container: &str) -> Option<ContainerStatus> {
    let status = pod.status.clone()?;
    let all = status
        .container_statuses
        .into_iter()
        .chain(status.init_container_statuses);
    all.flatten().find(|s| s.name == container)
}

/// The run before the one that counts: with a container that waits for its restart that is the last one.
fn previous<'a>(
    runs: &'a [ContainerRecord],
    status: Option<&ContainerStatus>,
) -> Option<&'a ContainerRecord> {
    let state = status.and_then(|s| s.state.as_ref());
    let waits = state.is_some_and(|s| s.waiting.is_some());
    runs.iter().rev().nth(usize::from(!waits))
}

fn not_there(
    query: &Query,
    pod: &str,
    container: &str,
    status: Option<&ContainerStatus>,
) -> String {
    if query.flag("previous") {
        return format!("previous terminated container {container:?} in pod {pod:?} not found");
    }
    let waiting = status.and_then(|s| s.state.as_ref()?.waiting.as_ref()?.reason.clone());
    let reason = waiting.unwrap_or_else(|| "ContainerCreating".to_owned());
    format!("container {container:?} in pod {pod:?} is waiting to start: {reason}")
}

fn wanted(query: &Query) -> Wanted {
    let tty = query.flag("tty");
    Wanted {
        stdin: query.flag("input"),
        stdout: query.flag("output"),
        stderr: query.flag("error") && !tty,
        tty,
    }
}

async fn remote(stream: Stream, agreed: Agreed, wanted: Wanted) -> Remote {
    match agreed {
        Agreed::WebSocket(protocol) => remote::websocket(stream, protocol, wanted).await,
        Agreed::Spdy(protocol) => remote::spdy(stream, protocol, wanted),
    }
}

fn run_exec(request: Request<Incoming>, shared: Arc<Shared>, record: ContainerRecord) -> Answer {
    let query = Query::of(request.uri());
    let (command, wanted) = (query.all("command"), wanted(&query));
    if command.is_empty() {
        return refused(400, "you must specify at least 1 command");
    }
    if !(wanted.stdin || wanted.stdout || wanted.stderr) {
        return refused(400, "you must specify at least 1 of stdin, stdout, stderr");
    }
    let agreed = agree(request.headers(), &remote::WEBSOCKET, &remote::SPDY)?;
    let command = shared.runtime.exec(&record, wanted.tty, &command);
    Ok(upgrade(request, agreed, move |stream| async move {
        exec::run(command, wanted, remote(stream, agreed, wanted).await).await;
    }))
}

fn attach(request: Request<Incoming>, shared: &Shared, record: &ContainerRecord) -> Answer {
    let wanted = wanted(&Query::of(request.uri()));
    let agreed = agree(request.headers(), &remote::WEBSOCKET, &remote::SPDY)?;
    let socket = shared
        .runtime
        .attach(record)
        .or_else(|e| refused(500, format!("cannot attach: {e}")))?;
    Ok(upgrade(request, agreed, move |stream| async move {
        exec::attached(socket, wanted, remote(stream, agreed, wanted).await).await;
    }))
}

fn port_forward(
    request: Request<Incoming>,
    shared: &Shared,
    namespace: &str,
    name: &str,
) -> Answer {
    let pod = find_pod(shared, namespace, name)?;
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let inventory = shared
        .runtime
        .inventory()
        .or_else(|e| refused(500, e.to_string()))?;
    let Some(sandbox) = inventory
        .sandboxes
        .into_iter()
        .find(|s| s.pod_uid == uid && s.ready)
    else {
        return refused(500, format!("pod \"{name}\" is not running"));
    };
    let agreed = agree(request.headers(), &[forward::TUNNEL], &[forward::PROTOCOL])?;
    let netns = sandbox.netns();
    Ok(upgrade(request, agreed, move |stream| async move {
        match agreed {
            Agreed::WebSocket(_) => forward::forward(forward::tunnel(stream).await, netns).await,
            Agreed::Spdy(_) => forward::forward(stream, netns).await,
        }
    }))
}
