//! `malha`: control plane, join, node, network agent and lab in one binary.

mod commands;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let command = commands::Malha::parse();
    match command.run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("malha: {error:#}");
            ExitCode::FAILURE
        }
    }
}
