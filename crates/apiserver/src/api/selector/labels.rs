//! Label selectors, as text in a query and as objects in specs.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::parse::parse;
use crate::{
    auth::fields::{items, strings, text},
    status::Status,
};

/// One requirement on one label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Requirement {
    pub key: String,
    pub test: Test,
}

/// What must be true of a label's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Test {
    Exists,
    Absent,
    In(BTreeSet<String>),
    /// Also true of an object without the label.
    NotIn(BTreeSet<String>),
    Greater(i64),
    Less(i64),
}

impl Requirement {
    fn matches(&self, labels: Option<&Map<String, Value>>) -> bool {
        let value = labels
            .and_then(|l| l.get(&self.key))
            .map(|v| v.as_str().unwrap_or(""));
        let number = || value.and_then(|v| v.parse::<i64>().ok());
        match &self.test {
            Test::Exists => value.is_some(),
            Test::Absent => value.is_none(),
            Test::In(values) => value.is_some_and(|v| values.contains(v)),
            Test::NotIn(values) => value.is_none_or(|v| !values.contains(v)),
            Test::Greater(than) => number().is_some_and(|n| n > *than),
            Test::Less(than) => number().is_some_and(|n| n < *than),
        }
    }
}

/// A label selector: all its requirements must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    requirements: Vec<Requirement>,
    /// A selector object that is not there selects nothing.
    nothing: bool,
}

impl Labels {
    /// Reads a `labelSelector` parameter; empty selects everything.
    ///
    /// # Errors
    /// 400 with Kubernetes' text.
    pub fn parse(text: &str) -> Result<Self, Status> {
        let requirements = parse(text)
            .map_err(|why| Status::bad_request(format!("unable to parse requirement: {why}")))?;
        Ok(Self {
            requirements,
            nothing: false,
        })
    }

    /// The `metav1.LabelSelector` of a spec: an empty one selects everything, an absent one (null) nothing.
    /// Operators that do not exist select nothing; validation refuses them.
    pub fn of(selector: &Value) -> Self {
        if selector.is_null() {
            return Self {
                requirements: Vec::new(),
                nothing: true,
            };
        }
        let equal = selector.get("matchLabels").and_then(Value::as_object);
        let equal = equal.into_iter().flatten().map(|(key, value)| Requirement {
            key: key.clone(),
            test: Test::In(BTreeSet::from([value.as_str().unwrap_or("").to_owned()])),
        });
        let expressions = items(selector, "/matchExpressions").iter().map(|e| {
            let values = || strings(e, "/values").map(str::to_owned).collect();
            let test = match text(e, "/operator") {
                "In" => Test::In(values()),
                "NotIn" => Test::NotIn(values()),
                "Exists" => Test::Exists,
                "DoesNotExist" => Test::Absent,
                _ => Test::In(BTreeSet::new()),
            };
            Requirement {
                key: text(e, "/key").to_owned(),
                test,
            }
        });
        Self {
            requirements: equal.chain(expressions).collect(),
            nothing: false,
        }
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    /// Whether an object's labels fit.
    pub fn matches(&self, object: &Value) -> bool {
        self.matches_labels(&object["metadata"]["labels"])
    }

    /// Whether a map of labels (or null) fits.
    pub fn matches_labels(&self, labels: &Value) -> bool {
        !self.nothing
            && self
                .requirements
                .iter()
                .all(|r| r.matches(labels.as_object()))
    }
}
