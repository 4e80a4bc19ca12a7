//! Tokens, their Secrets, the signature over cluster-info, and durations.

use std::{collections::BTreeMap, collections::BTreeSet, collections::HashMap};

use malha_bootstrap::{
    duration::GoDuration,
    jws,
    token::{
        BootstrapToken, Expiry, FieldError, SECRET_LENGTH, Token, TokenId, Usage,
        is_bootstrap_group, rfc3339,
    },
};
use proptest::prelude::*;

const TEXT: &str = "abcdef.0123456789abcdef";

fn token() -> Token {
    TEXT.parse().unwrap()
}

fn now() -> jiff::Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

fn read(name: &str, data: &BTreeMap<String, String>) -> Result<BootstrapToken, FieldError> {
    BootstrapToken::from_data(name, |key| data.get(key).map(|v| v.as_bytes()))
}

#[test]
fn errors_name_the_fault_and_never_the_text() {
    for (text, fault) in [
        ("badtoken", "it has no dot"),
        (
            "xyz.9876543210abcdef",
            "the part before the dot has 3 characters",
        ),
        (
            "zzzzzz.9876543210abcde",
            "the part after the dot has 15 characters",
        ),
        (
            "zzzzzz.9876543210ABCDEF",
            "the part after the dot has a character other than a-z and 0-9",
        ),
        (
            "zzzzzz.9876543210abcdef.",
            "the part after the dot has 17 characters",
        ),
    ] {
        let error = text.parse::<Token>().unwrap_err().to_string();
        assert!(error.ends_with(fault), "{error}");
        assert!(!error.contains(text), "{error}");
    }
}

#[test]
fn debug_hides_the_secret() {
    let full = BootstrapToken::new(token(), Expiry::Never);
    let shown = format!("{full:?} {:?}", token());
    assert!(
        shown.contains("abcdef") && !shown.contains("0123456789"),
        "{shown}"
    );
}

#[test]
fn generated_tokens_parse_and_use_every_character_alike() {
    let mut counts: HashMap<char, u32> = HashMap::new();
    for _ in 0..4000 {
        let token = Token::generate();
        assert_eq!(token.expose().parse::<Token>().unwrap(), token);
        token
            .secret
            .expose()
            .chars()
            .for_each(|c| *counts.entry(c).or_default() += 1);
    }
    let expected = f64::from(4000 * SECRET_LENGTH as u32) / 36.0;
    assert_eq!(counts.len(), 36);
    // 1778 expected, standard deviation 42; without the rejection 0-3 would come 1.14 times as often.
    assert!(
        counts
            .values()
            .all(|n| (f64::from(*n) / expected - 1.0).abs() < 0.12),
        "{counts:?}"
    );
}

#[test]
fn a_secret_holds_everything_and_reads_back() {
    let mut full = BootstrapToken::new(token(), Expiry::after(now(), 86400));
    full.description = Some("for the lab".into());
    let data = full.to_data();
    let expected: BTreeMap<String, String> = [
        (
            "auth-extra-groups",
            "system:bootstrappers:kubeadm:default-node-token",
        ),
        ("description", "for the lab"),
        ("expiration", "2026-11-24T12:00:00Z"),
        ("token-id", "abcdef"),
        ("token-secret", "0123456789abcdef"),
        ("usage-bootstrap-authentication", "true"),
        ("usage-bootstrap-signing", "true"),
    ]
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .into();
    assert_eq!(data, expected);
    assert_eq!(read("bootstrap-token-abcdef", &data).unwrap(), full);
    assert!(full.allows(Usage::Signing, now()));
    assert!(!full.allows(Usage::Signing, "2026-11-24T12:00:00Z".parse().unwrap()));
}

#[test]
fn doubtful_fields_take_rights_away() {
    let mut data = BootstrapToken::new(token(), Expiry::Never).to_data();
    assert_eq!(data.get("expiration"), None);
    data.insert("expiration".into(), "tomorrow".into());
    data.insert("usage-bootstrap-signing".into(), "True".into());
    let doubtful = read("bootstrap-token-abcdef", &data).unwrap();
    assert_eq!(doubtful.expiry, Expiry::Unreadable("tomorrow".into()));
    assert!(!doubtful.allows(Usage::Authentication, now()));
    assert_eq!(doubtful.usages, BTreeSet::from([Usage::Authentication]));
    assert!(read("bootstrap-token-zzzzzz", &data).is_err());
    assert!(read("some-secret", &data).is_err());
    data.insert("auth-extra-groups".into(), "system:masters".into());
    assert_eq!(
        read("bootstrap-token-abcdef", &data).unwrap_err(),
        FieldError::Group("system:masters".into())
    );
}

