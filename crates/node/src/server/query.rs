//! Queries of requests.

/// The parameters of a request, decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Of a request's address.
    pub fn of(uri: &http::Uri) -> Self {
        let pairs = uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(key, value)| (decode(key, true), decode(value, true)))
                .collect(),
        )
    }

    /// All values of a parameter.
    pub fn all(&self, key: &str) -> Vec<String> {
        self.0
            .iter()
            .filter(|(k, _)| k == key)
            .map(|(_, v)| v.clone())
            .collect()
    }

    /// Its first value that is not empty.
    pub fn first(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(k, v)| k == key && !v.is_empty())
            .map(|(_, v)| v.as_str())
    }

    /// Whether it is there and neither `false` nor `0`.
    pub fn flag(&self, key: &str) -> bool {
        self.first(key).is_some_and(|v| v != "false" && v != "0")
    }
}

/// The parts of a path, decoded.
pub fn parts(path: &str) -> Vec<String> {
    path.split('/')
        .filter(|part| !part.is_empty())
        .map(|part| decode(part, false))
        .collect()
}

fn decode(text: &str, form: bool) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = (*first == b'%').then(|| tail.get(..2)).flatten();
        let code = code
            .and_then(|c| std::str::from_utf8(c).ok())
            .and_then(|c| u8::from_str_radix(c, 16).ok());
        match code {
            Some(byte) => {
                out.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                out.push(if form && *first == b'+' { b' ' } else { *first });
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_decoded() {
        let uri: http::Uri =
            "/exec/ns/p%2Fx/c?command=sh&command=-c&command=echo%20a+b&input=1&tty=false"
                .parse()
                .unwrap();
        let query = Query::of(&uri);
        assert_eq!(query.all("command"), ["sh", "-c", "echo a b"]);
        assert!(query.flag("input") && !query.flag("tty") && !query.flag("output"));
        assert_eq!(parts(uri.path()), ["exec", "ns", "p/x", "c"]);
        assert_eq!(decode("%zz%4", false), "%zz%4");
    }
}
