//! The wire format of protocol buffers, as far as these messages need it.
//! <https://protobuf.dev/programming-guides/encoding/>

/// Builds a message. Fields with the default value are left out, as the format wants.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// A whole number.
    #[must_use]
    pub fn number(mut self, field: u32, value: u64) -> Self {
        if value != 0 {
            self.varint(u64::from(field) << 3);
            self.varint(value);
        }
        self
    }

    /// Text.
    #[must_use]
    pub fn text(self, field: u32, value: &str) -> Self {
        if value.is_empty() {
            return self;
        }
        self.bytes(field, value.as_bytes())
    }

    /// A message within; there even when it is empty.
    #[must_use]
    pub fn message(self, field: u32, value: Writer) -> Self {
        self.bytes(field, &value.0)
    }

    /// An entry of a map from text to text.
    #[must_use]
    pub fn entry(self, field: u32, key: &str, value: &str) -> Self {
        self.message(field, Self::default().text(1, key).text(2, value))
    }

    /// The message.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.0
    }

    fn bytes(mut self, field: u32, value: &[u8]) -> Self {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// A field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A whole number.
    Number(u64),
    /// Text or a message.
    Bytes(&'a [u8]),
    /// Something that none of these messages has.
    Other,
}

impl<'a> Value<'a> {
    /// As text; what is not UTF-8 is replaced.
    pub fn text(self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }

    /// As bytes.
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            _ => &[],
        }
    }

    /// As a number.
    pub fn number(self) -> u64 {
        match self {
            Self::Number(number) => number,
            _ => 0,
        }
    }
}

/// The fields of a message, in order; None: it is cut off or otherwise broken.
pub fn fields(mut rest: &[u8]) -> Option<Vec<(u32, Value<'_>)>> {
    let mut found = Vec::new();
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        let field = u32::try_from(key >> 3).ok()?;
        let value = match key & 7 {
            0 => Value::Number(varint(&mut rest)?),
            1 => take(&mut rest, 8).map(|_| Value::Other)?,
            2 => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                Value::Bytes(take(&mut rest, length)?)
            }
            5 => take(&mut rest, 4).map(|_| Value::Other)?,
            _ => return None,
        };
        found.push((field, value));
    }
    Some(found)
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(head)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_documentation() {
        assert_eq!(
            Writer::default().number(1, 150).finish(),
            [0x08, 0x96, 0x01]
        );
        let text = Writer::default().text(2, "testing").finish();
        assert_eq!(text, b"\x12\x07testing");
        let inner = Writer::default().number(1, 150);
        let outer = Writer::default().message(3, inner).finish();
        assert_eq!(outer, [0x1a, 0x03, 0x08, 0x96, 0x01]);
        let found = fields(&outer).unwrap();
        assert_eq!(found, [(3, Value::Bytes(&[0x08, 0x96, 0x01]))]);
        assert_eq!(
            fields(found[0].1.bytes()).unwrap(),
            [(1, Value::Number(150))]
        );
    }

    #[test]
    fn what_is_cut_off_is_refused_and_what_is_unknown_is_not() {
        let whole = Writer::default()
            .number(1, u64::MAX)
            .text(2, "text")
            .finish();
        assert_eq!(fields(&whole).unwrap()[0], (1, Value::Number(u64::MAX)));
        // Cut between the two fields, the rest is a message of its own.
        let between = whole.len() - 6;
        for length in (1..whole.len()).filter(|length| *length != between) {
            assert_eq!(fields(&whole[..length]), None, "{length}");
        }
        let fixed = [0x0d, 1, 2, 3, 4, 0x11, 1, 2, 3, 4, 5, 6, 7, 8, 0x18, 1];
        assert_eq!(fields(&fixed).unwrap()[2], (3, Value::Number(1)));
        assert_eq!(fields(&[0x0b]), None, "groups are of the past");
        assert_eq!(fields(&[0x80; 11]), None, "no number is that long");
    }
}
