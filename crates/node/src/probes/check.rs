//! One probe, made once.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use k8s_openapi::{
    api::core::v1::{Container, HTTPGetAction, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};
use tokio::{net::TcpStream, time::timeout};

use crate::{
    runtime::{ContainerRecord, Runtime},
    server::insecure,
};

/// As much of an answer as is looked at.
const MAX_BODY: usize = 10 * 1024;

/// What to do.
#[derive(Clone, Debug)]
pub enum Handler {
    /// Run a command in the container.
    Exec(Vec<String>),
    /// Ask by HTTP.
    Http {
        /// As in the pod.
        action: HTTPGetAction,
        /// The port's number.
        port: u16,
    },
    /// Connect.
    Tcp {
        /// Where, if not to the pod.
        host: Option<String>,
        /// The port's number.
        port: u16,
    },
    /// It cannot be made: why.
    Impossible(String),
}

/// Whom to ask.
pub struct Target {
    /// Runs commands.
    pub runtime: Arc<Runtime>,
    /// The container.
    pub record: ContainerRecord,
    /// The pod's address; the node's with the host's network.
    pub ip: Option<IpAddr>,
}

/// What a probe of a container means, its ports' names resolved.
pub fn handler(probe: &Probe, container: &Container) -> Handler {
    let port = |port: &IntOrString| match port {
        IntOrString::Int(number) => u16::try_from(*number).ok().filter(|p| *p > 0),
        IntOrString::String(name) => {
            let mut ports = container.ports.iter().flatten();
            let named = ports
                .find(|p| p.name.as_ref() == Some(name))
                .map(|p| p.container_port);
            named
                .or_else(|| name.parse().ok())
                .and_then(|p| u16::try_from(p).ok())
        }
    };
    let unknown = |port: &IntOrString| Handler::Impossible(format!("couldn't find port: {port:?}"));
    if let Some(exec) = &probe.exec {
        return Handler::Exec(exec.command.clone().unwrap_or_default());
    }
    if let Some(action) = &probe.http_get {
        return port(&action.port).map_or_else(
            || unknown(&action.port),
            |port| Handler::Http {
                action: action.clone(),
                port,
            },
        );
    }
    if let Some(tcp) = &probe.tcp_socket {
        let host = tcp.host.clone().filter(|h| !h.is_empty());
        return port(&tcp.port)
            .map_or_else(|| unknown(&tcp.port), |port| Handler::Tcp { host, port });
    }
    Handler::Impossible(
        "this kind of probe is not supported on this node: use exec, httpGet or tcpSocket"
            .to_owned(),
    )
}

/// Makes it.
///
/// # Errors
/// Why it failed, for an event.
pub async fn check(handler: &Handler, target: &Target, limit: Duration) -> Result<(), String> {
    match handler {
        Handler::Exec(command) => exec(command, target, limit).await,
        Handler::Http { action, port } => {
            let shown = || format!("Get {:?}", url(action, target.ip, *port));
            match timeout(limit, http(action, target, *port)).await {
                Ok(outcome) => outcome.map_err(|e| match e {
                    Failure::Answer(text) => text,
                    Failure::Connection(text) => format!("{}: {text}", shown()),
                }),
                Err(_) => Err(format!("{}: context deadline exceeded", shown())),
            }
        }
        Handler::Tcp { host, port } => {
            let address = address(host.as_deref(), target.ip, *port)?;
            match timeout(limit, TcpStream::connect(address)).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(format!("dial tcp {address}: {error}")),
                Err(_) => Err(format!("dial tcp {address}: i/o timeout")),
            }
        }
        Handler::Impossible(why) => Err(why.clone()),
    }
}

async fn exec(command: &[String], target: &Target, limit: Duration) -> Result<(), String> {
    let mut command =
        tokio::process::Command::from(target.runtime.exec(&target.record, false, command));
    command
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true);
    match timeout(limit, command.output()).await {
        Err(_) => Err(format!("command timed out after {}s", limit.as_secs())),
        Ok(Err(error)) => Err(format!("cannot run the probe: {error}")),
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => {
            let all = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(all.get(..MAX_BODY).unwrap_or(&all)).into_owned();
            Err(if text.trim().is_empty() {
                format!("command exited with {}", output.status.code().unwrap_or(-1))
            } else {
                text
            })
        }
    }
}

fn address(host: Option<&str>, ip: Option<IpAddr>, port: u16) -> Result<SocketAddr, String> {
    let ip = match host {
        // Names would need the resolver of the pod: kubelets take the node's; neither is asked here.
        Some(host) => host
            .parse()
            .map_err(|_| format!("host {host:?} is not an address"))?,
        None => ip.ok_or("the pod has no address")?,
    };
    Ok(SocketAddr::new(ip, port))
}

fn is_https(action: &HTTPGetAction) -> bool {
    action
        .scheme
        .as_deref()
        .is_some_and(|s| s.eq_ignore_ascii_case("https"))
}

