//! `malha`: control plane, join, node, network agent and lab in one binary.

mod commands;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // There is one provider in this program; a second installation would only be refused.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let command = commands::Malha::parse();
    match command.run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("malha: {error:#}");
            ExitCode::FAILURE
        }
    }
}
