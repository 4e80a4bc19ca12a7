//! The shim's socket: frames of what a container writes, and of what is written to it.
//!
//! A frame is its kind (one byte), its length (four bytes, big-endian) and that many bytes.

/// Kinds of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To the container; no bytes: standard input ends.
    Stdin,
    /// From the container.
    Stdout,
    /// From the container.
    Stderr,
    /// To the container: the terminal's columns and rows, two bytes each.
    Resize,
}

/// No frame is longer.
pub const MAX_FRAME: usize = 64 * 1024;
const HEAD: usize = 5;

/// Appends a frame of at most [`MAX_FRAME`] bytes.
pub fn encode(kind: Kind, bytes: &[u8], out: &mut Vec<u8>) {
    for part in Parts(Some(bytes)) {
        out.push(kind as u8);
        out.extend_from_slice(&(part.len() as u32).to_be_bytes());
        out.extend_from_slice(part);
    }
}

/// Pieces that fit into frames; one empty piece for nothing.
struct Parts<'a>(Option<&'a [u8]>);

impl<'a> Iterator for Parts<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let bytes = self.0?;
        let (part, rest) = bytes.split_at(bytes.len().min(MAX_FRAME));
        self.0 = (!rest.is_empty()).then_some(rest);
        Some(part)
    }
}

/// A window's size as a frame's bytes.
pub fn window(columns: u16, rows: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (columns.to_be_bytes(), rows.to_be_bytes());
    [a, b, c, d]
}

/// The size in a [`Kind::Resize`] frame.
pub fn read_window(bytes: &[u8]) -> Option<(u16, u16)> {
    let [a, b, c, d] = *bytes else {
        return None;
    };
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

/// What the other side sends is no frame: end the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a frame")]
pub struct NotAFrame;

/// Puts frames together from what arrives.
#[derive(Debug, Default)]
pub struct Decoder(Vec<u8>);

impl Decoder {
    /// Takes what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next frame, if it is complete.
    ///
    /// # Errors
    /// When a frame's kind or length cannot be.
    pub fn take(&mut self) -> Result<Option<(Kind, Vec<u8>)>, NotAFrame> {
        let Some((head, rest)) = self.0.split_first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let [kind, a, b, c, d] = *head;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > MAX_FRAME {
            return Err(NotAFrame);
        }
        let kind = match kind {
            0 => Kind::Stdin,
            1 => Kind::Stdout,
            2 => Kind::Stderr,
            3 => Kind::Resize,
            _ => return Err(NotAFrame),
        };
        let Some(bytes) = rest.get(..length) else {
            return Ok(None);
        };
        let bytes = bytes.to_vec();
        self.0.drain(..HEAD + length);
        Ok(Some((kind, bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_being_cut() {
        let mut wire = Vec::new();
        encode(Kind::Stdout, b"hello", &mut wire);
        encode(Kind::Stdin, b"", &mut wire);
        encode(Kind::Resize, &window(80, 24), &mut wire);
        encode(Kind::Stderr, &vec![7; MAX_FRAME + 1], &mut wire);
        let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
        for byte in wire {
            decoder.push(&[byte]);
            while let Some(frame) = decoder.take().unwrap() {
                frames.push(frame);
            }
        }
        let sizes: Vec<_> = frames
            .iter()
            .map(|(kind, bytes)| (*kind, bytes.len()))
            .collect();
        let long = [(Kind::Stderr, MAX_FRAME), (Kind::Stderr, 1)];
        let short = [(Kind::Stdout, 5), (Kind::Stdin, 0), (Kind::Resize, 4)];
        assert_eq!(sizes, [short.as_slice(), long.as_slice()].concat());
        assert_eq!(read_window(&frames[2].1), Some((80, 24)));
    }

    #[test]
    fn garbage_is_refused() {
        for wire in [[9, 0, 0, 0, 0], [0, 255, 0, 0, 0]] {
            let mut decoder = Decoder::default();
            decoder.push(&wire);
            assert_eq!(decoder.take(), Err(NotAFrame));
        }
    }
}
