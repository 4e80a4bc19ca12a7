//! Kubernetes' quantities (`100m`, `1.5`, `128Mi`, `2e3`) as whole numbers of thousandths.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Thousandths of a resource's unit, by the resource's name.
pub(super) type Amounts = BTreeMap<String, i128>;

/// A quantity in thousandths, rounded up; none if it is malformed.
pub(super) fn milli(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '+' | '-'));
    let (number, suffix) = text.split_at(end.unwrap_or(text.len()));
    let (numerator, denominator) = scale(suffix)?;
    let negative = number.starts_with('-');
    let number = number.trim_start_matches(['+', '-']);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.len() > 18 {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let divisor = 10i128
        .checked_pow(u32::try_from(fraction.len()).ok()?)?
        .checked_mul(denominator)?;
    let dividend = digits.checked_mul(numerator)?.checked_mul(1000)?;
    let milli = dividend.checked_add(divisor - 1)? / divisor;
    Some(if negative { -milli } else { milli })
}

/// The factor of a suffix as a fraction.
fn scale(suffix: &str) -> Option<(i128, i128)> {
    let binary = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let decimal = ["k", "M", "G", "T", "P", "E"];
    let small = ["m", "u", "n"];
    let position = |list: &[&str]| list.iter().position(|s| *s == suffix);
    let power = |base: i128, index: usize| base.checked_pow(u32::try_from(index + 1).ok()?);
    if suffix.is_empty() {
        return Some((1, 1));
    }
    if let Some(index) = position(&binary) {
        return Some((power(1024, index)?, 1));
    }
    if let Some(index) = position(&decimal) {
        return Some((power(1000, index)?, 1));
    }
    if let Some(index) = position(&small) {
        return Some((1, power(1000, index)?));
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    let factor = 10i128.checked_pow(exponent.unsigned_abs())?;
    Some(if exponent < 0 {
        (1, factor)
    } else {
        (factor, 1)
    })
}

/// The amounts of a resource list; malformed ones count as nothing.
pub(super) fn amounts(list: Option<&BTreeMap<String, Quantity>>) -> Amounts {
    let list = list.into_iter().flatten();
    list.map(|(name, quantity)| (name.clone(), milli(&quantity.0).unwrap_or(0)))
        .collect()
}

/// Adds `more` to `sum`.
pub(super) fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        *sum.entry(name.clone()).or_default() += amount;
    }
}

/// Raises `sum` to at least `other`, resource by resource.
pub(super) fn raise(sum: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let entry = sum.entry(name.clone()).or_default();
        *entry = (*entry).max(*amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read() {
        let cases = [
            ("1", Some(1000)),
            ("100m", Some(100)),
            ("1.5", Some(1500)),
            (".5", Some(500)),
            ("0.0001", Some(1)),
            ("128Mi", Some(128 * 1024 * 1024 * 1000)),
            ("1.5Gi", Some(1_610_612_736_000)),
            ("2k", Some(2_000_000)),
            ("1e3", Some(1_000_000)),
            ("1E-3", Some(1)),
            ("5E", Some(5_000_000_000_000_000_000_000)),
            ("100u", Some(1)),
            ("-1", Some(-1000)),
            ("", None),
            ("x", None),
            ("1Zi", None),
            ("1e999", None),
            ("1e", None),
        ];
        for (text, expected) in cases {
            assert_eq!(milli(text), expected, "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_survived(text in "\\PC{0,40}") {
            let _ = milli(&text);
        }
    }
}
