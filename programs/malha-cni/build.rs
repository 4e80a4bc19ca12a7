//! The plugin is started for every sandbox and for every STATUS: packed relocations are 70 kB less to read.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
}
