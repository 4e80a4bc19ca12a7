//! What `malha token list` prints, in kubeadm's forms.

use std::fmt::Write;

use anyhow::{Context, Result};
use jiff::Timestamp;
use malha_bootstrap::token::{BootstrapToken, Expiry, Usage, rfc3339};
use serde::Serialize;

/// kubeadm 1.31's version of its output.
const VERSION: &str = "output.kubeadm.k8s.io/v1alpha3";
const HEADINGS: [&str; 6] = [
    "TOKEN",
    "TTL",
    "EXPIRES",
    "USAGES",
    "DESCRIPTION",
    "EXTRA GROUPS",
];
const NONE: &str = "<none>";

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// A table, for people.
    #[default]
    Text,
    /// One JSON object after the other.
    Json,
    /// YAML documents.
    Yaml,
}

/// The table; nothing when there is no token.
pub fn table(tokens: &[BootstrapToken], now: Timestamp) -> String {
    if tokens.is_empty() {
        return String::new();
    }
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(tokens.iter().map(|token| row(token, now)));
    let widths: [usize; 6] = std::array::from_fn(|column| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or_default()
            + 3
    });
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            // Writing to a String cannot fail.
            let _ = write!(line, "{cell:width$}");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Every token as an object of its own.
///
/// # Errors
/// When the writer fails.
pub fn write_objects(tokens: &[BootstrapToken], format: Format) -> Result<String> {
    let mut text = String::new();
    for token in tokens {
        let object = Object::new(token);
        match format {
            Format::Yaml => {
                let yaml = serde_saphyr::to_string(&object).context("cannot write YAML")?;
                text.push_str(&format!("---\n{yaml}"));
            }
            Format::Text | Format::Json => {
                let json = serde_json::to_string_pretty(&object).context("cannot write JSON")?;
                text.push_str(&json);
                text.push('\n');
            }
        }
    }
    Ok(text)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Object {
    kind: &'static str,
    api_version: &'static str,
    token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    usages: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    groups: Vec<String>,
}

impl Object {
    fn new(token: &BootstrapToken) -> Self {
        Self {
            kind: "BootstrapToken",
            api_version: VERSION,
            token: token.token.expose(),
            description: token.description.clone(),
            expires: match &token.expiry {
                Expiry::Never => None,
                Expiry::At(at) => Some(rfc3339(*at)),
                Expiry::Unreadable(text) => Some(text.clone()),
            },
            usages: token.usages.iter().map(|usage| usage.as_str()).collect(),
            groups: token.groups.clone(),
        }
    }
}

fn row(token: &BootstrapToken, now: Timestamp) -> [String; 6] {
    let or_none = |text: String| {
        if text.is_empty() {
            NONE.to_owned()
        } else {
            text
        }
    };
    let (ttl, expires) = match &token.expiry {
        Expiry::Never => ("<forever>".to_owned(), "<never>".to_owned()),
        Expiry::At(at) => (ttl(at.duration_since(now).as_secs()), rfc3339(*at)),
        Expiry::Unreadable(text) => ("<invalid>".to_owned(), text.clone()),
    };
    let usages: Vec<&str> = token.usages.iter().copied().map(Usage::as_str).collect();
    [
        token.token.expose(),
        ttl,
        expires,
        or_none(usages.join(",")),
        or_none(token.description.clone().unwrap_or_default()),
        or_none(token.groups.join(",")),
    ]
}

/// kubectl's short form of a duration.
fn ttl(seconds: i64) -> String {
    const HOUR: i64 = 3600;
    const DAY: i64 = 24 * HOUR;
    match seconds {
        ..=0 => "<invalid>".to_owned(),
        1..60 => format!("{seconds}s"),
        60..HOUR => format!("{}m", seconds / 60),
        HOUR..DAY => format!("{}h", seconds / HOUR),
        _ if seconds < 365 * DAY => format!("{}d", seconds / DAY),
        _ => format!("{}y", seconds / (365 * DAY)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Vec<BootstrapToken> {
        let token = |text: &str| text.parse().expect("a token");
        let usual = BootstrapToken::new(
            token("1o4c31.dwpt2cjz3kuf9ltk"),
            Expiry::At("2026-11-24T06:00:41Z".parse().expect("a time")),
        );
        let proxy = BootstrapToken {
            token: token("u7et8u.z0qysbsowhwpw8rw"),
            description: Some("Proxy for managing TTL".to_owned()),
            expiry: Expiry::Never,
            usages: [].into(),
            groups: Vec::new(),
        };
        vec![usual, proxy]
    }

    #[test]
    fn the_table_is_kubeadms() {
        let now = "2026-11-23T06:00:42Z".parse().expect("a time");
        let wanted = "\
TOKEN                     TTL         EXPIRES                USAGES                   DESCRIPTION              EXTRA GROUPS
1o4c31.dwpt2cjz3kuf9ltk   23h         2026-11-24T06:00:41Z   authentication,signing   <none>                   system:bootstrappers:kubeadm:default-node-token
u7et8u.z0qysbsowhwpw8rw   <forever>   <never>                <none>                   Proxy for managing TTL   <none>
";
        assert_eq!(table(&tokens(), now), wanted);
        assert_eq!(table(&[], now), "");
    }

    #[test]
    fn objects_are_kubeadms() {
        let json = write_objects(&tokens()[..1], Format::Json).expect("written");
        let wanted = r#"{
  "kind": "BootstrapToken",
  "apiVersion": "output.kubeadm.k8s.io/v1alpha3",
  "token": "1o4c31.dwpt2cjz3kuf9ltk",
  "expires": "2026-11-24T06:00:41Z",
  "usages": [
    "authentication",
    "signing"
  ],
  "groups": [
    "system:bootstrappers:kubeadm:default-node-token"
  ]
}
"#;
        assert_eq!(json, wanted);
        let yaml = write_objects(&tokens(), Format::Yaml).expect("written");
        assert_eq!(yaml.matches("---\n").count(), 2);
        assert!(yaml.contains("token: u7et8u.z0qysbsowhwpw8rw\n"), "{yaml}");
    }

    #[test]
    fn short_durations() {
        let table = [
            (-5, "<invalid>"),
            (59, "59s"),
            (61, "1m"),
            (7200, "2h"),
            (200_000, "2d"),
            (40_000_000, "1y"),
        ];
        for (seconds, wanted) in table {
            assert_eq!(ttl(seconds), wanted);
        }
    }
}
