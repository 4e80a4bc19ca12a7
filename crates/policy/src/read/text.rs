//! Rules as people read them.
use std::fmt;

use super::{Block, Matcher, NamespaceMatch, PodSelector, PortMatch, Requirement, Rule, Token};

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |values: &std::collections::BTreeSet<String>| {
            values.iter().cloned().collect::<Vec<_>>().join(",")
        };
        match self {
            Self::In(key, values) if values.len() == 1 => write!(f, "{key}={}", list(values)),
            Self::In(key, values) => write!(f, "{key} in ({})", list(values)),
            Self::NotIn(key, values) => write!(f, "{key} notin ({})", list(values)),
            Self::Exists(key) => f.write_str(key),
            Self::Absent(key) => write!(f, "!{key}"),
        }
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.requirements().map(ToString::to_string).collect();
        f.write_str(&all.join(", "))
    }
}

impl fmt::Display for PodSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.labels.is_everything() {
            true => f.write_str("every pod")?,
            false => write!(f, "pods with {}", self.labels)?,
        }
        match &self.namespace {
            NamespaceMatch::Named(name) => write!(f, " of namespace {name}")?,
            NamespaceMatch::Labels(matcher) if matcher.is_everything() => {}
            NamespaceMatch::Labels(matcher) => write!(f, " of namespaces with {matcher}")?,
        }
        if let Some(accounts) = &self.accounts {
            let names: Vec<&str> = accounts.iter().map(String::as_str).collect();
            write!(f, " as service account {}", names.join(" or "))?;
        }
        Ok(())
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cidr)?;
        let holes: Vec<String> = self.except.iter().map(ToString::to_string).collect();
        match holes.is_empty() {
            true => Ok(()),
            false => write!(f, " except {}", holes.join(", ")),
        }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pods(selector) => selector.fmt(f),
            Self::Nodes(matcher) if matcher.is_everything() => f.write_str("every node"),
            Self::Nodes(matcher) => write!(f, "nodes with {matcher}"),
            Self::Block(block) => block.fmt(f),
            Self::AnyBlock(blocks) => write!(f, "{} blocks of addresses", blocks.len()),
            Self::Port {
                name,
                protocol,
                port,
            } => write!(f, "pods with {name} = {port}/{protocol}"),
            Self::OwnNode => f.write_str("the own node"),
            Self::UnknownPod => f.write_str("a pod that is not known"),
        }
    }
}

impl fmt::Display for PortMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range {
                protocol,
                first: 0,
                last: u16::MAX,
            } => write!(f, "any/{protocol}"),
            Self::Range {
                protocol,
                first,
                last,
            } if first == last => write!(f, "{first}/{protocol}"),
            Self::Range {
                protocol,
                first,
                last,
            } => write!(f, "{first}-{last}/{protocol}"),
            Self::Named {
                name,
                protocol: Some(protocol),
            } => write!(f, "\"{name}\"/{protocol}"),
            Self::Named {
                name,
                protocol: None,
            } => write!(f, "\"{name}\""),
        }
    }
}

/// A list of conditions any of which will do; the first few of them.
fn list<T: fmt::Display>(items: Option<&Vec<T>>, everything: &str) -> String {
    const SHOWN: usize = 4;
    let Some(items) = items else {
        return everything.to_owned();
    };
    if items.is_empty() {
        return "nothing".to_owned();
    }
    let shown: Vec<String> = items.iter().take(SHOWN).map(ToString::to_string).collect();
    match items.len().saturating_sub(SHOWN) {
        0 => shown.join(" or "),
        more => format!("{} or {more} more", shown.join(" or ")),
    }
}

impl Rule {
    /// Whom it is about.
    pub fn peers_text(&self) -> String {
        list(self.peers.as_ref(), "everybody")
    }

    /// Which ports it is about.
    pub fn ports_text(&self) -> String {
        list(self.ports.as_ref(), "every protocol")
    }
}
