//! Frames of SPDY/3.1, as far as Kubernetes uses them: streams, data, ping and farewell. No flow control: its
//! clients (moby/spdystream) have none.

const CONTROL: u8 = 0x80;
const VERSION: u16 = 3;
/// The last frame of a stream in its direction.
const FIN: u8 = 0x01;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;

/// Bytes before a frame's payload.
pub const HEAD: usize = 8;
/// No payload is longer; clients send what they read at once, some tens of kilobytes.
pub const MAX_PAYLOAD: usize = 1 << 20;

/// One frame. Header blocks are still compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A new stream.
    SynStream {
        /// Its number.
        stream: u32,
        /// Its opener sends nothing on it.
        fin: bool,
        /// Its headers.
        block: Vec<u8>,
    },
    /// A new stream is accepted.
    SynReply {
        /// Its number.
        stream: u32,
        /// Headers.
        block: Vec<u8>,
    },
    /// More headers: they count for the compression.
    Headers {
        /// The stream.
        stream: u32,
        /// Nothing more comes on it.
        fin: bool,
        /// Headers.
        block: Vec<u8>,
    },
    /// A stream ends at once.
    Reset {
        /// Its number.
        stream: u32,
    },
    /// To be sent back by the other side.
    Ping {
        /// Odd ones are the client's.
        id: u32,
    },
    /// No more streams.
    GoAway,
    /// What a stream is for.
    Data {
        /// The stream.
        stream: u32,
        /// Nothing more comes on it.
        fin: bool,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Settings and windows, which nobody here needs.
    Ignored,
}

