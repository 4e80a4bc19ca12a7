//! What a command tells while it works, in kubeadm's style: `[phase] text`.

use std::io::{self, Write};

/// Where progress lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// To standard output, for people.
    Out,
    /// To standard error: standard output is for JSON or YAML.
    Err,
    /// Nowhere, in tests.
    Silent,
}

impl Progress {
    /// One step that was taken or is being taken.
    pub fn step(self, phase: &str, text: impl std::fmt::Display) {
        self.line(&format!("[{phase}] {text}"));
    }

    /// Something that does not stop the command but deserves a look.
    pub fn warning(self, phase: &str, text: impl std::fmt::Display) {
        if self != Progress::Silent {
            // A closed standard error must not end a join.
            let _ = writeln!(io::stderr(), "[{phase}] WARNING: {text}");
        }
    }

    /// A line as it is.
    pub fn line(self, text: &str) {
        let _ = match self {
            Progress::Out => writeln!(io::stdout(), "{text}"),
            Progress::Err => writeln!(io::stderr(), "{text}"),
            Progress::Silent => Ok(()),
        };
    }
}
