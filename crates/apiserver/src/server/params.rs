//! The query of a request.

use crate::status::Status;

/// Decoded `name=value` pairs, in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    /// Reads a query; empty parts (`?&limit=1`) are skipped.
    pub fn parse(query: Option<&str>) -> Self {
        let parts = query.unwrap_or("").split('&').filter(|p| !p.is_empty());
        let pairs = parts.map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (decode(name, true), decode(value, true))
        });
        Self(pairs.collect())
    }

    /// The first value; empty counts as absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut pairs = self.0.iter();
        let (_, value) = pairs.find(|(key, _)| key == name)?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }

    /// Kubernetes' idea of true: there, and neither `false` nor `0`.
    pub fn flag(&self, name: &str) -> bool {
        let mut pairs = self.0.iter();
        pairs
            .find(|(key, _)| key == name)
            .is_some_and(|(_, value)| value != "false" && value != "0")
    }

    /// A whole number.
    ///
    /// # Errors
    /// 400 for anything else.
    pub fn number(&self, name: &str) -> Result<Option<u64>, Status> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        let number = text.parse().map_err(|_| {
            Status::bad_request(format!(
                "{name}: Invalid value: \"{text}\": must be a whole number"
            ))
        })?;
        Ok(Some(number))
    }

    /// Whether `dryRun=All` is asked for.
    ///
    /// # Errors
    /// 422 for another value.
    pub fn dry_run(&self) -> Result<bool, Status> {
        match self.get("dryRun") {
            None => Ok(false),
            Some("All") => Ok(true),
            Some(other) => Err(Status::new(
                422,
                "Invalid",
                format!("dryRun: Unsupported value: \"{other}\": supported values: \"All\""),
            )),
        }
    }

    /// All pairs.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }
}

/// Percent-decoding; `plus` reads `+` as a blank. What is not UTF-8 afterwards becomes the replacement character.
pub(super) fn decode(text: &str, plus: bool) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped = (byte == b'%').then(|| hex(bytes.get(at + 1..at + 3)?));
        match escaped.flatten() {
            Some(value) => {
                decoded.push(value);
                at += 3;
            }
            None => {
                decoded.push(if plus && byte == b'+' { b' ' } else { byte });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn hex(digits: &[u8]) -> Option<u8> {
    let [high, low] = digits else { return None };
    let digit = |b: &u8| char::from(*b).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let params = Params::parse(Some(
            "&labelSelector=a%3Db%2Cc&x=1+2&watch&follow=false&bad=%zz%4",
        ));
        assert_eq!(params.get("labelSelector"), Some("a=b,c"));
        assert_eq!(params.get("x"), Some("1 2"));
        assert_eq!(params.get("bad"), Some("%zz%4"));
        assert_eq!(params.get("watch"), None);
        assert!(params.flag("watch"));
        assert!(!params.flag("follow"));
        assert!(!params.flag("absent"));
    }

    #[test]
    fn numbers_and_dry_run_are_strict() {
        let params = Params::parse(Some("n=12&m=-1&dryRun=All"));
        assert_eq!(params.number("n").unwrap(), Some(12));
        assert_eq!(params.number("m").unwrap_err().code, 400);
        assert!(params.dry_run().unwrap());
        assert_eq!(
            Params::parse(Some("dryRun=Some"))
                .dry_run()
                .unwrap_err()
                .code,
            422
        );
    }
}
