//! Knocking at another test server, several times, and measuring how long it took.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::connect::{self, Protocol};

const MAX_COUNT: u32 = 1000;

/// How a dial went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Attempts that worked.
    pub ok: u32,
    /// Attempts.
    pub of: u32,
    /// The median of those that worked, in microseconds.
    pub median_us: u64,
    /// What the last failure was, if there was one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}

/// Answers `/dial`.
pub async fn dial(query: &BTreeMap<String, String>) -> Result<Outcome> {
    let protocol: Protocol = get(query, "protocol", None)?;
    let host: IpAddr = get(query, "host", None)?;
    let port: u16 = get(query, "port", Some(0))?;
    let count: u32 = get(query, "count", Some(1))?;
    let timeout = Duration::from_millis(get(query, "timeout_ms", Some(1000))?);
    if count == 0 || count > MAX_COUNT {
        bail!("count has to be 1 to {MAX_COUNT}");
    }
    let to = SocketAddr::new(host, port);
    tokio::task::spawn_blocking(move || repeat(count, || connect::attempt(to, protocol, timeout)))
        .await
        .context("the attempt panicked")
}

fn get<T: FromStr>(query: &BTreeMap<String, String>, name: &str, default: Option<T>) -> Result<T> {
    match (query.get(name), default) {
        (Some(text), _) => match text.parse() {
            Ok(value) => Ok(value),
            Err(_) => bail!("{name}={text} cannot be understood"),
        },
        (None, Some(default)) => Ok(default),
        (None, None) => bail!("{name} is missing"),
    }
}

fn repeat(count: u32, attempt: impl Fn() -> std::io::Result<()>) -> Outcome {
    let mut times = Vec::new();
    let mut error = String::new();
    for _ in 0..count {
        let begun = Instant::now();
        match attempt() {
            Ok(()) => times.push(begun.elapsed()),
            Err(failure) => error = failure.to_string(),
        }
    }
    times.sort_unstable();
    Outcome {
        ok: u32::try_from(times.len()).unwrap_or(u32::MAX),
        of: count,
        median_us: times
            .get(times.len() / 2)
            .map_or(0, |t| u64::try_from(t.as_micros()).unwrap_or(u64::MAX)),
        error,
    }
}
