//! Requests and replies, and how they are laid on the socket.

use std::{
    fmt,
    io::{self, IoSlice, IoSliceMut, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::types::{Args, AttachmentId, CniError, PluginConf, Success, Version, code};

/// The number of this protocol. Plugin and agent come from one release; while one is replaced they may differ.
pub const PROTOCOL: u32 = 1;
/// Longest line that is read, in bytes.
const LINE_MAX: usize = 16 << 20;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verb {
    /// Attach.
    Add,
    /// Detach.
    Del,
    /// Is it still attached as it was?
    Check,
    /// Detach everything that is not listed.
    Gc,
    /// Can ADD be served?
    Status,
}

impl Verb {
    /// The first version that has the verb.
    pub fn since(self) -> Version {
        match self {
            Verb::Add | Verb::Del => Version::V0_1_0,
            Verb::Check => Version::V0_4_0,
            Verb::Gc | Verb::Status => Version::V1_1_0,
        }
    }
}

/// The value of `CNI_COMMAND`.
impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verb::Add => "ADD",
            Verb::Del => "DEL",
            Verb::Check => "CHECK",
            Verb::Gc => "GC",
            Verb::Status => "STATUS",
        })
    }
}

/// A request. What the verb does not have (GC and STATUS have no container) is empty.
#[derive(Debug)]
pub struct Request {
    /// What is asked.
    pub verb: Verb,
    /// `CNI_CONTAINERID`
    pub container_id: String,
    /// `CNI_IFNAME`
    pub ifname: String,
    /// `CNI_NETNS`: for results and messages; on DEL it may be empty or gone.
    pub netns_path: String,
    /// The network namespace, on ADD and CHECK.
    pub netns: Option<OwnedFd>,
    /// `CNI_ARGS`
    pub args: Args,
    /// The configuration, its `prevResult` and capability arguments included.
    pub config: PluginConf,
}

/// The reply: a result for ADD, nothing for the other verbs, or an error.
pub type Answer = Result<Option<Success>, CniError>;

/// Why nothing sensible was read or written.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The socket failed or its deadline passed.
    #[error("the socket between plugin and agent failed: {0}")]
    Io(io::Error),
    /// The other side went away before it had said all.
    #[error("the connection ended before the answer")]
    Closed,
    /// What came is no message of this protocol.
    #[error("a message between plugin and agent cannot be read: {0}")]
    Malformed(String),
    /// The other side speaks another protocol.
    #[error("plugin and agent are of different releases (protocol {theirs}, this side {PROTOCOL})")]
    Protocol {
        /// The number the other side sent.
        theirs: u32,
    },
    /// The other side is not root.
    #[error("a process of user {0} connected; only root may")]
    Forbidden(u32),
}

