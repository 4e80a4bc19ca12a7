//! A user at the other end of exec and attach, whatever protocol is in between.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use futures::{SinkExt, StreamExt, stream::SplitSink};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::spdy::{self, Event, headers};

/// Chunks that may wait in each direction.
const QUEUE: usize = 16;
/// How long a client may take to open its streams, and to close after the end.
const PATIENCE: Duration = Duration::from_secs(10);
/// No message is longer.
const MAX_MESSAGE: usize = 1 << 20;

/// Which streams there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// From the user.
    pub stdin: bool,
    /// To the user.
    pub stdout: bool,
    /// To the user; not with a terminal.
    pub stderr: bool,
    /// A terminal, whose size the user tells.
    pub tty: bool,
}

/// From the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inbound {
    /// To standard input.
    Stdin(Bytes),
    /// Standard input ends.
    End,
    /// The terminal has so many columns and rows.
    Resize(u16, u16),
}

/// To the user.
#[derive(Clone, Debug, PartialEq)]
pub enum Outbound {
    /// Of standard output.
    Stdout(Bytes),
    /// Of standard error.
    Stderr(Bytes),
    /// How it ended: the last thing to be said.
    Done(Outcome),
}

/// How a command or an attachment ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With this exit code.
    Exit(i32),
    /// It did not come so far.
    Failed(String),
}

impl Outcome {
    /// What `v4.channel.k8s.io` and later have on the error stream.
    pub fn status(&self) -> Value {
        match self {
            Self::Exit(0) => json!({"metadata": {}, "status": "Success"}),
            Self::Exit(code) => json!({
                "metadata": {},
                "status": "Failure",
                "message": format!("command terminated with non-zero exit code: exit status {code}"),
                "reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
            }),
            Self::Failed(why) => json!({
                "metadata": {},
                "status": "Failure",
                "message": format!("Internal error occurred: {why}"),
                "reason": "InternalError",
                "details": {"causes": [{"message": why}]},
                "code": 500,
            }),
        }
    }

    /// What earlier versions have there: nothing when all went well.
    fn text(&self) -> String {
        match self {
            Self::Exit(0) => String::new(),
            Self::Exit(code) => {
                format!("command terminated with non-zero exit code: exit status {code}")
            }
            Self::Failed(why) => why.clone(),
        }
    }

    fn bytes(&self, protocol: &str) -> Vec<u8> {
        match protocol {
            "v4.channel.k8s.io" | "v5.channel.k8s.io" => self.status().to_string().into_bytes(),
            _ => self.text().into_bytes(),
        }
    }
}

/// The user.
pub struct Remote {
    /// What the user sends; the end of it means that the user has gone.
    pub inbound: mpsc::Receiver<Inbound>,
    /// What the user gets.
    pub outbound: mpsc::Sender<Outbound>,
}

/// Protocols of websockets, best first.
pub const WEBSOCKET: [&str; 3] = ["v5.channel.k8s.io", "v4.channel.k8s.io", "channel.k8s.io"];
/// Protocols of SPDY, best first.
pub const SPDY: [&str; 4] = [
    "v4.channel.k8s.io",
    "v3.channel.k8s.io",
    "v2.channel.k8s.io",
    "channel.k8s.io",
];

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// In v5: the channel that follows is closed.
const CLOSE: u8 = 255;

/// Over a websocket.
pub async fn websocket<S>(stream: S, protocol: &'static str, wanted: Wanted) -> Remote
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
    let (mut sink, mut source) = socket.split();
    let (outbound, mut outgoing) = mpsc::channel(QUEUE);
    let (incoming, inbound) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        // Clients take the first message, empty as it is, for the sign that all is well.
        let first = if wanted.stdout { STDOUT } else { ERROR };
        let _ = sink.send(message(first, &[])).await;
        while let Some(next) = outgoing.recv().await {
            if !send(&mut sink, protocol, next).await {
                return;
            }
        }
        // Clients take any other end for a failure, whatever the error stream has said.
        let normal = CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        };
        let _ = sink.send(Message::Close(Some(normal))).await;
        let _ = sink.close().await;
    });
    tokio::spawn(async move {
        while let Some(Ok(next)) = source.next().await {
            let bytes = match next {
                Message::Binary(bytes) => bytes,
                Message::Close(_) => return,
                _ => continue,
            };
            if let Some(next) = incoming_of(&bytes)
                && incoming.send(next).await.is_err()
            {
                // The command has ended: the other side may close in peace.
                let _ = timeout(PATIENCE, async {
                    while let Some(Ok(_)) = source.next().await {}
                })
                .await;
                return;
            }
        }
    });
    Remote { inbound, outbound }
}