#[test]
fn groups_are_fenced() {
    assert!(is_bootstrap_group("system:bootstrappers:a"));
    assert!(is_bootstrap_group(malha_bootstrap::token::DEFAULT_GROUP));
    let long = format!("system:bootstrappers:{}", "a".repeat(256));
    assert!(is_bootstrap_group(&long) && !is_bootstrap_group(&format!("{long}a")));
    for bad in [
        "system:masters",
        "system:bootstrappers:",
        "system:bootstrappers:x-",
        "system:bootstrappers:A",
        "",
    ] {
        assert!(!is_bootstrap_group(bad), "{bad}");
    }
    let mut only_signing = BootstrapToken::new(token(), Expiry::Never);
    only_signing.usages = BTreeSet::from([Usage::Signing]);
    assert_eq!(
        only_signing.validate(),
        Err(FieldError::GroupsWithoutAuthentication)
    );
}

/// The expected text was computed with Python's hmac and base64 modules.
#[test]
fn jws_is_bit_for_bit_what_kubeadm_recomputes() {
    let payload = "apiVersion: v1\nclusters:\n- cluster:\n    server: https://10.0.0.1:6443\n  name: \"\"\nkind: Config\né";
    let expected = include_str!("fixtures/jws.txt").trim_end();
    assert_eq!(jws::sign_detached(payload.as_bytes(), &token()), expected);
    jws::verify_detached(expected, payload.as_bytes(), &token()).unwrap();
    assert!(jws::verify_detached(expected, b"other", &token()).is_err());
    let other: Token = "abcdef.0123456789abcdeg".parse().unwrap();
    assert!(jws::verify_detached(expected, payload.as_bytes(), &other).is_err());
    assert_eq!(jws::config_map_key(&token().id), "jws-kubeconfig-abcdef");
}

#[test]
fn durations_are_gos() {
    for (text, seconds, shown) in [
        ("24h", 86400, "24h0m0s"),
        ("24h0m0s", 86400, "24h0m0s"),
        ("0", 0, "0s"),
        ("1h30m", 5400, "1h30m0s"),
        ("1.5h", 5400, "1h30m0s"),
        ("90s", 90, "1m30s"),
        ("1500ms", 1, "1s"),
        ("-5m", -300, "-5m0s"),
    ] {
        let duration: GoDuration = text.parse().unwrap();
        assert_eq!(
            (duration.as_seconds(), duration.to_string().as_str()),
            (seconds, shown),
            "{text}"
        );
    }
    for bad in ["", "-", "24", "h", "1d", "1h 30m", "300000000h", "1..5h"] {
        assert!(bad.parse::<GoDuration>().is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn parsing_never_panics_and_accepts_only_the_form(text in ".{0,30}") {
        let form = |t: &str, n: usize| t.len() == n && t.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let good = text.split_once('.').is_some_and(|(id, secret)| form(id, 6) && form(secret, 16));
        prop_assert_eq!(text.parse::<Token>().is_ok(), good);
        prop_assert_eq!(text.parse::<TokenId>().is_ok(), form(&text, 6));
        let _ = text.parse::<GoDuration>();
        let _ = is_bootstrap_group(&text);
        let _ = text.parse::<malha_bootstrap::pin::CaPin>();
    }

    #[test]
    fn well_formed_tokens_round_trip(text in "[a-z0-9]{6}\\.[a-z0-9]{16}") {
        let token: Token = text.parse().unwrap();
        prop_assert_eq!(token.expose(), text);
    }

    #[test]
    fn times_have_whole_seconds(second in 0i64..4_000_000_000, nanosecond in 0i32..999_999_999) {
        let text = rfc3339(jiff::Timestamp::new(second, nanosecond).unwrap());
        prop_assert_eq!(text.len(), "2026-11-24T12:00:00Z".len());
        prop_assert_eq!(text.parse::<jiff::Timestamp>().unwrap().as_second(), second);
    }
}
