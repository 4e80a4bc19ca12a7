//! The launcher: what starts containers and stays with them. It is this very program, started anew with one thread,
//! because only such a process may fork and change its namespaces.
//!
//! ```text
//!   agent ── spec.json ──▶ shim ── fork ──▶ init ── namespaces, root, privileges ── exec ──▶ the container's program
//!     ▲                     │  ▲                                                               │
//!     └── report, exit.json ┘  └────────────── output, end ────────────────────────────────────┘
//! ```
//!
//! Not done: seccomp filters, AppArmor and SELinux profiles, user namespaces, device cgroups.

pub mod attach;
pub mod capability;
mod device;
mod exec;
mod filesystems;
mod init;
pub mod log;
mod pause;
mod place;
pub mod process;
mod relay;
mod root;
mod shim;
pub mod spec;
pub mod sys;
pub mod terminal;

use std::{path::Path, process::ExitCode};

pub use shim::ATTACH;

/// Runs one of the launcher's commands: `shim BUNDLE`, `exec BUNDLE [--tty] -- COMMAND…`, `pause`. The process must
/// have one thread.
pub fn main(arguments: &[String]) -> ExitCode {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["shim", bundle] => shim::main(Path::new(bundle)),
        ["exec", bundle, "--", ..] => exec::main(Path::new(bundle), false, rest(arguments, 3)),
        ["exec", bundle, "--tty", "--", ..] => {
            exec::main(Path::new(bundle), true, rest(arguments, 4))
        }
        ["pause"] => pause::main(),
        _ => {
            eprintln!(
                "malha node: unknown command {:?}: see malha node --help",
                words.join(" ")
            );
            ExitCode::FAILURE
        }
    }
}

fn rest(arguments: &[String], from: usize) -> &[String] {
    arguments.get(from..).unwrap_or_default()
}
