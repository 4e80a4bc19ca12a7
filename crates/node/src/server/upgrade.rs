//! From a request to a stream of bytes: websocket or SPDY.

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{Body, text};

/// The header in which SPDY's clients and servers agree on a protocol.
const STREAM_PROTOCOL: &str = "x-stream-protocol-version";

/// A connection whose HTTP is over.
pub type Stream = TokioIo<hyper::upgrade::Upgraded>;

/// What was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreed {
    /// A websocket with this protocol.
    WebSocket(&'static str),
    /// SPDY with this protocol.
    Spdy(&'static str),
}

/// Agrees on a protocol that both sides have, the server's favourite first.
///
/// # Errors
/// What to answer when there is none, or no upgrade is asked for.
pub fn agree(
    headers: &HeaderMap,
    websocket: &[&'static str],
    spdy: &[&'static str],
) -> Result<Agreed, Box<Response<Body>>> {
    let asked = |name: &str| -> Vec<String> {
        let values = headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
        values
            .flat_map(|v| v.split(','))
            .map(|v| v.trim().to_owned())
            .collect()
    };
    let upgrade = asked(header::UPGRADE.as_str());
    let is = |name: &str| upgrade.iter().any(|u| u.eq_ignore_ascii_case(name));
    let refused = |code, why: String| Box::new(text(code, why));
    let choose = |ours: &[&'static str], theirs: &[String]| {
        let found = ours
            .iter()
            .find(|o| theirs.iter().any(|t| t == **o))
            .copied();
        found.ok_or_else(|| {
            let why = format!(
                "unable to negotiate protocol: client supports {theirs:?}, server accepts {ours:?}"
            );
            refused(403, why)
        })
    };
    if is("websocket") {
        return choose(websocket, &asked(header::SEC_WEBSOCKET_PROTOCOL.as_str()))
            .map(Agreed::WebSocket);
    }
    if is("SPDY/3.1") {
        return choose(spdy, &asked(STREAM_PROTOCOL)).map(Agreed::Spdy);
    }
    Err(refused(
        400,
        "unable to upgrade: missing upgrade headers in request".to_owned(),
    ))
}

/// The answer that switches protocols.
pub fn switch(agreed: Agreed, headers: &HeaderMap) -> Response<Body> {
    let mut response = text(101, "");
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let out = response.headers_mut();
    out.clear();
    out.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    match agreed {
        Agreed::WebSocket(protocol) => {
            out.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            let key = headers
                .get(header::SEC_WEBSOCKET_KEY)
                .map(HeaderValue::as_bytes)
                .unwrap_or_default();
            if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key)) {
                out.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
            }
            out.insert(
                header::SEC_WEBSOCKET_PROTOCOL,
                HeaderValue::from_static(protocol),
            );
        }
        Agreed::Spdy(protocol) => {
            out.insert(header::UPGRADE, HeaderValue::from_static("SPDY/3.1"));
            out.insert(STREAM_PROTOCOL, HeaderValue::from_static(protocol));
        }
    }
    response
}

/// Answers with the switch, and goes on with the stream once the client has it.
pub fn upgrade<F: Future<Output = ()> + Send + 'static>(
    mut request: Request<Incoming>,
    agreed: Agreed,
    then: impl FnOnce(Stream) -> F + Send + 'static,
) -> Response<Body> {
    let response = switch(agreed, request.headers());
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgraded.await {
            Ok(stream) => then(TokioIo::new(stream)).await,
            Err(error) => tracing::debug!(%error, "upgrade did not complete"),
        }
    });
    response
}

#[cfg(test)]
mod tests {
    use super::{
        super::remote::{SPDY, WEBSOCKET},
        *,
    };

    fn of(headers: &[(&str, &str)]) -> Result<Agreed, u16> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: header::HeaderName = name.parse().unwrap();
            map.append(name, value.parse().unwrap());
        }
        agree(&map, &WEBSOCKET, &SPDY).map_err(|r| r.status().as_u16())
    }

    #[test]
    fn both_sides_agree() {
        let websocket = ("upgrade", "websocket");
        let offered = (
            "sec-websocket-protocol",
            "v4.channel.k8s.io, v5.channel.k8s.io",
        );
        assert_eq!(
            of(&[websocket, offered]),
            Ok(Agreed::WebSocket("v5.channel.k8s.io"))
        );
        let spdy = ("upgrade", "SPDY/3.1");
        let one = (STREAM_PROTOCOL, "v3.channel.k8s.io");
        let two = (STREAM_PROTOCOL, "v2.channel.k8s.io");
        assert_eq!(of(&[spdy, two, one]), Ok(Agreed::Spdy("v3.channel.k8s.io")));
        assert_eq!(of(&[spdy]), Err(403));
        assert_eq!(of(&[("upgrade", "h2c")]), Err(400));
        assert_eq!(of(&[]), Err(400));
    }
}
