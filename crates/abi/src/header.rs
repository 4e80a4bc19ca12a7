//! The C header `bpf/abi.h`, rendered from the declarations.
use core::fmt::{Result, Write};

use crate::{
    ABI_VERSION, Field, PAIR_WORDS, REASONS, STRUCTS, Struct, direction, endpoint_flags, hook,
    identity, reason_slots, route_kind, verdict,
};

/// Write the whole header.
///
/// # Errors
/// Only what `out` itself returns.
pub fn render(out: &mut impl Write) -> Result {
    out.write_str(
        "/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */\n\
         /* Generated from crates/abi: `cargo run -p malha-abi --example header > bpf/abi.h`. Do not edit. */\n\
         #pragma once\n#include <linux/types.h>\n\n",
    )?;
    writeln!(out, "#define ABI_VERSION {ABI_VERSION}\n")?;
    writeln!(out, "#define PAIR_WORDS {PAIR_WORDS}\n")?;
    constants(out)?;
    out.write_str(
        "\n/* An IP address in network order; IPv4 mapped into ::ffff:0:0/96. */\n\
         struct malha_address {\n\t__u32 words[4];\n};\n",
    )?;
    STRUCTS.iter().try_for_each(|item| structure(out, item))
}

fn constants(out: &mut impl Write) -> Result {
    writeln!(out, "#define ENDPOINT_OPEN {}\n", endpoint_flags::OPEN)?;
    for (name, value) in [
        ("ROUTE_OVERLAY", route_kind::OVERLAY),
        ("ROUTE_DIRECT", route_kind::DIRECT),
        ("ROUTE_LOCAL", route_kind::LOCAL),
        ("ROUTE_BLACKHOLE", route_kind::BLACKHOLE),
        ("HOOK_FROM_POD", hook::FROM_POD),
        ("HOOK_TO_POD", hook::TO_POD),
        ("HOOK_FROM_OVERLAY", hook::FROM_OVERLAY),
        ("HOOK_TO_OVERLAY", hook::TO_OVERLAY),
        ("HOOK_FROM_UPLINK", hook::FROM_UPLINK),
        ("HOOK_TO_UPLINK", hook::TO_UPLINK),
        ("VERDICT_ALLOW", verdict::ALLOW),
        ("VERDICT_LOG", verdict::LOG),
        ("VERDICT_STAGED", verdict::STAGED),
        ("DIRECTION_OUT", direction::OUT),
        ("DIRECTION_IN", direction::IN),
    ] {
        writeln!(out, "#define {name} {value}")?;
    }
    writeln!(out, "#define IDENTITY_NONE {}", identity::NONE)?;
    writeln!(out, "#define IDENTITY_SERVICE {:#x}\n", identity::SERVICE)?;
    for reason in REASONS {
        writeln!(
            out,
            "#define REASON_{} {} /* {} */",
            reason.name(),
            *reason as u32,
            reason.sentence()
        )?;
    }
    let events = REASONS.iter().filter(|reason| reason.is_event());
    let mask = events.fold(0u64, |mask, reason| mask | 1 << *reason as u32);
    writeln!(out, "#define REASON_SLOTS {}", reason_slots())?;
    writeln!(
        out,
        "/* Bit n: reason n is worth an event. */\n#define REASON_EVENTS {mask:#x}ULL"
    )
}

fn structure(out: &mut impl Write, item: &Struct) -> Result {
    out.write_char('\n')?;
    comment(out, "", item.doc)?;
    writeln!(out, "struct {} {{", item.c_name)?;
    for field in item.fields {
        comment(out, "\t", field.doc)?;
        member(out, field)?;
    }
    writeln!(
        out,
        "}};\n_Static_assert(sizeof(struct {}) == {}, \"layout\");",
        item.c_name, item.size
    )
}

fn member(out: &mut impl Write, field: &Field) -> Result {
    write!(out, "\t{} {}", field.c_type, field.name)?;
    if field.count > 0 {
        write!(out, "[{}]", field.count)?;
    }
    out.write_str(";\n")
}

fn comment(out: &mut impl Write, indent: &str, lines: &[&str]) -> Result {
    write!(out, "{indent}/*")?;
    lines.iter().try_for_each(|line| out.write_str(line))?;
    out.write_str(" */\n")
}
