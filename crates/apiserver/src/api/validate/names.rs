//! Names, labels and other texts with a grammar: each check returns what is wrong, in Kubernetes' words.

/// Longest DNS-1123 subdomain.
const SUBDOMAIN: usize = 253;
/// Longest DNS label, label value, label name.
const LABEL: usize = 63;

const LABEL_TEXT: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', \
    and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', \
    regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN_TEXT: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
    '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for \
    validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_1035_TEXT: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start \
    with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex \
    used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED_TEXT: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and \
    end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE_TEXT: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
    '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex \
    used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const KEY_TEXT: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. \
    'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

fn too_long(limit: usize) -> String {
    format!("must be no more than {limit} characters")
}

fn lower(c: u8) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

/// Letters of `allowed`, an `end` letter at both ends, at least one.
fn shaped(text: &str, end: fn(u8) -> bool, allowed: fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => end(*first) && end(*last) && bytes.iter().all(|c| allowed(*c)),
        _ => false,
    }
}

fn is_dns_label(text: &str) -> bool {
    shaped(text, lower, |c| lower(c) || c == b'-')
}

fn is_qualified(text: &str) -> bool {
    shaped(
        text,
        |c| c.is_ascii_alphanumeric(),
        |c| c.is_ascii_alphanumeric() || b"-_.".contains(&c),
    )
}

fn found(checks: [(bool, String); 2]) -> Vec<String> {
    let bad = checks.into_iter().filter(|(bad, _)| *bad);
    bad.map(|(_, why)| why).collect()
}

/// RFC 1123 label: names of namespaces, containers, volumes.
pub fn dns_label(text: &str) -> Vec<String> {
    found([
        (text.len() > LABEL, too_long(LABEL)),
        (!is_dns_label(text), LABEL_TEXT.to_owned()),
    ])
}

/// RFC 1123 subdomain: names of most objects.
pub fn dns_subdomain(text: &str) -> Vec<String> {
    found([
        (text.len() > SUBDOMAIN, too_long(SUBDOMAIN)),
        (
            !text.split('.').all(is_dns_label),
            SUBDOMAIN_TEXT.to_owned(),
        ),
    ])
}

/// RFC 6335 service name: names of ports.
pub fn port_name(text: &str) -> Vec<String> {
    const MAX: usize = 15;
    let allowed = |c: u8| lower(c) || c == b'-';
    let mut wrong = Vec::new();
    if text.len() > MAX {
        wrong.push(too_long(MAX));
    }
    if !text.bytes().all(allowed) {
        wrong.push(
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned(),
        );
    }
    if !text.bytes().any(|c| c.is_ascii_lowercase()) {
        wrong.push("must contain at least one letter (a-z)".to_owned());
    }
    if text.contains("--") {
        wrong.push("must not contain consecutive hyphens".to_owned());
    }
    if text.starts_with('-') || text.ends_with('-') {
        wrong.push("must not begin or end with a hyphen".to_owned());
    }
    wrong
}

/// RFC 1035 label: names of services.
pub fn dns_1035_label(text: &str) -> Vec<String> {
    let starts = text.as_bytes().first().is_some_and(u8::is_ascii_lowercase);
    found([
        (text.len() > LABEL, too_long(LABEL)),
        (!starts || !is_dns_label(text), LABEL_1035_TEXT.to_owned()),
    ])
}

/// What can stand as one part of a path: names of RBAC objects.
pub fn path_segment(text: &str) -> Vec<String> {
    if text == "." || text == ".." {
        return vec![format!("may not be '{text}'")];
    }
    let bad = ['/', '%'].into_iter().filter(|c| text.contains(*c));
    bad.map(|c| format!("may not contain '{c}'")).collect()
}

/// `[prefix/]name`: keys of labels and annotations, condition types, finalizers.
pub fn qualified_name(text: &str) -> Vec<String> {
    let (prefix, name) = match text.split_once('/') {
        None => (None, text),
        Some((_, name)) if name.contains('/') => {
            return vec![
                "a qualified name must consist of alphanumeric characters, '-', '_' or '.', with an optional DNS \
                 subdomain prefix and '/' (e.g. 'example.com/MyName')"
                    .to_owned(),
            ];
        }
        Some((prefix, name)) => (Some(prefix), name),
    };
    let mut wrong: Vec<String> = match prefix {
        None => Vec::new(),
        Some("") => vec!["prefix part must be non-empty".to_owned()],
        Some(prefix) => dns_subdomain(prefix)
            .into_iter()
            .map(|why| format!("prefix part {why}"))
            .collect(),
    };
    if name.is_empty() {
        wrong.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL {
        wrong.push(format!("name part {}", too_long(LABEL)));
    }
    if !is_qualified(name) {
        wrong.push(QUALIFIED_TEXT.to_owned());
    }
    wrong
}

/// A label's value.
pub fn label_value(text: &str) -> Vec<String> {
    found([
        (text.len() > LABEL, too_long(LABEL)),
        (
            !text.is_empty() && !is_qualified(text),
            VALUE_TEXT.to_owned(),
        ),
    ])
}

/// A key of a ConfigMap or Secret, which may become a file's name.
pub fn config_key(text: &str) -> Vec<String> {
    if text == "." || text == ".." {
        return vec![format!("must not be '{text}'")];
    }
    if text.starts_with("..") {
        return vec!["must not start with '..'".to_owned()];
    }
    let allowed = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
    let bad = text.is_empty() || !text.bytes().all(allowed);
    found([
        (text.len() > SUBDOMAIN, too_long(SUBDOMAIN)),
        (bad, KEY_TEXT.to_owned()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "a-b", "a.b-c.d", "0"] {
            assert!(dns_subdomain(good).is_empty(), "{good}");
        }
        for bad in ["", "A", "-a", "a-", "a..b", ".a", "Bad_Name"] {
            assert_eq!(dns_subdomain(bad), [SUBDOMAIN_TEXT], "{bad}");
        }
        assert_eq!(dns_label("a.b"), [LABEL_TEXT]);
        assert_eq!(dns_1035_label("1a"), [LABEL_1035_TEXT]);
        assert_eq!(
            dns_label(&"a".repeat(64)),
            ["must be no more than 63 characters"]
        );
        assert!(path_segment("system:node:x").is_empty());
        assert_eq!(path_segment("a/b"), ["may not contain '/'"]);
    }

    #[test]
    fn labels() {
        for good in ["a", "a.b/c", "kubernetes.io/metadata.name", "A_b.c-d"] {
            assert!(qualified_name(good).is_empty(), "{good}");
        }
        for bad in ["", "/a", "a/", "a/b/c", "A.B/c", "a b", "-a"] {
            assert!(!qualified_name(bad).is_empty(), "{bad}");
        }
        for good in ["", "x", "a_B.c-9"] {
            assert!(label_value(good).is_empty(), "{good}");
        }
        assert_eq!(label_value("a b"), [VALUE_TEXT]);
        assert!(config_key("kubelet.conf").is_empty());
        assert_eq!(config_key("a/b"), [KEY_TEXT]);
    }
}
