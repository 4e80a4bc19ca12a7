//! A blocking netlink socket: requests go out in one message, and the kernel has answered all when `send` returns.
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket as RawSocket, SocketAddr, protocols::NETLINK_ROUTE};

/// A dump's part is at most 32 KiB.
const RECEIVE_BYTES: usize = 64 * 1024;
/// Requests in one message at most: their answers have to fit the socket's receive buffer (208 KiB by default).
const CHUNK: usize = 96;
/// How often a dump is begun again because what it lists changed meanwhile.
const DUMP_ATTEMPTS: u32 = 8;

const HEADER: usize = 16;
const TYPE_ERROR: u16 = 2;
const TYPE_DONE: u16 = 3;
const FLAG_ACK_TLVS: u16 = 0x200;
const ATTRIBUTE_MESSAGE: u16 = 1;

/// One request: the message and the flags that go with it, REQUEST and ACK aside.
#[derive(Debug)]
pub struct Request {
    pub message: RouteNetlinkMessage,
    pub flags: u16,
}

/// What the kernel said to one request.
#[derive(Debug, Default)]
pub struct Answer {
    pub error: Option<Refusal>,
    pub messages: Vec<RouteNetlinkMessage>,
}

/// Why it refused.
#[derive(Debug)]
pub struct Refusal {
    pub source: io::Error,
    pub detail: Option<String>,
}

#[derive(Debug)]
pub struct Socket {
    raw: RawSocket,
    sequence: AtomicU32,
}

impl Socket {
    /// In the calling thread's network namespace.
    pub fn open() -> io::Result<Self> {
        let mut raw = RawSocket::new(NETLINK_ROUTE)?;
        raw.bind_auto()?;
        raw.connect(&SocketAddr::new(0, 0))?;
        raw.set_ext_ack(true)?;
        raw.set_cap_ack(true)?;
        Ok(Self {
            raw,
            sequence: AtomicU32::new(1),
        })
    }

    /// Send the requests and gather an answer to each, in order.
    pub fn transact(&mut self, requests: Vec<Request>) -> io::Result<Vec<Answer>> {
        let mut answers = Vec::with_capacity(requests.len());
        let mut requests = requests.into_iter().peekable();
        while requests.peek().is_some() {
            let first = self.sequence.load(Ordering::Relaxed);
            let mut bytes = Vec::with_capacity(2048);
            let mut count = 0;
            for request in requests.by_ref().take(CHUNK) {
                append(
                    &mut bytes,
                    request.message,
                    request.flags | NLM_F_ACK,
                    first.wrapping_add(count),
                );
                count += 1;
            }
            self.sequence
                .store(first.wrapping_add(count), Ordering::Relaxed);
            self.send(&bytes)?;
            answers.append(&mut self.collect(first, count)?);
        }
        Ok(answers)
    }

    /// Everything that a dump request lists.
    pub fn dump(&mut self, message: &RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        for _ in 0..DUMP_ATTEMPTS {
            let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
            let mut bytes = Vec::with_capacity(64);
            append(&mut bytes, message.clone(), NLM_F_DUMP, sequence);
            self.send(&bytes)?;
            if let Some(messages) = self.collect_dump(sequence)? {
                return Ok(messages);
            }
        }
        Err(io::Error::other(
            "the kernel's list changed during every attempt to read it",
        ))
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        self.raw.send(bytes, 0).map(drop)
    }

    fn receive(&self) -> io::Result<Vec<u8>> {
        let mut buffer = Vec::with_capacity(RECEIVE_BYTES);
        loop {
            match self.raw.recv(&mut buffer, libc::MSG_TRUNC) {
                Ok(length) if length > RECEIVE_BYTES => {
                    return Err(io::Error::other("a netlink message is larger than 64 KiB"));
                }
                Ok(_) => return Ok(buffer),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn collect(&self, first: u32, count: u32) -> io::Result<Vec<Answer>> {
        let mut answers: Vec<Answer> = (0..count).map(|_| Answer::default()).collect();
        let mut left = count;
        while left > 0 {
            let bytes = self.receive()?;
            for part in Parts(&bytes) {
                // Anything else is the rest of an exchange that failed half-way.
                let Some(answer) = answers.get_mut(part.sequence.wrapping_sub(first) as usize)
                else {
                    continue;
                };
                if part.kind == TYPE_ERROR {
                    answer.error = part.refusal();
                    left -= 1;
                } else {
                    answer.messages.extend(part.message()?);
                }
            }
        }
        Ok(answers)
    }

    /// None: the list changed meanwhile.
    fn collect_dump(&self, sequence: u32) -> io::Result<Option<Vec<RouteNetlinkMessage>>> {
        let mut messages = Vec::new();
        let mut whole = true;
        loop {
            let bytes = self.receive()?;
            for part in Parts(&bytes).filter(|part| part.sequence == sequence) {
                whole &= part.flags & NLM_F_DUMP_INTR == 0;
                match part.kind {
                    TYPE_DONE => return Ok(whole.then_some(messages)),
                    TYPE_ERROR => match part.refusal() {
                        Some(refusal) => return Err(refusal.source),
                        None => return Ok(whole.then_some(messages)),
                    },
                    _ => messages.extend(part.message()?),
                }
            }
        }
    }
}

fn append(out: &mut Vec<u8>, message: RouteNetlinkMessage, flags: u16, sequence: u32) {
    let mut header = NetlinkHeader::default();
    header.flags = flags | NLM_F_REQUEST;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    let start = out.len();
    out.resize(start + message.buffer_len().next_multiple_of(4), 0);
    message.serialize(&mut out[start..]);
}

/// The messages in what one `recv` returned.
struct Parts<'a>(&'a [u8]);

struct Part<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    whole: &'a [u8],
}

impl<'a> Iterator for Parts<'a> {
    type Item = Part<'a>;

    fn next(&mut self) -> Option<Part<'a>> {
        let length = word(self.0, 0)? as usize;
        let whole = self.0.get(..length).filter(|_| length >= HEADER)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(Part {
            kind: half(whole, 4)?,
            flags: half(whole, 6)?,
            sequence: word(whole, 8)?,
            whole,
        })
    }
}

impl Part<'_> {
    fn message(&self) -> io::Result<Option<RouteNetlinkMessage>> {
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(self.whole)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
        Ok(match message.payload {
            NetlinkPayload::InnerMessage(message) => Some(message),
            _ => None,
        })
    }

    /// What an error message says; None: success.
    fn refusal(&self) -> Option<Refusal> {
        let code = word(self.whole, HEADER)?.cast_signed();
        (code != 0).then(|| Refusal {
            source: io::Error::from_raw_os_error(-code),
            detail: self.detail(),
        })
    }

    /// The kernel's own words: attributes after the code and the header of the request (the rest of it is cut off).
    fn detail(&self) -> Option<String> {
        if self.flags & FLAG_ACK_TLVS == 0 {
            return None;
        }
        let mut rest = self.whole.get(HEADER + 4 + HEADER..)?;
        loop {
            let length = usize::from(half(rest, 0)?);
            let value = rest.get(4..length)?;
            if half(rest, 2)? == ATTRIBUTE_MESSAGE {
                let text = value.strip_suffix(b"\0").unwrap_or(value);
                return Some(String::from_utf8_lossy(text).into_owned());
            }
            rest = rest.get(length.next_multiple_of(4)..)?;
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_ne_bytes(four))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..at + 2)?.try_into().ok()?;
    Some(u16::from_ne_bytes(two))
}