async fn send<S>(
    sink: &mut SplitSink<WebSocketStream<S>, Message>,
    protocol: &str,
    next: Outbound,
) -> bool
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let next = match next {
        Outbound::Stdout(bytes) => message(STDOUT, &bytes),
        Outbound::Stderr(bytes) => message(STDERR, &bytes),
        Outbound::Done(outcome) => message(ERROR, &outcome.bytes(protocol)),
    };
    sink.send(next).await.is_ok()
}

fn message(channel: u8, bytes: &[u8]) -> Message {
    let mut whole = Vec::with_capacity(bytes.len() + 1);
    whole.push(channel);
    whole.extend_from_slice(bytes);
    Message::Binary(whole.into())
}

fn incoming_of(message: &Bytes) -> Option<Inbound> {
    let (channel, rest) = message.split_first()?;
    match *channel {
        STDIN if rest.is_empty() => None,
        STDIN => Some(Inbound::Stdin(message.slice(1..))),
        RESIZE => resize(rest),
        CLOSE if rest.first() == Some(&STDIN) => Some(Inbound::End),
        _ => None,
    }
}

/// `{"Width":80,"Height":24}`
fn resize(text: &[u8]) -> Option<Inbound> {
    let size: Value = serde_json::from_slice(text).ok()?;
    let number = |name: &str| size.get(name)?.as_u64().and_then(|n| u16::try_from(n).ok());
    Some(Inbound::Resize(number("Width")?, number("Height")?))
}

/// Over SPDY.
pub fn spdy<S>(stream: S, protocol: &'static str, wanted: Wanted) -> Remote
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let session = spdy::Session::start(stream);
    let (outbound, outgoing) = mpsc::channel(QUEUE);
    let (incoming, inbound) = mpsc::channel(QUEUE);
    tokio::spawn(serve_spdy(session, protocol, wanted, outgoing, incoming));
    Remote { inbound, outbound }
}

async fn serve_spdy(
    mut session: spdy::Session,
    protocol: &'static str,
    wanted: Wanted,
    mut outgoing: mpsc::Receiver<Outbound>,
    incoming: mpsc::Sender<Inbound>,
) {
    let Ok(Some(streams)) = timeout(PATIENCE, open_streams(&mut session, protocol, wanted)).await
    else {
        session.handle.go_away().await;
        return;
    };
    let of = |kind: &str| streams.get(kind).copied();
    let (stdin, resizing) = (of("stdin"), of("resize"));
    let handle = session.handle;
    let reading = tokio::spawn(read_spdy(session.events, stdin, resizing, incoming));
    let send = async |kind: &str, bytes: Vec<u8>| match of(kind) {
        Some(id) if !bytes.is_empty() => handle.data(id, bytes).await,
        _ => true,
    };
    while let Some(next) = outgoing.recv().await {
        let sent = match next {
            Outbound::Stdout(bytes) => send("stdout", bytes.to_vec()).await,
            Outbound::Stderr(bytes) => send("stderr", bytes.to_vec()).await,
            Outbound::Done(outcome) => send("error", outcome.bytes(protocol)).await,
        };
        if !sent {
            break;
        }
    }
    for id in ["stdout", "stderr", "error"].into_iter().filter_map(of) {
        handle.end(id).await;
    }
    // The client reads its streams to their ends and closes.
    let mut reading = reading;
    if timeout(PATIENCE, &mut reading).await.is_err() {
        reading.abort();
    }
    handle.go_away().await;
}

