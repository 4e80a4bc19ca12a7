//! Print `bpf/abi.h`: `cargo run -p malha-abi --example header > bpf/abi.h`.

fn main() {
    let mut text = String::new();
    malha_abi::header::render(&mut text).expect("a String takes everything");
    print!("{text}");
}
