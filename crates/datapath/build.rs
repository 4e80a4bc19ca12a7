//! Compile `bpf/malha.c` with clang into the object that the library embeds.
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bpf");
    let object =
        PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("malha.o");
    println!("cargo::rerun-if-changed={}", source.display());
    println!("cargo::rerun-if-env-changed=MALHA_CLANG");
    let clang = std::env::var("MALHA_CLANG").unwrap_or_else(|_| "clang".to_owned());
    let mut compile = Command::new(&clang);
    compile.args([
        "-target", "bpf", "-mcpu=v3", "-g", "-O2", "-Wall", "-Werror",
    ]);
    // Paths in the debug information would make the object differ from checkout to checkout.
    compile.arg(format!("-ffile-prefix-map={}=bpf", source.display()));
    // Debian keeps <asm/types.h> apart for each architecture; the bpf target knows none of them.
    let arch = std::env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    compile.arg(format!("-I/usr/include/{arch}-linux-gnu"));
    compile
        .arg("-c")
        .arg(source.join("malha.c"))
        .arg("-o")
        .arg(&object);
    match compile.status() {
        Ok(status) if status.success() => {}
        Ok(status) => panic!(
            "{clang} could not compile bpf/malha.c ({status}); the kernel headers come with linux-libc-dev"
        ),
        Err(error) => panic!(
            "cannot run {clang}: {error}; install it (apt-get install clang) or set MALHA_CLANG"
        ),
    }
    // Only BTF is wanted of the debug information. Without the tool the object is larger, nothing else.
    let _ = Command::new("llvm-strip").arg("-g").arg(&object).status();
}
