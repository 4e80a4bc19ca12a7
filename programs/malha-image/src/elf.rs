//! What a program says of itself: whether it is static, and for which processor.

use anyhow::{Result, bail, ensure};

use crate::layer::Program;

const INTERPRETER: u32 = 3;

/// The architecture of all programs, as images name it.
///
/// # Errors
/// When one is no 64-bit ELF program, needs libraries (an image that holds nothing else could not start it), or differs
/// from the others.
pub fn one_architecture(programs: &[Program]) -> Result<&'static str> {
    let mut found = None;
    for program in programs {
        let architecture = architecture(program)?;
        let first = *found.get_or_insert(architecture);
        ensure!(
            first == architecture,
            "{} is for {architecture}, another program for {first}: build both for one target",
            program.name
        );
    }
    found.ok_or_else(|| anyhow::anyhow!("no programs to pack"))
}

fn architecture(program: &Program) -> Result<&'static str> {
    let (name, bytes) = (program.name, program.contents.as_slice());
    let Some(machine) = half(bytes, 18).filter(|_| bytes.starts_with(b"\x7fELF\x02\x01")) else {
        bail!("{name} is no 64-bit ELF program");
    };
    ensure!(
        !has_interpreter(bytes),
        "{name} is linked dynamically, and there are no libraries in the image: build it with +crt-static \
         (.cargo/config.toml does, unless RUSTFLAGS is set)"
    );
    match machine {
        62 => Ok("amd64"),
        183 => Ok("arm64"),
        other => bail!("{name} is for a processor with ELF number {other}, not for amd64 or arm64"),
    }
}

fn has_interpreter(bytes: &[u8]) -> bool {
    let (Some(table), Some(size), Some(count)) =
        (long(bytes, 32), half(bytes, 54), half(bytes, 56))
    else {
        return false;
    };
    (0..usize::from(count))
        .filter_map(|index| table.checked_add(index * usize::from(size)))
        .any(|header| word(bytes, header) == Some(INTERPRETER))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    field(bytes, at).map(u16::from_le_bytes)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    field(bytes, at).map(u32::from_le_bytes)
}

fn long(bytes: &[u8], at: usize) -> Option<usize> {
    field(bytes, at)
        .map(u64::from_le_bytes)
        .and_then(|value| value.try_into().ok())
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header and one program header.
    fn program(machine: u16, kind: u32) -> Program {
        let mut contents = vec![0; 120];
        contents[..6].copy_from_slice(b"\x7fELF\x02\x01");
        contents[18..20].copy_from_slice(&machine.to_le_bytes());
        contents[32] = 64;
        contents[54] = 56;
        contents[56] = 1;
        contents[64..68].copy_from_slice(&kind.to_le_bytes());
        Program {
            name: "malha",
            contents,
        }
    }

    #[test]
    fn static_programs_of_one_kind_are_taken() {
        assert_eq!(one_architecture(&[program(62, 1)]).unwrap(), "amd64");
        assert_eq!(
            one_architecture(&[program(183, 1), program(183, 2)]).unwrap(),
            "arm64"
        );
    }

    #[test]
    fn everything_else_is_refused() {
        let text = |programs: &[Program]| one_architecture(programs).unwrap_err().to_string();
        assert!(text(&[program(62, INTERPRETER)]).contains("dynamically"));
        assert!(text(&[program(62, 1), program(183, 1)]).contains("one target"));
        assert!(text(&[program(40, 1)]).contains("ELF number 40"));
        for length in [0, 4, 17] {
            let mut short = program(62, 1);
            short.contents.truncate(length);
            assert!(text(&[short]).contains("no 64-bit ELF"), "{length} bytes");
        }
        let mut far = program(62, 1);
        far.contents[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(
            one_architecture(&[far]).is_ok(),
            "a table out of the file is not read"
        );
    }
}
