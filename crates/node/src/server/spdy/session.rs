//! A connection: its streams' events come from one channel, frames go into another.

use std::{collections::HashSet, io};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split},
    sync::mpsc,
    task::JoinHandle,
};

use super::{
    frame::{self, Frame, HEAD},
    headers::{Decoder, Encoder, Headers},
};

/// Events and frames that may wait.
const QUEUE: usize = 64;
/// Streams that may be open at a time: two for each forwarded connection.
const MAX_STREAMS: usize = 4096;

/// What happens on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The client has opened a stream (and it is accepted).
    Opened(u32, Headers),
    /// Bytes on a stream.
    Data(u32, Vec<u8>),
    /// The client sends no more on it.
    End(u32),
    /// The stream is no more.
    Reset(u32),
}

/// A connection.
pub struct Session {
    /// What happens; the end of it is the end of the connection.
    pub events: mpsc::Receiver<Event>,
    /// To answer.
    pub handle: Handle,
    /// Ends when everything is written and the connection is closed.
    pub writer: JoinHandle<()>,
}

/// Sends on streams.
#[derive(Clone)]
pub struct Handle(mpsc::Sender<Frame>);

impl Handle {
    /// Bytes on a stream; false when the connection has ended.
    pub async fn data(&self, stream: u32, bytes: Vec<u8>) -> bool {
        self.0
            .send(Frame::Data {
                stream,
                fin: false,
                bytes,
            })
            .await
            .is_ok()
    }

    /// Nothing more comes on it.
    pub async fn end(&self, stream: u32) {
        let _ = self
            .0
            .send(Frame::Data {
                stream,
                fin: true,
                bytes: Vec::new(),
            })
            .await;
    }

    /// The stream is no more.
    pub async fn reset(&self, stream: u32) {
        let _ = self.0.send(Frame::Reset { stream }).await;
    }

    /// No more streams.
    pub async fn go_away(&self) {
        let _ = self.0.send(Frame::GoAway).await;
    }
}

impl Session {
    /// Takes a connection over.
    pub fn start<S>(stream: S) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (read, write) = split(stream);
        let (events_in, events) = mpsc::channel(QUEUE);
        let (frames_in, frames) = mpsc::channel(QUEUE);
        let writer = tokio::spawn(async move {
            if let Err(error) = write_all(write, frames).await {
                tracing::debug!(%error, "SPDY connection broke");
            }
        });
        let replies = frames_in.clone();
        tokio::spawn(async move {
            if let Err(error) = read_all(read, events_in, replies).await {
                tracing::debug!(%error, "SPDY connection ended");
            }
        });
        Self {
            events,
            handle: Handle(frames_in),
            writer,
        }
    }
}

async fn write_all<S: AsyncWrite>(
    mut write: WriteHalf<S>,
    mut frames: mpsc::Receiver<Frame>,
) -> io::Result<()> {
    let mut encoder = Encoder::new().map_err(io::Error::other)?;
    while let Some(mut next) = frames.recv().await {
        // Compressed in the order of sending.
        if let Frame::SynReply { block, .. } = &mut next {
            *block = encoder.encode(&Headers::new()).map_err(io::Error::other)?;
        }
        write.write_all(&frame::write(&next)).await?;
        write.flush().await?;
    }
    write.shutdown().await
}

