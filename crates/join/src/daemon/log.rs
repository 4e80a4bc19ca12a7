//! What a log tells about an end.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

/// How much of the log's end is looked at: a Go program that gives up prints all its stacks after the reason.
const TAIL: u64 = 1024 * 1024;
/// More would not be one line any more.
const LENGTH: usize = 600;

/// The end of a log, from `start` at the earliest.
pub(super) fn tail(path: &Path, start: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(start.max(length.saturating_sub(TAIL))))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The line that says why: the last one that klog marks as fatal, else as an error, else the last one.
pub(super) fn telling(text: &str) -> Option<&str> {
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let marked = |mark: char| lines().filter_map(move |line| klog(line, mark)).next_back();
    let found = marked('F')
        .or_else(|| marked('E'))
        .or_else(|| lines().next_back())?;
    let end = found
        .char_indices()
        .nth(LENGTH)
        .map_or(found.len(), |(end, _)| end);
    Some(&found[..end])
}

/// The message of a line such as `F1125 02:30:31.123456    1234 server.go:269] message`.
fn klog(line: &str, mark: char) -> Option<&str> {
    let rest = line.strip_prefix(mark)?;
    let dated = rest.len() > 4 && rest.bytes().take(4).all(|b| b.is_ascii_digit());
    let (_, message) = rest.split_once("] ")?;
    dated.then_some(message.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_found_before_the_stacks() {
        let log = "I1125 02:30:30.1 1 server.go:1] starting\nE1125 02:30:30.5 1 a.go:2] minor\n\
                   F1125 02:30:31.123456    1234 server.go:269] failed to run Kubelet: misconfiguration\n\
                   goroutine 1 [running]:\nmain.main()\n";
        assert_eq!(
            telling(log),
            Some("failed to run Kubelet: misconfiguration")
        );
        assert_eq!(
            telling("E1125 02:30:30.5 1 a.go:2] minor\nI1125 02:30:31 1 b.go:1] bye\n"),
            Some("minor")
        );
        assert_eq!(telling("one\n two \n\n"), Some("two"));
        assert_eq!(telling("\n"), None);
        assert_eq!(
            telling(&"é".repeat(2000)).map(|line| line.chars().count()),
            Some(LENGTH)
        );
    }
}