/// What arrives is not SPDY/3.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad SPDY frame: {0}")]
pub struct BadFrame(&'static str);

/// How many bytes of payload follow these first bytes of a frame.
///
/// # Errors
/// When they are too many.
pub fn payload_length(head: &[u8; HEAD]) -> Result<usize, BadFrame> {
    let [.., a, b, c] = *head;
    let length = u32::from_be_bytes([0, a, b, c]) as usize;
    if length > MAX_PAYLOAD {
        Err(BadFrame("it is too long"))
    } else {
        Ok(length)
    }
}

/// Understands a frame.
///
/// # Errors
/// When it is of another version or too short for its type.
pub fn parse(head: &[u8; HEAD], payload: &[u8]) -> Result<Frame, BadFrame> {
    let [a, b, c, d, flags, ..] = *head;
    let fin = flags & FIN != 0;
    if a & CONTROL == 0 {
        let stream = u32::from_be_bytes([a, b, c, d]);
        return Ok(Frame::Data {
            stream,
            fin,
            bytes: payload.to_vec(),
        });
    }
    if u16::from_be_bytes([a & !CONTROL, b]) != VERSION {
        return Err(BadFrame("it is of another version"));
    }
    let short = BadFrame("it is too short");
    let number = |at: usize| -> Result<u32, BadFrame> {
        let bytes = payload.get(at..at + 4).and_then(|b| b.first_chunk::<4>());
        bytes
            .map(|b| u32::from_be_bytes(*b))
            .ok_or_else(|| short.clone())
    };
    let rest = |at: usize| {
        payload
            .get(at..)
            .map(<[u8]>::to_vec)
            .ok_or_else(|| short.clone())
    };
    let stream = || number(0).map(|n| n & 0x7fff_ffff);
    Ok(match u16::from_be_bytes([c, d]) {
        // The associated stream, the priority and the slot are of no use here.
        SYN_STREAM => Frame::SynStream {
            stream: stream()?,
            fin,
            block: rest(10)?,
        },
        SYN_REPLY => Frame::SynReply {
            stream: stream()?,
            block: rest(4)?,
        },
        HEADERS => Frame::Headers {
            stream: stream()?,
            fin,
            block: rest(4)?,
        },
        RST_STREAM => Frame::Reset { stream: stream()? },
        PING => Frame::Ping { id: number(0)? },
        GOAWAY => Frame::GoAway,
        _ => Frame::Ignored,
    })
}

/// A frame's bytes; nothing for [`Frame::Ignored`].
pub fn write(frame: &Frame) -> Vec<u8> {
    match frame {
        Frame::SynStream { stream, fin, block } => {
            let mut payload = stream.to_be_bytes().to_vec();
            payload.extend_from_slice(&[0; 6]);
            payload.extend_from_slice(block);
            control(SYN_STREAM, if *fin { FIN } else { 0 }, &payload)
        }
        Frame::SynReply { stream, block } => control(
            SYN_REPLY,
            0,
            &[&stream.to_be_bytes(), block.as_slice()].concat(),
        ),
        Frame::Headers { stream, fin, block } => control(
            HEADERS,
            if *fin { FIN } else { 0 },
            &[&stream.to_be_bytes(), block.as_slice()].concat(),
        ),
        // Status 5: cancel.
        Frame::Reset { stream } => control(
            RST_STREAM,
            0,
            &[stream.to_be_bytes(), 5u32.to_be_bytes()].concat(),
        ),
        Frame::Ping { id } => control(PING, 0, &id.to_be_bytes()),
        Frame::GoAway => control(GOAWAY, 0, &[0; 8]),
        Frame::Data { stream, fin, bytes } => {
            let mut out = (stream & 0x7fff_ffff).to_be_bytes().to_vec();
            out.push(if *fin { FIN } else { 0 });
            out.extend_from_slice(&length(bytes.len()));
            out.extend_from_slice(bytes);
            out
        }
        Frame::Ignored => Vec::new(),
    }
}

fn control(kind: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    let [a, b] = VERSION.to_be_bytes();
    let [c, d] = kind.to_be_bytes();
    let mut out = vec![a | CONTROL, b, c, d, flags];
    out.extend_from_slice(&length(payload.len()));
    out.extend_from_slice(payload);
    out
}

fn length(bytes: usize) -> [u8; 3] {
    let [_, a, b, c] = (bytes as u32).to_be_bytes();
    [a, b, c]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames() -> impl Strategy<Value = Frame> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..64);
        let stream = || 0..0x7fff_ffffu32;
        prop_oneof![
            (stream(), any::<bool>(), bytes()).prop_map(|(stream, fin, block)| Frame::SynStream {
                stream,
                fin,
                block
            }),
            (stream(), bytes()).prop_map(|(stream, block)| Frame::SynReply { stream, block }),
            (stream(), any::<bool>(), bytes()).prop_map(|(stream, fin, block)| Frame::Headers {
                stream,
                fin,
                block
            }),
            stream().prop_map(|stream| Frame::Reset { stream }),
            any::<u32>().prop_map(|id| Frame::Ping { id }),
            Just(Frame::GoAway),
            (stream(), any::<bool>(), bytes()).prop_map(|(stream, fin, bytes)| Frame::Data {
                stream,
                fin,
                bytes
            }),
        ]
    }

    proptest! {
        #[test]
        fn frames_come_back(frame in frames()) {
            let wire = write(&frame);
            let (head, payload) = wire.split_first_chunk::<HEAD>().unwrap();
            prop_assert_eq!(payload_length(head).unwrap(), payload.len());
            prop_assert_eq!(parse(head, payload).unwrap(), frame);
        }

        #[test]
        fn nothing_breaks_the_parser(head in any::<[u8; HEAD]>(), payload in proptest::collection::vec(any::<u8>(), 0..32)) {
            let _ = parse(&head, &payload);
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let huge = [0, 0, 0, 1, 0, 0xff, 0xff, 0xff];
        assert!(payload_length(&huge).is_err());
        let version2 = [0x80, 2, 0, 6, 0, 0, 0, 4];
        assert!(parse(&version2, &[0, 0, 0, 1]).is_err());
        let short = [0x80, 3, 0, 1, 0, 0, 0, 4];
        assert!(parse(&short, &[0, 0, 0, 1]).is_err());
    }
}
