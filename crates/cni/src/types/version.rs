//! Versions of the specification, and which one a configuration asks for.

use std::{fmt, str::FromStr};

/// A version of the specification. Later ones compare greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// 0.1.0, also what a configuration without a version means.
    #[default]
    V0_1_0,
    /// 0.2.0
    V0_2_0,
    /// 0.3.0
    V0_3_0,
    /// 0.3.1
    V0_3_1,
    /// 0.4.0: CHECK, and `prevResult` on DEL.
    V0_4_0,
    /// 1.0.0
    V1_0_0,
    /// 1.1.0: GC and STATUS.
    V1_1_0,
}

/// Every version that this crate speaks, oldest first.
pub const SUPPORTED: [Version; 7] = [
    Version::V0_1_0,
    Version::V0_2_0,
    Version::V0_3_0,
    Version::V0_3_1,
    Version::V0_4_0,
    Version::V1_0_0,
    Version::V1_1_0,
];

/// A version that this crate does not speak.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "cniVersion {0:?} is not supported: use one of 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"
)]
pub struct UnknownVersion(pub String);

impl Version {
    /// The newest version, which the model of this crate has the shape of.
    pub const LATEST: Version = Version::V1_1_0;

    /// The text that stands in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Version::V0_1_0 => "0.1.0",
            Version::V0_2_0 => "0.2.0",
            Version::V0_3_0 => "0.3.0",
            Version::V0_3_1 => "0.3.1",
            Version::V0_4_0 => "0.4.0",
            Version::V1_0_0 => "1.0.0",
            Version::V1_1_0 => "1.1.0",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Version {
    type Err = UnknownVersion;

    /// An empty text is the oldest version, as a missing one.
    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        if text.is_empty() {
            return Ok(Version::default());
        }
        let known = SUPPORTED.into_iter().find(|v| v.as_str() == text);
        known.ok_or_else(|| UnknownVersion(text.to_owned()))
    }
}

/// The version a list asks for: the newest known one among `cniVersion` and `cniVersions`.
///
/// # Errors
/// When versions are named and none of them is known.
pub fn negotiate(single: Option<&str>, several: &[String]) -> Result<Version, UnknownVersion> {
    let named: Vec<&str> = single
        .into_iter()
        .chain(several.iter().map(String::as_str))
        .collect();
    let newest = named.iter().filter_map(|text| text.parse().ok()).max();
    match (newest, named.is_empty()) {
        (Some(version), _) => Ok(version),
        (None, true) => Ok(Version::default()),
        (None, false) => Err(UnknownVersion(named.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn several(list: &[&str]) -> Vec<String> {
        list.iter().map(|v| (*v).to_owned()).collect()
    }

    #[test]
    fn every_version_reads_its_own_text() {
        for version in SUPPORTED {
            assert_eq!(version.as_str().parse(), Ok(version));
        }
        assert!(SUPPORTED.is_sorted());
        assert!("1.2.0".parse::<Version>().is_err());
    }

    #[test]
    fn the_newest_known_version_wins() {
        let malha = several(&["0.4.0", "1.0.0", "1.1.0"]);
        assert_eq!(negotiate(Some("1.0.0"), &malha), Ok(Version::V1_1_0));
        assert_eq!(
            negotiate(Some("1.1.0"), &several(&["0.4.0"])),
            Ok(Version::V1_1_0)
        );
        assert_eq!(
            negotiate(Some("0.4.0"), &several(&["9.0.0"])),
            Ok(Version::V0_4_0)
        );
        assert_eq!(negotiate(Some("0.3.1"), &[]), Ok(Version::V0_3_1));
        assert_eq!(negotiate(None, &[]), Ok(Version::V0_1_0));
        assert!(negotiate(Some("2.0.0"), &several(&["3.0.0"])).is_err());
    }
}
