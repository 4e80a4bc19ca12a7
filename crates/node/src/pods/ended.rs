//! How a container ended, in a status's words.

use std::{fs, path::Path};

use k8s_openapi::api::core::v1::Container;

use super::observed::{CANNOT_RUN, Ended};
use crate::{
    launch::spec::{Exit, Started},
    logs,
    runtime::{ContainerRecord, StartError},
};

/// As much of a container's message as is kept.
const MAX_MESSAGE: usize = 4096;
/// As much of its log as stands for one.
const MAX_LOG_MESSAGE: usize = 2048;
const MAX_LOG_LINES: usize = 80;

/// A container that ran.
pub fn of_exit(
    container: &Container,
    record: &ContainerRecord,
    started: &Started,
    exit: &Exit,
) -> Ended {
    let reason = match (exit.oom_killed, exit.code) {
        (true, _) => "OOMKilled",
        (false, 0) => "Completed",
        (false, _) => "Error",
    };
    let mut message = record
        .message_path
        .as_deref()
        .map(|path| head(path, MAX_MESSAGE))
        .unwrap_or_default();
    let by_log = container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
    if message.is_empty() && by_log && exit.code != 0 {
        message = log_tail(&fs::read(&record.log_path).unwrap_or_default());
    }
    Ended {
        id: record.id.clone(),
        code: exit.code,
        signal: exit.signal,
        reason: reason.to_owned(),
        message,
        started: started.at,
        finished: exit.at,
    }
}

/// A container that could not be started.
pub fn of_failure(record: &ContainerRecord, error: &StartError, now: jiff::Timestamp) -> Ended {
    let code = match error {
        StartError::Container(failure) => failure.code,
        StartError::System { .. } => 128,
    };
    Ended {
        id: record.id.clone(),
        code,
        signal: None,
        reason: CANNOT_RUN.to_owned(),
        message: error.to_string(),
        started: now,
        finished: now,
    }
}

fn head(path: &Path, most: usize) -> String {
    use std::io::Read;
    let mut bytes = Vec::new();
    if let Ok(file) = fs::File::open(path) {
        let _ = file.take(most as u64).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn log_tail(log: &[u8]) -> String {
    let lines: Vec<&[u8]> = log
        .split(|b| *b == b'\n')
        .filter(|l| !l.is_empty())
        .collect();
    let last = lines.iter().skip(lines.len().saturating_sub(MAX_LOG_LINES));
    let texts: Vec<_> = last
        .filter_map(|l| logs::parse(l))
        .map(|e| String::from_utf8_lossy(e.text))
        .collect();
    let text = texts.join("\n");
    let cut = text.len().saturating_sub(MAX_LOG_MESSAGE);
    let from = (cut..text.len())
        .find(|i| text.is_char_boundary(*i))
        .unwrap_or(text.len());
    text.get(from..).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log() {
        let log: String = (0..200)
            .map(|n| format!("1970-01-01T00:00:00Z stdout F line {n}\n"))
            .collect();
        let text = log_tail(log.as_bytes());
        assert!(
            text.starts_with("line 120\n") && text.ends_with("line 199"),
            "{text}"
        );
        let long = format!("1970-01-01T00:00:00Z stdout F {}é\n", "x".repeat(3000));
        assert_eq!(log_tail(long.as_bytes()).len(), MAX_LOG_MESSAGE);
    }
}
