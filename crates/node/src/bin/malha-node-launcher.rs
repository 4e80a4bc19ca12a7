//! `malha node shim|exec|pause …` without the rest of `malha`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((first, rest)) if first == "node" => malha_node::launch::main(rest),
        _ => {
            eprintln!("usage: malha-node-launcher node shim|exec|pause …");
            ExitCode::FAILURE
        }
    }
}
