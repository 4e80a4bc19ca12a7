//! `malha-cni`: the CNI plugin of Malha. Started as `loopback`, the plugin of that name.

use std::process::ExitCode;

fn main() -> ExitCode {
    malha_cni::plugin::main()
}
