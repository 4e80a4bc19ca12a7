//! A client for an API server that answers; another one when it stops.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use http::{Request, Uri};
use kube::Client;
use kube::config::AuthInfo;
use tokio::sync::watch;

/// Where the kubelet puts the service account into a pod.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// How long a server may take to say that it lives.
const ANSWER: Duration = Duration::from_secs(3);
/// How often the one in use is asked.
const INTERVAL: Duration = Duration::from_secs(10);
/// How soon again when no server answered.
const RETRY: Duration = Duration::from_secs(1);

/// Where to find the cluster.
#[derive(Clone)]
pub enum Cluster {
    /// At one of these servers, with the pod's service account.
    Servers(Vec<Uri>),
    /// Through this client: for tests, and for a control plane in the same process.
    Client(Client),
}

/// A server in use.
#[derive(Clone)]
pub struct Server {
    /// Its URL.
    pub url: String,
    /// A client for it.
    pub client: Client,
    /// Why it does not answer, if it does not.
    pub problem: Option<String>,
}

/// The server in use, now and whenever it changes.
pub type Current = watch::Receiver<Arc<Server>>;

/// Returns when another server than this one is in use.
pub async fn left(current: &mut Current, url: &str) {
    let other = current.wait_for(|server| server.url != url).await.is_ok();
    if !other {
        // Nobody chooses any more: the one in use stays.
        std::future::pending::<()>().await;
    }
}

/// Choose a server, and keep checking it for as long as somebody listens.
///
/// # Errors
/// When no client can be made, for example for want of a service account.
pub fn connect(cluster: Cluster) -> Result<Current> {
    let servers = match cluster {
        Cluster::Client(client) => {
            let url = "in process".to_owned();
            let server = Server {
                url,
                client,
                problem: None,
            };
            return Ok(watch::channel(Arc::new(server)).1);
        }
        Cluster::Servers(urls) => urls.into_iter().map(server).collect::<Result<Vec<_>>>()?,
    };
    let first = servers
        .first()
        .context("no API server is configured")?
        .clone();
    let (sender, receiver) = watch::channel(Arc::new(first));
    tokio::spawn(supervise(servers, sender));
    Ok(receiver)
}

fn server(url: Uri) -> Result<Server> {
    let account = Path::new(ACCOUNT);
    let (token, ca) = (account.join("token"), account.join("ca.crt"));
    let missing = |path: &Path| {
        format!(
            "cannot read {}: the agent needs a service account",
            path.display()
        )
    };
    std::fs::metadata(&token).with_context(|| missing(&token))?;
    let mut config = kube::Config::new(url.clone());
    // The file decides, and is read again as it changes. Without any list beside it, the client would look for the
    // system's certificates first, and an image has none.
    config.root_cert = Some(Vec::new());
    config.root_cert_file = Some(ca);
    config.auth_info = AuthInfo {
        token_file: Some(token.display().to_string()),
        ..AuthInfo::default()
    };
    config.connect_timeout = Some(ANSWER);
    let client =
        Client::try_from(config).with_context(|| format!("cannot make a client for {url}"))?;
    Ok(Server {
        url: url.to_string(),
        client,
        problem: None,
    })
}

async fn supervise(servers: Vec<Server>, current: watch::Sender<Arc<Server>>) {
    let mut using = 0;
    let mut failures = 0;
    while !current.is_closed() {
        let problem = ask(&servers[using]).await;
        failures = if problem.is_some() { failures + 1 } else { 0 };
        // One lost answer is no reason to leave a server that worked.
        let leave = failures >= 2 || (failures == 1 && current.borrow().problem.is_some());
        if leave && servers.len() > 1 {
            using = (using + 1) % servers.len();
        }
        publish(&current, &servers[using], problem);
        let pause = if failures > 0 { RETRY } else { INTERVAL };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = current.closed() => {}
        }
    }
}

fn publish(current: &watch::Sender<Arc<Server>>, server: &Server, problem: Option<String>) {
    current.send_if_modified(|published| {
        let same = published.url == server.url && published.problem == problem;
        if same {
            return false;
        }
        match &problem {
            Some(problem) => tracing::warn!(
                server = server.url,
                problem,
                "the API server does not answer"
            ),
            None => tracing::info!(server = server.url, "using API server"),
        }
        *published = Arc::new(Server {
            problem,
            ..server.clone()
        });
        true
    });
}

/// What is wrong with a server. Any answer but a failure of its own shows that it lives.
async fn ask(server: &Server) -> Option<String> {
    let request = Request::get("/readyz").body(Vec::new()).ok()?;
    match tokio::time::timeout(ANSWER, server.client.request_text(request)).await {
        Ok(Ok(_)) => None,
        Ok(Err(kube::Error::Api(status))) if status.code < 500 => None,
        Ok(Err(error)) => Some(error_chain(&error)),
        Err(_) => Some(format!("no answer within {} s", ANSWER.as_secs())),
    }
}

/// An error with its causes, each once: clients say the important part last.
#[must_use]
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use http::Response;
    use http_body_util::Full;
    use hyper::body::Bytes;

    use super::*;

    /// A server that answers as long as the flag says so.
    fn fake(url: &str, alive: Arc<AtomicBool>) -> Server {
        let service = tower::service_fn(move |_: Request<kube::client::Body>| {
            let alive = alive.load(Ordering::Relaxed);
            async move {
                let response = Response::new(Full::new(Bytes::from_static(b"ok")));
                alive.then_some(response).ok_or("connection refused")
            }
        });
        Server {
            url: url.to_owned(),
            client: Client::new(service, "default"),
            problem: None,
        }
    }

    #[tokio::test]
    async fn a_server_that_dies_is_left_for_one_that_answers() {
        let alive = [false, true].map(|alive| Arc::new(AtomicBool::new(alive)));
        let servers: Vec<_> = ["a", "b"]
            .into_iter()
            .zip(&alive)
            .map(|(url, flag)| fake(url, flag.clone()))
            .collect();
        let (sender, mut current) = watch::channel(Arc::new(servers[0].clone()));
        tokio::spawn(supervise(servers, sender));
        let told = current
            .wait_for(|server| server.problem.is_some())
            .await
            .unwrap()
            .problem
            .clone();
        assert!(told.unwrap().contains("connection refused"));
        tokio::time::timeout(Duration::from_secs(20), left(&mut current, "a"))
            .await
            .expect("the other one");
        current
            .wait_for(|server| server.url == "b" && server.problem.is_none())
            .await
            .unwrap();
    }
}
