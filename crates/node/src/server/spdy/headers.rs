//! Header blocks of SPDY/3: names and values with their lengths, compressed with a dictionary that both sides know.

use std::sync::LazyLock;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

/// No block is longer, compressed or not.
const MAX_BLOCK: usize = 64 * 1024;

/// The words of the dictionary (SPDY/3 draft, 2.6.10.1), each of which has its length before it …
const WORDS: &str = "options,head,post,put,delete,trace,accept,accept-charset,accept-encoding,accept-language,\
    accept-ranges,age,allow,authorization,cache-control,connection,content-base,content-encoding,content-language,\
    content-length,content-location,content-md5,content-range,content-type,date,etag,expect,expires,from,host,if-match,\
    if-modified-since,if-none-match,if-range,if-unmodified-since,last-modified,location,max-forwards,pragma,\
    proxy-authenticate,proxy-authorization,range,referer,retry-after,server,te,trailer,transfer-encoding,upgrade,\
    user-agent,vary,via,warning,www-authenticate,method,get,status,200 OK,version,HTTP/1.1,url,public,set-cookie,\
    keep-alive,origin";
/// … and the text after them.
const TEXT: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505\
    203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden\
    404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable\
    Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT\
    chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,\
    publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut bytes = Vec::new();
    for word in WORDS.split(',') {
        bytes.extend_from_slice(&(word.len() as u32).to_be_bytes());
        bytes.extend_from_slice(word.as_bytes());
    }
    bytes.extend_from_slice(TEXT.as_bytes());
    bytes
});

/// What the other side sent is no header block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad SPDY header block: {0}")]
pub struct BadBlock(&'static str);

/// Names in lower case, and values.
pub type Headers = Vec<(String, String)>;

/// One direction's compression; blocks build on those before.
pub struct Encoder(Compress);

impl Encoder {
    /// A fresh one.
    ///
    /// # Errors
    /// When the dictionary is refused, which it is not.
    pub fn new() -> Result<Self, BadBlock> {
        let mut compress = Compress::new(Compression::best(), true);
        compress
            .set_dictionary(&DICTIONARY)
            .map_err(|_| BadBlock("dictionary refused"))?;
        Ok(Self(compress))
    }

    /// Compresses one block.
    ///
    /// # Errors
    /// When it is too long.
    pub fn encode(&mut self, headers: &Headers) -> Result<Vec<u8>, BadBlock> {
        let mut plain = (headers.len() as u32).to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend_from_slice(&(text.len() as u32).to_be_bytes());
            plain.extend_from_slice(text.as_bytes());
        }
        if plain.len() > MAX_BLOCK {
            return Err(BadBlock("too long"));
        }
        let mut out = Vec::with_capacity(plain.len() + 64);
        let before = self.0.total_in();
        self.0
            .compress_vec(&plain, &mut out, FlushCompress::Sync)
            .map_err(|_| BadBlock("cannot compress"))?;
        match self.0.total_in() - before == plain.len() as u64 {
            true => Ok(out),
            false => Err(BadBlock("cannot compress")),
        }
    }
}

/// The other direction's.
pub struct Decoder(Decompress);

impl Default for Decoder {
    fn default() -> Self {
        Self(Decompress::new(true))
    }
}

impl Decoder {
    /// Understands one block.
    ///
    /// # Errors
    /// When it is not compressed in this way, too long, or not of this form. Later blocks cannot be understood then.
    pub fn decode(&mut self, block: &[u8]) -> Result<Headers, BadBlock> {
        let plain = self.inflate(block)?;
        let mut rest = plain.as_slice();
        let count = number(&mut rest)?;
        let mut headers = Headers::new();
        for _ in 0..count {
            let name = text(&mut rest)?.to_ascii_lowercase();
            headers.push((name, text(&mut rest)?));
        }
        Ok(headers)
    }

    fn inflate(&mut self, block: &[u8]) -> Result<Vec<u8>, BadBlock> {
        let bad = || BadBlock("not compressed as SPDY/3 says");
        let mut out = Vec::with_capacity(1024);
        let mut rest = block;
        loop {
            let before = (self.0.total_in(), self.0.total_out());
            let outcome = self.0.decompress_vec(rest, &mut out, FlushDecompress::Sync);
            let taken = usize::try_from(self.0.total_in() - before.0).map_err(|_| bad())?;
            rest = rest.get(taken..).ok_or_else(bad)?;
            match outcome {
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0.set_dictionary(&DICTIONARY).map_err(|_| bad())?;
                    continue;
                }
                Err(_) => return Err(bad()),
                Ok(_) => {}
            }
            if out.len() < out.capacity() {
                // There was room left, so all that was there has come out.
                return if rest.is_empty() { Ok(out) } else { Err(bad()) };
            }
            if out.len() > MAX_BLOCK {
                return Err(BadBlock("too long"));
            }
            out.reserve(out.capacity());
        }
    }
}

fn number(rest: &mut &[u8]) -> Result<usize, BadBlock> {
    let (head, tail) = rest.split_first_chunk::<4>().ok_or(BadBlock("cut off"))?;
    *rest = tail;
    Ok(u32::from_be_bytes(*head) as usize)
}

fn text(rest: &mut &[u8]) -> Result<String, BadBlock> {
    let length = number(rest)?;
    let (text, tail) = rest.split_at_checked(length).ok_or(BadBlock("cut off"))?;
    *rest = tail;
    String::from_utf8(text.to_vec()).map_err(|_| BadBlock("not text"))
}

/// A header's value.
pub fn value<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers
        .iter()
        .find(|(n, _)| n == name)
        .map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_dictionary_is_the_one_that_everybody_has() {
        assert_eq!(DICTIONARY.len(), 1423);
        // A stream begins with the checksum of its dictionary.
        let mut encoder = Encoder::new().unwrap();
        let block = encoder
            .encode(&vec![("streamtype".into(), "stdin".into())])
            .unwrap();
        assert_eq!(block.get(2..6), Some([0xe3, 0xc6, 0xa7, 0xc2].as_slice()));
    }

    #[test]
    fn garbage_is_refused() {
        for block in [
            &b""[..],
            b"x",
            b"\x78\xbb\xe3\xc6\xa7\xc2",
            &[0x78, 0x9c, 1, 2, 3],
        ] {
            assert!(Decoder::default().decode(block).is_err(), "{block:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn blocks_follow_each_other(blocks in proptest::collection::vec(
            proptest::collection::vec(("[a-z-]{1,20}", "[ -~]{0,300}"), 0..12), 1..4)) {
            let (mut encoder, mut decoder) = (Encoder::new().unwrap(), Decoder::default());
            for headers in blocks {
                let block = encoder.encode(&headers).unwrap();
                prop_assert_eq!(decoder.decode(&block).unwrap(), headers);
            }
        }

        #[test]
        fn nothing_breaks_a_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            let _ = Decoder::default().decode(&bytes);
        }
    }
}