/// Passes on what comes on the streams for standard input and for the terminal's size.
async fn read_spdy(
    mut events: mpsc::Receiver<Event>,
    stdin: Option<u32>,
    resizing: Option<u32>,
    incoming: mpsc::Sender<Inbound>,
) {
    let mut size: Vec<u8> = Vec::new();
    while let Some(event) = events.recv().await {
        let next = match event {
            Event::Data(id, bytes) if Some(id) == stdin => Some(Inbound::Stdin(bytes.into())),
            Event::End(id) | Event::Reset(id) if Some(id) == stdin => Some(Inbound::End),
            Event::Data(id, bytes) if Some(id) == resizing => {
                size.extend_from_slice(&bytes);
                let next = resize(&size);
                if next.is_some() || size.len() > 1024 {
                    size.clear();
                }
                next
            }
            _ => None,
        };
        if let Some(next) = next {
            let _ = incoming.send(next).await;
        }
    }
}

/// Waits for the streams that belong to the request, by their types.
async fn open_streams(
    session: &mut spdy::Session,
    protocol: &str,
    wanted: Wanted,
) -> Option<HashMap<String, u32>> {
    let resizes = wanted.tty && !["v2.channel.k8s.io", "channel.k8s.io"].contains(&protocol);
    let parts = [
        wanted.stdin,
        wanted.stdout,
        wanted.stderr && !wanted.tty,
        resizes,
    ];
    let expected = 1 + parts.into_iter().filter(|part| *part).count();
    let mut streams = HashMap::new();
    while streams.len() < expected {
        if let Event::Opened(id, headers) = session.events.recv().await? {
            let kind = headers::value(&headers, "streamtype").unwrap_or_default();
            streams.insert(kind.to_ascii_lowercase(), id);
        }
    }
    Some(streams)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_understood() {
        let of = |bytes: &'static [u8]| incoming_of(&Bytes::from_static(bytes));
        assert_eq!(
            of(b"\x00hi"),
            Some(Inbound::Stdin(Bytes::from_static(b"hi")))
        );
        assert_eq!(of(b"\xff\x00"), Some(Inbound::End));
        assert_eq!(
            of(b"\x04{\"Width\":80,\"Height\":24}"),
            Some(Inbound::Resize(80, 24))
        );
        for other in [
            &b""[..],
            b"\x00",
            b"\x01x",
            b"\x04x",
            b"\xff\x01",
            b"\x04{\"Width\":99999,\"Height\":1}",
        ] {
            assert_eq!(incoming_of(&Bytes::from_static(other)), None, "{other:?}");
        }
    }

    #[test]
    fn outcomes_are_statuses() {
        assert_eq!(Outcome::Exit(0).status()["status"], "Success");
        let failed = Outcome::Exit(3).status();
        assert_eq!(
            failed["details"]["causes"][0],
            json!({"reason": "ExitCode", "message": "3"})
        );
        assert_eq!(Outcome::Exit(0).bytes("v2.channel.k8s.io"), b"");
    }

    #[tokio::test]
    async fn a_websocket_carries_both_ways() {
        let (client, server) = tokio::io::duplex(4096);
        let wanted = Wanted {
            stdin: true,
            stdout: true,
            stderr: true,
            tty: false,
        };
        let mut remote = websocket(server, "v5.channel.k8s.io", wanted).await;
        let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        client.send(message(STDIN, b"in")).await.unwrap();
        client.send(message(CLOSE, &[STDIN])).await.unwrap();
        assert_eq!(
            remote.inbound.recv().await,
            Some(Inbound::Stdin(Bytes::from_static(b"in")))
        );
        assert_eq!(remote.inbound.recv().await, Some(Inbound::End));
        remote
            .outbound
            .send(Outbound::Stderr(Bytes::from_static(b"err")))
            .await
            .unwrap();
        remote
            .outbound
            .send(Outbound::Done(Outcome::Exit(0)))
            .await
            .unwrap();
        drop(remote.outbound);
        let mut seen = Vec::new();
        while let Some(Ok(Message::Binary(bytes))) = client.next().await {
            seen.push(bytes.to_vec());
        }
        assert_eq!(seen.len(), 3);
        assert_eq!(
            (seen[0].as_slice(), seen[1].as_slice()),
            (&b"\x01"[..], &b"\x02err"[..])
        );
        assert!(seen[2].starts_with(b"\x03{"));
    }
}
