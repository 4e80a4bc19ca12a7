//! A small HTTPS client for the requests of a join, whose every failure says what is wrong and what to do.
//!
//! There are two kinds, and the type system keeps them apart. An [`Unverified`] client takes any certificate and can
//! send nothing but a bare GET: it has no place for a secret. A [`Verified`] client checks the server against a CA
//! that has been proven, and only it can carry a token or a client certificate.

mod error;
mod tls;

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
    time::Duration,
};

use ::http::{HeaderValue, Method, Request, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use rustls::{ClientConfig, pki_types::ServerName};
use serde_json::Value;
use tokio::{net::TcpStream, sync::oneshot, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

pub use error::{CertificateFault, RequestError};
pub use tls::TlsError;

use crate::{
    clock::Clock,
    endpoint::{Endpoint, Host},
};

/// Larger answers than any that a join asks for.
const LIMIT: usize = 4 * 1024 * 1024;

/// How long to wait.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For the name, the connection and the TLS handshake, each.
    pub connect: Duration,
    /// For the answer, once connected.
    pub answer: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(4),
            answer: Duration::from_secs(5),
        }
    }
}

/// A server's answer.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// The server's clock (`Date`), when it told.
    pub date: Option<Timestamp>,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> Result<Value, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }

    /// What a Kubernetes `Status` says, else the HTTP status.
    pub fn message(&self) -> String {
        let status = self.json().ok();
        let text = status.as_ref().and_then(|s| s.get("message")?.as_str());
        text.map_or_else(|| self.status.to_string(), str::to_owned)
    }
}

/// Talks to whoever answers at an endpoint, and tells them nothing.
pub struct Unverified(Wire);

impl Unverified {
    /// A client that takes any certificate.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(endpoint: Endpoint, clock: Clock, limits: Limits) -> Result<Self, TlsError> {
        let tls = tls::unverified(clock)?;
        Ok(Self(Wire::new(endpoint, tls, limits)))
    }

    /// GET without credentials.
    ///
    /// # Errors
    /// When nobody answers in time.
    pub async fn get(&self, path: &str) -> Result<Answer, RequestError> {
        self.0.send(Method::GET, path, None, None).await
    }
}

/// Talks to a server that proved to hold a key certified by a given CA.
pub struct Verified {
    wire: Wire,
    bearer: Option<HeaderValue>,
}

impl Verified {
    /// A client that trusts the certificates in `ca_pem` and nothing else.
    ///
    /// # Errors
    /// When the PEM holds no usable certificate.
    pub fn new(
        endpoint: Endpoint,
        ca_pem: &str,
        clock: Clock,
        limits: Limits,
    ) -> Result<Self, TlsError> {
        let tls = tls::verified(ca_pem, None, clock)?;
        Ok(Self {
            wire: Wire::new(endpoint, tls, limits),
            bearer: None,
        })
    }

    /// The same, with a client certificate: one PEM text holds certificate and key.
    ///
    /// # Errors
    /// When a PEM text is not what it should be.
    pub fn with_identity(
        endpoint: Endpoint,
        ca_pem: &str,
        identity_pem: &str,
        clock: Clock,
        limits: Limits,
    ) -> Result<Self, TlsError> {
        let tls = tls::verified(ca_pem, Some(identity_pem), clock)?;
        Ok(Self {
            wire: Wire::new(endpoint, tls, limits),
            bearer: None,
        })
    }

    /// Sends a bearer token along from now on.
    pub fn with_bearer(mut self, token: &str) -> Self {
        let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok();
        // Keeps it out of logs and of HTTP/2's compression tables.
        value.iter_mut().for_each(|v| v.set_sensitive(true));
        self.bearer = value;
        self
    }

    /// Who is asked.
    pub fn endpoint(&self) -> &Endpoint {
        &self.wire.endpoint
    }

    /// GET.
    ///
    /// # Errors
    /// When the server cannot be reached or verified, or does not answer in time.
    pub async fn get(&self, path: &str) -> Result<Answer, RequestError> {
        self.send(Method::GET, path, None).await
    }

    /// Any request; `body` is a content type and a JSON text.
    ///
    /// # Errors
    /// As [`Verified::get`].
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<(&'static str, Vec<u8>)>,
    ) -> Result<Answer, RequestError> {
        self.wire
            .send(method, path, body, self.bearer.as_ref())
            .await
    }
}

/// One connection per request: a join makes about ten.
struct Wire {
    endpoint: Endpoint,
    tls: TlsConnector,
    limits: Limits,
}

