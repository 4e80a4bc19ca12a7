//! The format of containers' logs: `TIME STREAM TAG TEXT`, as CRI defines it.
//!
//! `F` tags a line or its end, `P` a part that another line goes on with.

use jiff::Timestamp;

/// A line longer than this is written in parts.
pub const MAX_LINE: usize = 16 * 1024;

/// What a container wrote to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, or its terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Its name in a log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Cuts one stream into lines of a log.
#[derive(Debug)]
pub struct Lines {
    stream: Stream,
    pending: Vec<u8>,
}

impl Lines {
    /// Nothing read yet.
    pub fn new(stream: Stream) -> Self {
        Self {
            stream,
            pending: Vec::new(),
        }
    }

    /// Takes what was read and appends the lines that are complete (or too long) to `out`.
    pub fn push(&mut self, bytes: &[u8], now: Timestamp, out: &mut Vec<u8>) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = MAX_LINE - self.pending.len();
            let window = rest.get(..room).unwrap_or(rest);
            match window.iter().position(|b| *b == b'\n') {
                Some(end) => {
                    let (line, after) = rest.split_at(end);
                    self.write(line, "F", now, out);
                    rest = after.get(1..).unwrap_or_default();
                }
                None if window.len() == room => {
                    let (part, after) = rest.split_at(room);
                    self.write(part, "P", now, out);
                    rest = after;
                }
                None => {
                    self.pending.extend_from_slice(rest);
                    rest = &[];
                }
            }
        }
    }

    /// The end of the stream: what is left is a line.
    pub fn finish(&mut self, now: Timestamp, out: &mut Vec<u8>) {
        if !self.pending.is_empty() {
            self.write(&[], "F", now, out);
        }
    }

    fn write(&mut self, text: &[u8], tag: &str, now: Timestamp, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("{now} {} {tag} ", self.stream.name()).as_bytes());
        out.append(&mut self.pending);
        out.extend_from_slice(text);
        out.push(b'\n');
    }
}

/// One line of a log, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// When it was written.
    pub time: Timestamp,
    /// Whether a line ends here.
    pub full: bool,
    /// What was written, without the line's end.
    pub text: &'a [u8],
}

/// Understands a line without its end; `None` when it is none.
pub fn parse(line: &[u8]) -> Option<Entry<'_>> {
    let mut fields = line.splitn(4, |b| *b == b' ');
    let time = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let stream = fields.next()?;
    if stream != b"stdout" && stream != b"stderr" {
        return None;
    }
    let full = !fields.next()?.starts_with(b"P");
    Some(Entry {
        time,
        full,
        text: fields.next().unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn lines_are_cut_at_their_ends() {
        let (mut lines, mut out) = (Lines::new(Stream::Stdout), Vec::new());
        lines.push(b"one\ntw", at(0), &mut out);
        lines.push(b"o\n\nlast", at(1), &mut out);
        lines.finish(at(2), &mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "1970-01-01T00:00:00Z stdout F one\n\
             1970-01-01T00:00:01Z stdout F two\n\
             1970-01-01T00:00:01Z stdout F \n\
             1970-01-01T00:00:02Z stdout F last\n"
        );
    }

    #[test]
    fn what_is_no_line_is_refused() {
        for line in [
            "",
            "x",
            "1970-01-01T00:00:00Z",
            "1970-01-01T00:00:00Z stdin F x",
            "now stdout F x",
        ] {
            assert_eq!(parse(line.as_bytes()), None, "{line}");
        }
        let entry = parse(b"1970-01-01T00:00:01Z stderr P a b").unwrap();
        assert_eq!(
            (entry.time, entry.full, entry.text),
            (at(1), false, b"a b".as_slice())
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Whatever a container writes in whatever pieces comes back, and no line is too long.
        #[test]
        fn what_goes_in_comes_out(pieces in proptest::collection::vec(
            proptest::collection::vec(prop_oneof![9 => any::<u8>(), 1 => Just(b'\n')], 0..20_000), 0..4)) {
            let (mut lines, mut out) = (Lines::new(Stream::Stderr), Vec::new());
            for piece in &pieces {
                lines.push(piece, at(0), &mut out);
            }
            lines.finish(at(0), &mut out);
            let mut read = Vec::new();
            for line in out.split_inclusive(|b| *b == b'\n') {
                let entry = parse(line.strip_suffix(b"\n").unwrap()).unwrap();
                prop_assert!(entry.text.len() <= MAX_LINE);
                read.extend_from_slice(entry.text);
                if entry.full {
                    read.push(b'\n');
                }
            }
            let mut written: Vec<u8> = pieces.concat();
            if !written.is_empty() && !written.ends_with(b"\n") {
                written.push(b'\n');
            }
            prop_assert_eq!(read, written);
        }
    }
}
