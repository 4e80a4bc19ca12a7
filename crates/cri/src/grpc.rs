//! One gRPC call over an HTTP/2 connection.
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>

use std::path::Path;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixStream;

use crate::error::{Error, Result};

/// Answers larger than this, in bytes, are none: 16,000 sandboxes fit in.
const LIMIT: usize = 16 << 20;
/// Length of what is before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// A connection.
#[derive(Debug)]
pub struct Connection(SendRequest<Full<Bytes>>);

impl Connection {
    /// To what listens on a socket.
    pub async fn open(socket: &Path) -> Result<Self> {
        let failed = |source| Error::Connect {
            socket: socket.to_owned(),
            source,
        };
        let stream = UnixStream::connect(socket).await.map_err(failed)?;
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .map_err(|source| Error::Http {
                    call: "connecting",
                    source,
                })?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a container runtime ended");
            }
        });
        Ok(Self(sender))
    }

    /// Ask, and wait for the only message of the answer.
    pub async fn call(&mut self, call: &'static str, path: &str, message: &[u8]) -> Result<Bytes> {
        let broken = |source| Error::Http { call, source };
        let refused = |problem| Error::Answer { call, problem };
        let request = Request::post(uri(path)?)
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .body(Full::new(framed(message)))
            .map_err(|_| refused("no request can be made of it"))?;
        self.0.ready().await.map_err(broken)?;
        let response = self.0.send_request(request).await.map_err(broken)?;
        // An answer without a message has its status among the headers.
        status(call, response.headers())?;
        if !response.status().is_success() {
            return Err(refused("it is no gRPC answer"));
        }
        let body = Limited::new(response.into_body(), LIMIT).collect().await;
        let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
            Ok(source) => Error::Http {
                call,
                source: *source,
            },
            Err(_) => refused("it is too large"),
        })?;
        if let Some(trailers) = body.trailers() {
            status(call, trailers)?;
        }
        unframed(body.to_bytes()).ok_or_else(|| refused("its frame is broken"))
    }
}

fn uri(path: &str) -> Result<Uri> {
    let uri = Uri::builder().scheme("http").authority("localhost");
    uri.path_and_query(path).build().map_err(|_| Error::Answer {
        call: "asking",
        problem: "its path is wrong",
    })
}

fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(PREFIX + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

/// The message of a frame that is whole and not compressed, which nobody was asked to do.
fn unframed(mut frame: Bytes) -> Option<Bytes> {
    let prefix = frame.split_to_checked(PREFIX)?;
    let length = u32::from_be_bytes(prefix[1..].try_into().ok()?);
    (prefix[0] == 0 && frame.len() == length as usize).then_some(frame)
}

trait SplitChecked: Sized {
    fn split_to_checked(&mut self, at: usize) -> Option<Self>;
}

impl SplitChecked for Bytes {
    fn split_to_checked(&mut self, at: usize) -> Option<Self> {
        (self.len() >= at).then(|| self.split_to(at))
    }
}

/// The status, where it is among these headers.
fn status(call: &'static str, headers: &HeaderMap) -> Result<()> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(code) = text("grpc-status") else {
        return Ok(());
    };
    match code.parse() {
        Ok(0) => Ok(()),
        Ok(code) => Err(Error::Refused {
            call,
            code,
            message: decoded(text("grpc-message").unwrap_or_default()),
        }),
        Err(_) => Err(Error::Answer {
            call,
            problem: "its status is no number",
        }),
    }
}

/// Percent-encoded text.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..2).filter(|_| *first == b'%');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_whole_or_none() {
        let frame = framed(b"abc");
        assert_eq!(&frame[..], b"\0\0\0\0\x03abc");
        assert_eq!(unframed(frame.clone()).unwrap(), "abc");
        for length in 0..frame.len() {
            assert_eq!(unframed(frame.slice(..length)), None);
        }
        assert_eq!(
            unframed(Bytes::from_static(b"\x01\0\0\0\0")),
            None,
            "compressed"
        );
    }

    #[test]
    fn messages_of_errors_are_decoded() {
        assert_eq!(
            decoded("not%20found: %22a%22 100%"),
            "not found: \"a\" 100%"
        );
        let mut headers = HeaderMap::new();
        headers.insert("grpc-status", "5".parse().unwrap());
        headers.insert("grpc-message", "no%20such".parse().unwrap());
        let error = status("stop", &headers).unwrap_err().to_string();
        assert_eq!(error, "stop: no such (gRPC status 5)");
    }
}