async fn read_all<S: AsyncRead>(
    mut read: ReadHalf<S>,
    events: mpsc::Sender<Event>,
    replies: mpsc::Sender<Frame>,
) -> io::Result<()> {
    let mut decoder = Decoder::default();
    let mut open: HashSet<u32> = HashSet::new();
    loop {
        let Some(next) = read_frame(&mut read).await? else {
            return Ok(());
        };
        let happened = match next {
            Frame::SynStream { stream, fin, block } => {
                let headers = decoder.decode(&block).map_err(io::Error::other)?;
                if open.len() >= MAX_STREAMS || !open.insert(stream) {
                    return Err(io::Error::other("too many streams, or one twice"));
                }
                let reply = Frame::SynReply {
                    stream,
                    block: Vec::new(),
                };
                if replies.send(reply).await.is_err() {
                    return Ok(());
                }
                let mut happened = vec![Event::Opened(stream, headers)];
                happened.extend(fin.then_some(Event::End(stream)));
                happened
            }
            Frame::Headers { stream, fin, block } => {
                decoder.decode(&block).map_err(io::Error::other)?;
                fin.then_some(Event::End(stream)).into_iter().collect()
            }
            Frame::Data { stream, fin, bytes } => {
                let mut happened = Vec::new();
                if !bytes.is_empty() {
                    happened.push(Event::Data(stream, bytes));
                }
                happened.extend(fin.then_some(Event::End(stream)));
                happened
            }
            Frame::Reset { stream } => vec![Event::Reset(stream)],
            Frame::Ping { id } => {
                if replies.send(Frame::Ping { id }).await.is_err() {
                    return Ok(());
                }
                Vec::new()
            }
            Frame::GoAway | Frame::SynReply { .. } | Frame::Ignored => Vec::new(),
        };
        for event in happened {
            if let Event::End(stream) | Event::Reset(stream) = &event {
                open.remove(stream);
            }
            if events.send(event).await.is_err() {
                return Ok(());
            }
        }
    }
}

/// `None` at the connection's end.
async fn read_frame<S: AsyncRead>(read: &mut ReadHalf<S>) -> io::Result<Option<Frame>> {
    let mut head = [0; HEAD];
    if read.read_exact(&mut head).await.is_err() {
        return Ok(None);
    }
    let mut payload = vec![0; frame::payload_length(&head).map_err(io::Error::other)?];
    read.read_exact(&mut payload).await?;
    frame::parse(&head, &payload)
        .map(Some)
        .map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn streams_are_accepted_and_pings_answered() {
        let (mut client, server) = tokio::io::duplex(4096);
        let mut session = Session::start(server);
        let mut encoder = Encoder::new().unwrap();
        let headers: Headers = vec![("streamtype".into(), "stdin".into())];
        let block = encoder.encode(&headers).unwrap();
        let sent = [
            Frame::SynStream {
                stream: 1,
                fin: false,
                block,
            },
            Frame::Data {
                stream: 1,
                fin: true,
                bytes: b"hi".to_vec(),
            },
            Frame::Ping { id: 7 },
        ];
        for frame in &sent {
            client.write_all(&frame::write(frame)).await.unwrap();
        }
        assert_eq!(session.events.recv().await, Some(Event::Opened(1, headers)));
        assert_eq!(
            session.events.recv().await,
            Some(Event::Data(1, b"hi".to_vec()))
        );
        assert_eq!(session.events.recv().await, Some(Event::End(1)));
        assert!(session.handle.data(1, b"yo".to_vec()).await);
        let mut read = Vec::new();
        for _ in 0..3 {
            let mut head = [0; HEAD];
            client.read_exact(&mut head).await.unwrap();
            let mut payload = vec![0; frame::payload_length(&head).unwrap()];
            client.read_exact(&mut payload).await.unwrap();
            read.push(frame::parse(&head, &payload).unwrap());
        }
        assert!(matches!(read[0], Frame::SynReply { stream: 1, .. }));
        assert_eq!(read[1], Frame::Ping { id: 7 });
        assert_eq!(
            read[2],
            Frame::Data {
                stream: 1,
                fin: false,
                bytes: b"yo".to_vec()
            }
        );
        drop(client);
        assert_eq!(session.events.recv().await, None);
    }

    #[tokio::test]
    async fn garbage_ends_the_connection() {
        let (mut client, server) = tokio::io::duplex(4096);
        let mut session = Session::start(server);
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        drop(client);
        // Bytes of HTTP look like data of a stream that nobody opened; nothing worse happens.
        while session.events.recv().await.is_some() {}
    }
}
