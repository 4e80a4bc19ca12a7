//! Quantities, limits and the quality of service that follows from them.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, PodSpec},
    apimachinery::pkg::api::resource::Quantity,
};

use crate::runtime::Limits;

/// A quantity in thousandths; `None` when it cannot be understood or does not fit.
pub fn milli(quantity: &Quantity) -> Option<u128> {
    let text = quantity.0.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.' && c != '+')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    // Go writes an exponent as e3 or E3; a lone E is exa.
    let (numerator, denominator): (u128, u128) = match suffix {
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "" => (1, 1),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let power = exponent.strip_prefix(['e', 'E'])?.parse::<i32>().ok()?;
            let factor = 10u128.checked_pow(power.unsigned_abs())?;
            if power < 0 { (1, factor) } else { (factor, 1) }
        }
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| {
        if text.is_empty() {
            Some(0)
        } else {
            text.parse::<u128>().ok()
        }
    };
    let scale = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let value = digits(whole.trim_start_matches('+'))?
        .checked_mul(scale)?
        .checked_add(digits(fraction)?)?;
    let scaled = value.checked_mul(numerator)?.checked_mul(1000)?;
    Some(scaled.div_ceil(scale.checked_mul(denominator)?))
}

/// Whole units, rounded up.
pub fn units(quantity: &Quantity) -> Option<u64> {
    milli(quantity).and_then(|m| u64::try_from(m.div_ceil(1000)).ok())
}

type Amounts = BTreeMap<String, Quantity>;

fn amounts(container: &Container) -> (Amounts, Amounts) {
    let resources = container.resources.clone().unwrap_or_default();
    let limits = resources.limits.unwrap_or_default();
    let mut requests = resources.requests.unwrap_or_default();
    for (name, limit) in &limits {
        requests
            .entry(name.clone())
            .or_insert_with(|| limit.clone());
    }
    (limits, requests)
}

/// What a container may use, by its specification.
pub fn limits(container: &Container) -> Limits {
    let (limits, requests) = amounts(container);
    let cpu = |amounts: &Amounts| {
        let thousandths = amounts.get("cpu").and_then(milli)?;
        u64::try_from(thousandths).ok().filter(|m| *m > 0)
    };
    Limits {
        memory: limits
            .get("memory")
            .and_then(units)
            .filter(|bytes| *bytes > 0),
        cpu: cpu(&limits),
        cpu_request: cpu(&requests),
        pids: None,
    }
}

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub fn qos_class(spec: &PodSpec) -> &'static str {
    const COUNTED: [&str; 2] = ["cpu", "memory"];
    let containers = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers);
    let (mut any, mut guaranteed) = (false, true);
    for container in containers {
        let (limits, requests) = amounts(container);
        for name in COUNTED {
            let of = |amounts: &Amounts| amounts.get(name).and_then(milli).filter(|m| *m > 0);
            let (limit, request) = (of(&limits), of(&requests));
            any |= limit.is_some() || request.is_some();
            guaranteed &= limit.is_some() && limit == request;
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// Who goes first when memory runs out, as a kubelet scores it. `capacity` is the machine's memory in bytes.
pub fn oom_score(class: &str, request: Option<u64>, capacity: u64) -> i32 {
    match class {
        "Guaranteed" => -997,
        "BestEffort" => 1000,
        _ => {
            let request = u128::from(request.unwrap_or(0));
            let share = 1000 * request / u128::from(capacity.max(1));
            let score = 1000 - i32::try_from(share).unwrap_or(1000);
            score.clamp(3, 999)
        }
    }
}

/// The memory a container asks for, in bytes.
pub fn memory_request(container: &Container) -> Option<u64> {
    amounts(container).1.get("memory").and_then(units)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn quantities_are_go_s() {
        let of = |text: &str| milli(&Quantity(text.to_owned()));
        let table = [
            ("0", Some(0)),
            ("100m", Some(100)),
            ("0.1", Some(100)),
            ("1.5", Some(1500)),
            (".5", Some(500)),
            ("1Ki", Some(1_024_000)),
            ("128Mi", Some(134_217_728_000)),
            ("1e3", Some(1_000_000)),
            ("1E", Some(1_000_000_000_000_000_000_000)),
            ("1e-3", Some(1)),
            ("5u", Some(1)),
            ("abc", None),
            ("1Xi", None),
            ("1.2.3", None),
        ];
        for (text, expected) in table {
            assert_eq!(of(text), expected, "{text}");
        }
        assert_eq!(units(&Quantity("1.5".into())), Some(2));
    }

    fn spec(resources: &[Value]) -> PodSpec {
        let containers: Vec<Value> = resources
            .iter()
            .map(|r| json!({"name": "c", "resources": r}))
            .collect();
        serde_json::from_value(json!({"containers": containers})).unwrap()
    }

    #[test]
    fn quality_of_service() {
        let full = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
        let table = [
            (vec![json!({})], "BestEffort"),
            (vec![full.clone()], "Guaranteed"),
            (vec![full.clone(), json!({})], "Burstable"),
            (vec![json!({"requests": {"cpu": "1m"}})], "Burstable"),
            (
                vec![json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "0.5"}})],
                "Burstable",
            ),
            (
                vec![json!({"requests": {"example.com/gpu": "1"}})],
                "BestEffort",
            ),
        ];
        for (resources, class) in table {
            assert_eq!(qos_class(&spec(&resources)), class, "{resources:?}");
        }
        let limits = limits(&spec(&[full]).containers[0]);
        assert_eq!(
            limits,
            Limits {
                memory: Some(1 << 30),
                cpu: Some(1000),
                cpu_request: Some(1000),
                pids: None
            }
        );
    }

    #[test]
    fn oom_scores() {
        let score = |class, request| oom_score(class, request, 1000);
        assert_eq!(score("Guaranteed", None), -997);
        assert_eq!(score("BestEffort", None), 1000);
        assert_eq!(score("Burstable", Some(400)), 600);
        assert_eq!(score("Burstable", Some(2000)), 3);
        assert_eq!(score("Burstable", None), 999);
    }
}