impl Wire {
    fn new(endpoint: Endpoint, tls: ClientConfig, limits: Limits) -> Self {
        let tls = TlsConnector::from(Arc::new(tls));
        Self {
            endpoint,
            tls,
            limits,
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<(&'static str, Vec<u8>)>,
        bearer: Option<&HeaderValue>,
    ) -> Result<Answer, RequestError> {
        let stream = self.connect().await?;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.endpoint.to_string())
            .header(header::ACCEPT, "application/json, */*")
            .header(
                header::USER_AGENT,
                concat!("malha/", env!("CARGO_PKG_VERSION")),
            );
        if let Some(bearer) = bearer {
            request = request.header(header::AUTHORIZATION, bearer);
        }
        let content = match body {
            Some((kind, content)) => {
                request = request.header(header::CONTENT_TYPE, kind);
                content
            }
            None => Vec::new(),
        };
        let request = request
            .body(Full::new(Bytes::from(content)))
            .map_err(|e| self.broken(&e))?;
        timeout(self.limits.answer, self.exchange(stream, request))
            .await
            .map_err(|_| self.slow("answer", self.limits.answer))?
    }

    async fn exchange(
        &self,
        stream: TlsStream<TcpStream>,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, RequestError> {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| self.http(&e))?;
        let driver = tokio::spawn(connection);
        let answer = sender
            .send_request(request)
            .await
            .map_err(|e| self.http(&e))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, LIMIT).collect().await;
        driver.abort();
        let date = head.headers.get(header::DATE).and_then(read_date);
        let body = body.map_err(|e| self.broken(&e))?.to_bytes();
        Ok(Answer {
            status: head.status,
            date,
            body,
        })
    }

    async fn connect(&self) -> Result<TlsStream<TcpStream>, RequestError> {
        let limit = self.limits.connect;
        let addresses =
            timeout(limit, self.addresses())
                .await
                .map_err(|_| RequestError::SilentNames {
                    name: self.endpoint.host.to_string(),
                    seconds: limit.as_secs_f32(),
                })??;
        let stream = timeout(limit, self.dial(&addresses))
            .await
            .map_err(|_| self.slow("connection", limit))??;
        let _ = stream.set_nodelay(true);
        let name = self.server_name()?;
        timeout(limit, self.tls.connect(name, stream))
            .await
            .map_err(|_| self.slow("TLS handshake", limit))?
            .map_err(|e| error::of_handshake(&self.endpoint, &e))
    }

    async fn addresses(&self) -> Result<Vec<SocketAddr>, RequestError> {
        let name = match &self.endpoint.host {
            Host::Address(address) => {
                return Ok(vec![SocketAddr::new(*address, self.endpoint.port)]);
            }
            Host::Name(name) => name,
        };
        let unknown = |reason: String| RequestError::UnknownName {
            name: name.clone(),
            reason,
        };
        let found = look_up(name.clone(), self.endpoint.port).await;
        let found = found.map_err(|e| unknown(e.to_string()))?;
        if found.is_empty() {
            return Err(unknown("it has no address".to_owned()));
        }
        Ok(found)
    }

    /// The first address that takes the connection; the last refusal if none does.
    async fn dial(&self, addresses: &[SocketAddr]) -> Result<TcpStream, RequestError> {
        let mut refusal = None;
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => refusal = Some(error::of_connect(&self.endpoint, &error)),
            }
        }
        Err(refusal.unwrap_or_else(|| self.broken(&"no address")))
    }

    fn server_name(&self) -> Result<ServerName<'static>, RequestError> {
        match &self.endpoint.host {
            Host::Address(address) => Ok(ServerName::IpAddress((*address).into())),
            Host::Name(name) => ServerName::try_from(name.clone()).map_err(|e| self.broken(&e)),
        }
    }

    fn http(&self, error: &hyper::Error) -> RequestError {
        if let Some(found) = error::of_exchange(&self.endpoint, error) {
            return found;
        }
        self.broken(error)
    }

    fn broken(&self, reason: &dyn std::fmt::Display) -> RequestError {
        RequestError::Broken {
            endpoint: self.endpoint.clone(),
            reason: reason.to_string(),
        }
    }

    fn slow(&self, what: &'static str, limit: Duration) -> RequestError {
        RequestError::Timeout {
            endpoint: self.endpoint.clone(),
            what,
            seconds: limit.as_secs_f32(),
        }
    }
}

/// On a thread of its own, which nobody waits for when its name server is silent: the runtime waits for its own threads
/// before the program may end.
async fn look_up(name: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    let (tell, told) = oneshot::channel();
    std::thread::spawn(move || {
        let found = (name.as_str(), port).to_socket_addrs();
        // Nobody listens any more after the time limit.
        let _ = tell.send(found.map(Iterator::collect));
    });
    told.await.map_err(io::Error::other)?
}

fn read_date(value: &HeaderValue) -> Option<Timestamp> {
    let zoned = jiff::fmt::rfc2822::parse(value.to_str().ok()?).ok()?;
    Some(zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_servers_clock() {
        let date = HeaderValue::from_static("Wed, 25 Nov 2026 02:30:31 GMT");
        let wanted = "2026-11-25T02:30:31Z".parse().ok();
        assert_eq!(read_date(&date), wanted);
        assert_eq!(read_date(&HeaderValue::from_static("yesterday")), None);
    }
}
