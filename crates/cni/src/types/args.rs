//! `CNI_ARGS`: `KEY=VALUE` pairs, separated by semicolons.
//!
//! Unknown keys are ignored, whether `IgnoreUnknown` is set or not: every runtime adds its own.

use std::net::IpAddr;

/// The pairs, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args(Vec<(String, String)>);

/// A part of `CNI_ARGS` that is not `KEY=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("CNI_ARGS: {0:?} is not KEY=VALUE")]
pub struct MalformedArgs(pub String);

/// The pod that a Kubernetes runtime names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodRef {
    /// `K8S_POD_NAMESPACE`
    pub namespace: String,
    /// `K8S_POD_NAME`
    pub name: String,
    /// `K8S_POD_UID`: tells a pod from its successor of the same name. Older runtimes do not send it.
    pub uid: Option<String>,
}

impl Args {
    /// Reads the variable's text.
    ///
    /// # Errors
    /// When a part has no `=` or an empty key.
    pub fn parse(text: &str) -> Result<Self, MalformedArgs> {
        let parts = text
            .split(';')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        let pair = |part: &str| match part.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(MalformedArgs(part.to_owned())),
        };
        parts.map(pair).collect::<Result<_, _>>().map(Self)
    }

    /// Arguments from pairs.
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(pairs.into_iter().collect())
    }

    /// The pairs, in their order.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The last value of a key, when it is not empty.
    pub fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.iter().rev().find(|(k, _)| k == key)?;
        Some(found.1.as_str()).filter(|value| !value.is_empty())
    }

    /// The pod, when both its namespace and its name are there.
    pub fn pod(&self) -> Option<PodRef> {
        Some(PodRef {
            namespace: self.get("K8S_POD_NAMESPACE")?.to_owned(),
            name: self.get("K8S_POD_NAME")?.to_owned(),
            uid: self.get("K8S_POD_UID").map(str::to_owned),
        })
    }

    /// The address asked for with `IP=`. A prefix length, which some callers add, is cut off.
    ///
    /// # Errors
    /// The pair, when its value is no address.
    pub fn ip(&self) -> Result<Option<IpAddr>, MalformedArgs> {
        let Some(text) = self.get("IP") else {
            return Ok(None);
        };
        let address = text.split_once('/').map_or(text, |(address, _)| address);
        address
            .parse()
            .map(Some)
            .map_err(|_| MalformedArgs(format!("IP={text}")))
    }
}

/// The text for the variable.
impl std::fmt::Display for Args {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, (key, value)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ";" };
            write!(f, "{separator}{key}={value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_kubernetes_sends() {
        let text = "K8S_POD_UID=u-1;IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;\
                    K8S_POD_INFRA_CONTAINER_ID=abc;NEW=a=b";
        let args = Args::parse(text).expect("arguments");
        assert_eq!(
            args.pod(),
            Some(PodRef {
                namespace: "default".into(),
                name: "web-0".into(),
                uid: Some("u-1".into())
            })
        );
        assert_eq!(args.get("NEW"), Some("a=b"));
        assert_eq!(args.to_string(), text);
    }

    #[test]
    fn empty_parts_are_no_fault_and_broken_ones_are_named() {
        assert_eq!(Args::parse(";;"), Ok(Args::default()));
        assert_eq!(Args::parse("A=1;B"), Err(MalformedArgs("B".into())));
        assert_eq!(Args::parse("=1"), Err(MalformedArgs("=1".into())));
    }

    #[test]
    fn reads_an_address_with_and_without_length() {
        let ip = |text: &str| Args::parse(text).expect("arguments").ip();
        assert_eq!(ip("IP=10.0.0.4/24"), Ok(Some(IpAddr::from([10, 0, 0, 4]))));
        assert_eq!(
            ip("IP=fd00::4"),
            Ok(Some("fd00::4".parse().expect("an address")))
        );
        assert_eq!(ip("MAC=1"), Ok(None));
        assert!(ip("IP=ten").is_err());
    }
}
