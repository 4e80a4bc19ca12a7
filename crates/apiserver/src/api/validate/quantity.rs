//! Quantities: `100m`, `1Gi`, `2e3`.

use serde_json::Value;

/// Kubernetes' text for what is none.
pub const TEXT: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

/// In billionths; none for what is no quantity. What is smaller is rounded up, what is too large saturates.
pub fn parse(value: &Value) -> Option<i128> {
    match value {
        Value::String(text) => parse_text(text),
        Value::Number(number) => parse_text(&number.to_string()),
        _ => None,
    }
}

fn parse_text(text: &str) -> Option<i128> {
    let (negative, text) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (digits, suffix) = text.split_at(end.unwrap_or(text.len()));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.len() + fraction.len() == 0 || fraction.contains('.') {
        return None;
    }
    let scale = scale(suffix)?;
    let value = decimal(whole, fraction, scale);
    Some(if negative { -value } else { value })
}

/// A factor as `numerator * 2^binary * 10^decimal`.
#[derive(Clone, Copy)]
struct Scale {
    binary: u32,
    decimal: i32,
}

fn scale(suffix: &str) -> Option<Scale> {
    let decimal = |decimal| Some(Scale { binary: 0, decimal });
    let binary = |binary| Some(Scale { binary, decimal: 0 });
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?;
            decimal(exponent.parse().ok()?)
        }
    }
}

fn decimal(whole: &str, fraction: &str, scale: Scale) -> i128 {
    // The digits as one whole number, then moved by so many places to billionths.
    let digits = whole.bytes().chain(fraction.bytes());
    let value = digits.fold(0i128, |value, digit| {
        value
            .saturating_mul(10)
            .saturating_add(i128::from(digit - b'0'))
    });
    let value = value.saturating_mul(1i128 << scale.binary);
    let places = i32::try_from(fraction.len()).unwrap_or(i32::MAX);
    let shift = scale.decimal.saturating_add(9).saturating_sub(places);
    let factor = 10i128.checked_pow(shift.unsigned_abs());
    match (shift >= 0, factor) {
        (true, Some(factor)) => value.saturating_mul(factor),
        (true, None) if value == 0 => 0,
        (true, None) => i128::MAX,
        (false, Some(factor)) => value / factor + i128::from(value % factor != 0),
        (false, None) => i128::from(value != 0),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const ONE: i128 = 1_000_000_000;

    #[test]
    fn quantities() {
        for (value, expected) in [
            (json!("1"), Some(ONE)),
            (json!(2), Some(2 * ONE)),
            (json!(0.5), Some(ONE / 2)),
            (json!("100m"), Some(ONE / 10)),
            (json!("1.5Gi"), Some(3 * 512 * 1024 * 1024 * ONE)),
            (json!("1e3"), Some(1000 * ONE)),
            (json!("1E"), Some(1_000_000_000_000_000_000 * ONE)),
            (json!("-1k"), Some(-1000 * ONE)),
            (json!("1n"), Some(1)),
            (json!("0.1n"), Some(1)),
            (json!("."), None),
            (json!(""), None),
            (json!("1.2.3"), None),
            (json!("1 Gi"), None),
            (json!("1KiB"), None),
            (json!("ten"), None),
            (json!(null), None),
        ] {
            assert_eq!(parse(&value), expected, "{value}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_judged_without_a_panic(text in "\\PC*") {
            let _ = parse(&Value::from(text));
        }

        #[test]
        fn milli_is_a_thousandth(n in 0u32..1_000_000) {
            prop_assert_eq!(parse(&json!(format!("{n}m"))).map(|v| v * 1000), parse(&json!(n)));
        }

        #[test]
        fn exponents_of_any_size_are_judged(n in any::<u64>(), e in any::<i32>()) {
            let text = format!("{n}e{e}");
            prop_assert!(parse(&json!(text)).is_some());
        }
    }
}