impl From<io::Error> for WireError {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionReset};
        match error.kind() {
            BrokenPipe | ConnectionReset => WireError::Closed,
            _ => WireError::Io(error),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct RequestLine {
    protocol: u32,
    verb: Verb,
    #[serde(default, rename = "containerID")]
    container_id: String,
    #[serde(default)]
    ifname: String,
    #[serde(default)]
    netns: String,
    #[serde(default)]
    args: Vec<(String, String)>,
    config: Map<String, Value>,
}

#[derive(Serialize, Deserialize)]
struct ReplyLine {
    protocol: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<Value>,
}

impl Request {
    /// Which attachment the request is about.
    pub fn id(&self) -> AttachmentId {
        AttachmentId {
            container_id: self.container_id.clone(),
            ifname: self.ifname.clone(),
        }
    }

    /// The request as a line, without its end. The namespace's descriptor is not part of it.
    pub(crate) fn to_line(&self) -> Vec<u8> {
        let line = RequestLine {
            protocol: PROTOCOL,
            verb: self.verb,
            container_id: self.container_id.clone(),
            ifname: self.ifname.clone(),
            netns: self.netns_path.clone(),
            args: self.args.pairs().to_vec(),
            config: self.config.raw.clone(),
        };
        to_json(&line)
    }

    /// Reads a line.
    ///
    /// # Errors
    /// When it is no request of this protocol.
    pub(crate) fn from_line(line: &[u8], netns: Option<OwnedFd>) -> Result<Self, WireError> {
        let line: RequestLine = from_json(line)?;
        let config = match line.verb {
            Verb::Del => PluginConf::for_del(line.config),
            _ => PluginConf::from_object(line.config),
        };
        let config = config.map_err(|e| WireError::Malformed(e.to_string()))?;
        Ok(Self {
            verb: line.verb,
            container_id: line.container_id,
            ifname: line.ifname,
            netns_path: line.netns,
            netns,
            args: Args::new(line.args),
            config,
        })
    }
}

/// Reads one request and the descriptor that came with it.
///
/// # Errors
/// When the socket fails, its deadline passes, or what came is no request of this protocol.
pub fn read_request(stream: &UnixStream) -> Result<Request, WireError> {
    let (line, mut descriptors) = read_line(stream)?;
    let first = (!descriptors.is_empty()).then(|| descriptors.swap_remove(0));
    Request::from_line(&line, first)
}

/// Writes one request and its descriptor.
///
/// # Errors
/// When the socket fails or its deadline passes.
pub(crate) fn write_request(stream: &UnixStream, request: &Request) -> Result<(), WireError> {
    let mut line = request.to_line();
    line.push(b'\n');
    let mut sent = 0;
    if let Some(netns) = &request.netns {
        sent = send_with_descriptor(stream, &line, netns)?;
    }
    let mut writer = stream;
    writer.write_all(&line[sent..])?;
    Ok(())
}

/// Writes the reply to a request.
///
/// # Errors
/// When the socket fails or its deadline passes.
pub fn write_reply(stream: &UnixStream, answer: &Answer) -> Result<(), WireError> {
    let (mut result, mut error) = (None, None);
    match answer {
        Ok(None) => {}
        Ok(Some(success)) => match success.to_value(Version::LATEST) {
            Ok(value) => result = Some(value),
            Err(failed) => error = Some(failed.to_value(Version::LATEST)),
        },
        Err(failed) => error = Some(failed.to_value(Version::LATEST)),
    }
    let mut line = to_json(&ReplyLine {
        protocol: PROTOCOL,
        result,
        error,
    });
    line.push(b'\n');
    let mut writer = stream;
    writer.write_all(&line)?;
    Ok(())
}

/// Reads the reply to a request.
///
/// # Errors
/// When the socket fails, its deadline passes, or what came is no reply of this protocol.
pub(crate) fn read_reply(stream: &UnixStream) -> Result<Answer, WireError> {
    let (line, _) = read_line(stream)?;
    let line: ReplyLine = from_json(&line)?;
    if let Some(error) = line.error {
        let unreadable = || CniError::new(code::INTERNAL, format!("the agent failed: {error}"));
        return Ok(Err(CniError::from_value(&error).unwrap_or_else(unreadable)));
    }
    let read = |value: &Value| Success::from_value(value, Version::LATEST);
    let result = line.result.as_ref().map(read).transpose();
    result
        .map(Ok)
        .map_err(|e| WireError::Malformed(e.to_string()))
}

fn to_json(line: &impl Serialize) -> Vec<u8> {
    // Texts, numbers and JSON values with text keys: nothing that serde_json could refuse.
    serde_json::to_vec(line).unwrap_or_default()
}

/// Looks at the protocol's number before anything else: another one's fields may mean anything.
fn from_json<T: for<'de> Deserialize<'de>>(line: &[u8]) -> Result<T, WireError> {
    let malformed = |e: serde_json::Error| WireError::Malformed(e.to_string());
    let value: Value = serde_json::from_slice(line).map_err(malformed)?;
    match value.get("protocol").and_then(Value::as_u64) {
        Some(number) if number == u64::from(PROTOCOL) => T::deserialize(&value).map_err(malformed),
        Some(number) => Err(WireError::Protocol {
            theirs: u32::try_from(number).unwrap_or(u32::MAX),
        }),
        None => Err(WireError::Malformed("it has no protocol number".into())),
    }
}

/// The descriptor goes with the first bytes; returns how many that were.
fn send_with_descriptor(
    stream: &UnixStream,
    bytes: &[u8],
    descriptor: &OwnedFd,
) -> io::Result<usize> {
    let descriptors = [descriptor.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    Ok(sendmsg(
        stream,
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?)
}

/// Reads up to a line's end. Whatever follows is not for this protocol and is left out.
fn read_line(stream: &UnixStream) -> Result<(Vec<u8>, Vec<OwnedFd>), WireError> {
    let (mut line, mut descriptors) = (Vec::new(), Vec::new());
    let mut chunk = vec![0; 16 << 10];
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let got = recvmsg(
            stream,
            &mut [IoSliceMut::new(&mut chunk)],
            &mut control,
            flags,
        );
        let got = match got {
            Err(rustix::io::Errno::INTR) => continue,
            other => other.map_err(io::Error::from)?,
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                descriptors.extend(received);
            }
        }
        if got.flags.contains(ReturnFlags::CTRUNC) {
            return Err(WireError::Malformed(
                "more than four descriptors came".into(),
            ));
        }
        let fresh = &chunk[..got.bytes];
        if let Some(end) = fresh.iter().position(|byte| *byte == b'\n') {
            line.extend_from_slice(&fresh[..end]);
            return Ok((line, descriptors));
        }
        if fresh.is_empty() {
            return Err(WireError::Closed);
        }
        line.extend_from_slice(fresh);
        if line.len() > LINE_MAX {
            return Err(WireError::Malformed(format!(
                "a line is longer than {LINE_MAX} bytes"
            )));
        }
    }
}