fn path(action: &HTTPGetAction) -> String {
    let path = action.path.as_deref().unwrap_or("/");
    if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    }
}

fn url(action: &HTTPGetAction, ip: Option<IpAddr>, port: u16) -> String {
    let scheme = if is_https(action) { "https" } else { "http" };
    let host = action.host.clone().filter(|h| !h.is_empty());
    let host = match (host, ip) {
        (Some(host), _) => host,
        (None, Some(IpAddr::V6(ip))) => format!("[{ip}]"),
        (None, Some(ip)) => ip.to_string(),
        (None, None) => String::new(),
    };
    format!("{scheme}://{host}:{port}{}", path(action))
}

enum Failure {
    Connection(String),
    Answer(String),
}

async fn http(action: &HTTPGetAction, target: &Target, port: u16) -> Result<(), Failure> {
    let broken = |e: &dyn std::fmt::Display| Failure::Connection(e.to_string());
    let host = action.host.as_deref().filter(|h| !h.is_empty());
    let address = address(host, target.ip, port).map_err(|e| broken(&e))?;
    let tcp = TcpStream::connect(address)
        .await
        .map_err(|e| broken(&format!("dial tcp {address}: {e}")))?;
    let request = request(action, address).map_err(|e| broken(&e))?;
    let answer = if is_https(action) {
        let tls = insecure::connect(tcp, address.ip())
            .await
            .map_err(|e| broken(&e))?;
        send(TokioIo::new(tls), request).await
    } else {
        send(TokioIo::new(tcp), request).await
    };
    answer
        .map_err(|e| broken(&e))
        .and_then(|(code, body)| match code {
            200..400 => Ok(()),
            _ if body.trim().is_empty() => Err(Failure::Answer(format!(
                "HTTP probe failed with statuscode: {code}"
            ))),
            _ => Err(Failure::Answer(format!(
                "HTTP probe failed with statuscode: {code}: {body}"
            ))),
        })
}

fn request(
    action: &HTTPGetAction,
    address: SocketAddr,
) -> Result<Request<Empty<Bytes>>, http::Error> {
    let version = malha_core::KUBERNETES_VERSION.trim_start_matches('v');
    let mut request = Request::get(path(action))
        .header(header::HOST, address.to_string())
        .header(header::USER_AGENT, format!("kube-probe/{version}"))
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close");
    for given in action.http_headers.iter().flatten() {
        if let Some(headers) = request.headers_mut() {
            let name = HeaderName::try_from(given.name.as_str())?;
            headers.insert(name, HeaderValue::try_from(given.value.as_str())?);
        }
    }
    request.body(Empty::new())
}

async fn send<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<(u16, String), hyper::Error>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(stream).await?;
    let connection = tokio::spawn(connection);
    let answer = sender.send_request(request).await;
    let outcome = match answer {
        Ok(answer) => {
            let code = answer.status().as_u16();
            let body = Limited::new(answer.into_body(), MAX_BODY).collect().await;
            let text = body.map(|b| String::from_utf8_lossy(&b.to_bytes()).into_owned());
            Ok((code, text.unwrap_or_default()))
        }
        Err(error) => Err(error),
    };
    connection.abort();
    outcome
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ports_are_found_by_name() {
        let container: Container = serde_json::from_value(
            json!({"name": "c", "ports": [{"name": "web", "containerPort": 80}]}),
        )
        .unwrap();
        let of = |value| handler(&serde_json::from_value::<Probe>(value).unwrap(), &container);
        assert!(matches!(
            of(json!({"tcpSocket": {"port": "web"}})),
            Handler::Tcp { port: 80, .. }
        ));
        assert!(matches!(
            of(json!({"httpGet": {"port": 8080}})),
            Handler::Http { port: 8080, .. }
        ));
        assert!(matches!(
            of(json!({"httpGet": {"port": "none"}})),
            Handler::Impossible(_)
        ));
        assert!(matches!(
            of(json!({"grpc": {"port": 1}})),
            Handler::Impossible(_)
        ));
    }

    #[tokio::test]
    async fn answers_count_by_their_code() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            for code in [
                "204 No Content",
                "302 Found",
                "500 No\r\nContent-Length: 4\r\n\r\noops",
            ] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut buffer = [0; 1024];
                let _ = stream.read(&mut buffer).await.unwrap();
                stream
                    .write_all(format!("HTTP/1.1 {code}\r\n\r\n").as_bytes())
                    .await
                    .unwrap();
            }
        });
        let action: HTTPGetAction =
            serde_json::from_value(json!({"port": 1, "path": "x"})).unwrap();
        let ask = || async {
            let tcp = TcpStream::connect(address).await.unwrap();
            send(TokioIo::new(tcp), request(&action, address).unwrap())
                .await
                .unwrap()
        };
        assert_eq!(ask().await.0, 204);
        assert_eq!(ask().await.0, 302);
        assert_eq!(ask().await, (500, "oops".to_owned()));
        assert_eq!(url(&action, Some(address.ip()), 1), "http://127.0.0.1:1/x");
    }
}
