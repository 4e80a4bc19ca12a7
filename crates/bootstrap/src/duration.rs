//! Go's duration syntax (`24h0m0s`, `1h30m`, `90s`), which kubeadm's flags and configuration files use.

use std::fmt;

/// A text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid duration {0:?}: write for example 24h, 1h30m or 90s (0 means never)")]
pub struct DurationError(pub String);

/// A length of time in whole seconds, read and written as Go does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration {
    seconds: i64,
}

impl GoDuration {
    /// From whole seconds.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self { seconds }
    }

    /// In whole seconds.
    pub const fn as_seconds(self) -> i64 {
        self.seconds
    }
}

impl std::str::FromStr for GoDuration {
    type Err = DurationError;

    /// A sign, then numbers with units `ns us µs ms s m h`; or `0`. Parts of a second are cut off.
    fn from_str(text: &str) -> Result<Self, DurationError> {
        let refuse = || DurationError(text.to_owned());
        let (negative, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest == "0" {
            return Ok(Self { seconds: 0 });
        }
        if rest.is_empty() {
            return Err(refuse());
        }
        let mut nanoseconds: f64 = 0.0;
        while !rest.is_empty() {
            let end = rest
                .find(|c: char| !c.is_ascii_digit() && c != '.')
                .ok_or_else(refuse)?;
            let number: f64 = rest[..end].parse().map_err(|_| refuse())?;
            let tail = &rest[end..];
            let unit_end = tail
                .find(|c: char| c.is_ascii_digit() || c == '.')
                .unwrap_or(tail.len());
            nanoseconds += number * unit(&tail[..unit_end]).ok_or_else(refuse)?;
            rest = &tail[unit_end..];
        }
        let seconds = nanoseconds / 1e9;
        // Go's durations are 64-bit nanoseconds: about 292 years.
        if seconds > 9_223_372_036.0 {
            return Err(refuse());
        }
        let seconds = seconds as i64;
        Ok(Self {
            seconds: if negative { -seconds } else { seconds },
        })
    }
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.seconds.unsigned_abs();
        let (hours, minutes, seconds) = (total / 3600, total / 60 % 60, total % 60);
        if self.seconds < 0 {
            f.write_str("-")?;
        }
        match (hours, minutes) {
            (0, 0) => write!(f, "{seconds}s"),
            (0, _) => write!(f, "{minutes}m{seconds}s"),
            _ => write!(f, "{hours}h{minutes}m{seconds}s"),
        }
    }
}

fn unit(name: &str) -> Option<f64> {
    Some(match name {
        "ns" => 1.0,
        "us" | "µs" | "μs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 60e9,
        "h" => 3600e9,
        _ => return None,
    })
}
