//! Running commands and waiting for what they say.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// How long anything may take that has to happen.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A command from a prefix and its own words.
#[must_use]
pub fn command(prefix: &[String], words: &[&str]) -> Command {
    let mut all = prefix
        .iter()
        .map(String::as_str)
        .chain(words.iter().copied());
    let mut command = Command::new(all.next().expect("a command"));
    command.args(all);
    command
}

/// The output of a command that has to succeed.
///
/// # Panics
/// When it does not.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let what = format!("{command:?}");
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    text(&what, output)
}

/// The text of an output that has to be a success.
///
/// # Panics
/// When it is not.
#[must_use]
#[track_caller]
pub fn text(what: &str, output: Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{what}: {}\n{out}\n{err}",
        output.status
    );
    out
}

/// Whether a command succeeds.
pub fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// Wait until something is so.
///
/// # Panics
/// When it does not become so within [`PATIENCE`].
#[track_caller]
pub fn until(what: &str, so: impl FnMut() -> bool) {
    within(PATIENCE, what, so);
}

/// Wait until something is so.
///
/// # Panics
/// When it does not become so in time.
#[track_caller]
pub fn within(limit: Duration, what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
