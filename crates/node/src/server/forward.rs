//! Port-forward: connections made inside a pod's network, each a pair of SPDY streams.

use std::{
    collections::HashMap,
    fs::File,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use nix::sched::{CloneFlags, setns};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, copy, duplex, split},
    net::TcpStream,
    sync::mpsc,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};

use super::spdy::{Event, Handle, Session, headers};

/// The protocol on SPDY.
pub const PROTOCOL: &str = "portforward.k8s.io";
/// SPDY inside a websocket, which newer clients prefer.
pub const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

const CHUNK: usize = 32 * 1024;
const QUEUE: usize = 16;
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Forwards until the user goes away. `netns` is the file of the pod's network namespace; `None` with the host's.
pub async fn forward<S>(stream: S, netns: Option<PathBuf>)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let Session {
        mut events,
        handle,
        writer,
    } = Session::start(stream);
    // Error streams by the request they belong to, and where each data stream's bytes go.
    let mut errors: HashMap<String, u32> = HashMap::new();
    let mut open: HashMap<u32, mpsc::Sender<Bytes>> = HashMap::new();
    while let Some(event) = events.recv().await {
        match event {
            Event::Opened(id, headers) => {
                let value = |name| {
                    headers::value(&headers, name)
                        .unwrap_or_default()
                        .to_owned()
                };
                let request = value("requestid");
                if value("streamtype") == "error" {
                    errors.insert(request, id);
                    continue;
                }
                let (sender, receiver) = mpsc::channel(QUEUE);
                open.insert(id, sender);
                let connection = Connection {
                    handle: handle.clone(),
                    data: id,
                    error: errors.remove(&request),
                    netns: netns.clone(),
                };
                tokio::spawn(connection.run(value("port"), receiver));
            }
            Event::Data(id, bytes) => {
                if let Some(sender) = open.get(&id) {
                    let _ = sender.send(bytes.into()).await;
                }
            }
            Event::End(id) | Event::Reset(id) => drop(open.remove(&id)),
        }
    }
    drop((open, handle));
    let _ = writer.await;
}

struct Connection {
    handle: Handle,
    data: u32,
    error: Option<u32>,
    netns: Option<PathBuf>,
}

impl Connection {
    async fn run(self, port: String, from_user: mpsc::Receiver<Bytes>) {
        if let Err(error) = self.join(&port, from_user).await {
            let text = format!("error forwarding port {port} to pod: {error}");
            if let Some(id) = self.error {
                self.handle.data(id, text.into_bytes()).await;
            }
        }
        self.handle.end(self.data).await;
        if let Some(id) = self.error {
            self.handle.end(id).await;
        }
    }

    async fn join(&self, port: &str, mut from_user: mpsc::Receiver<Bytes>) -> io::Result<()> {
        let port = port
            .parse()
            .map_err(|_| io::Error::other("it is not a port"))?;
        let stream = connect(self.netns.clone(), port).await?;
        let (mut read, mut write) = stream.into_split();
        let up = async {
            while let Some(bytes) = from_user.recv().await {
                write.write_all(&bytes).await?;
            }
            write.shutdown().await
        };
        let down = async {
            let mut buffer = vec![0; CHUNK];
            loop {
                let count = read.read(&mut buffer).await?;
                let bytes = buffer.get(..count).unwrap_or_default();
                if count == 0 || !self.handle.data(self.data, bytes.to_vec()).await {
                    return Ok::<_, io::Error>(());
                }
            }
        };
        tokio::pin!(up, down);
        // When the pod has said all, the user's half is of no use any more.
        tokio::select! {
            result = &mut down => result,
            result = &mut up => match result {
                Ok(()) => down.await,
                Err(_) => Ok(()),
            },
        }
    }
}

/// Connects to a port of the pod's loopback, of either family, from a thread that visits its network.
async fn connect(netns: Option<PathBuf>, port: u16) -> io::Result<TcpStream> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = sender.send(connect_in(netns.as_deref(), port));
    });
    let stream = receiver.await.map_err(io::Error::other)??;
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}

fn connect_in(netns: Option<&Path>, port: u16) -> io::Result<std::net::TcpStream> {
    if let Some(netns) = netns {
        setns(File::open(netns)?, CloneFlags::CLONE_NEWNET)?;
    }
    let loopback = [
        SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
    ];
    let mut first = None;
    for address in loopback {
        match std::net::TcpStream::connect_timeout(&address, CONNECT_LIMIT) {
            Ok(stream) => return Ok(stream),
            Err(error) => {
                let text = format!("connect to {address}: {error}");
                first.get_or_insert(io::Error::new(error.kind(), text));
            }
        }
    }
    Err(first.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()))
}

/// The bytes that a websocket's messages carry, as a stream.
pub async fn tunnel<S>(stream: S) -> DuplexStream
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
    let (mut sink, mut source) = socket.split();
    let (near, far) = duplex(2 * CHUNK);
    let (mut read, mut write) = split(far);
    tokio::spawn(async move {
        while let Some(Ok(message)) = source.next().await {
            match message {
                Message::Binary(bytes) if write.write_all(&bytes).await.is_ok() => {}
                Message::Ping(_) | Message::Pong(_) => {}
                _ => break,
            }
        }
        let _ = write.shutdown().await;
    });
    tokio::spawn(async move {
        let mut buffer = vec![0; CHUNK];
        while let Ok(count @ 1..) = read.read(&mut buffer).await {
            let bytes = Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default());
            if sink.send(Message::Binary(bytes)).await.is_err() {
                break;
            }
        }
        let _ = sink.close().await;
        // What the user still sends goes nowhere.
        let _ = copy(&mut read, &mut tokio::io::sink()).await;
    });
    near
}
