//! Reads a YAML mapping field by field, so that every complaint names its field and none repeats a value: it may be
//! a secret.

use anyhow::{Result, anyhow, bail};
use malha_bootstrap::duration::GoDuration;
use serde_json::{Map, Value};

/// A mapping of a document; fields that were read are gone from it.
pub(super) struct Reader {
    path: String,
    fields: Map<String, Value>,
}

impl Reader {
    /// The document itself.
    pub(super) fn document(value: Value) -> Result<Self> {
        match value {
            Value::Object(fields) => Ok(Self {
                path: String::new(),
                fields,
            }),
            _ => bail!("it is not a YAML mapping"),
        }
    }

    /// An element of a list.
    fn element(path: String, value: Value) -> Result<Self> {
        match value {
            Value::Object(fields) => Ok(Self { path, fields }),
            _ => bail!("{path} has to be a mapping"),
        }
    }

    fn name(&self, field: &str) -> String {
        match self.path.as_str() {
            "" => field.to_owned(),
            path => format!("{path}.{field}"),
        }
    }

    fn take(&mut self, field: &str) -> Option<Value> {
        self.fields.remove(field).filter(|value| !value.is_null())
    }

    /// A mapping below this one.
    pub(super) fn mapping(&mut self, field: &str) -> Result<Option<Self>> {
        let path = self.name(field);
        let value = self.take(field);
        value.map(|value| Self::element(path, value)).transpose()
    }

    /// A list of mappings.
    pub(super) fn mappings(&mut self, field: &str) -> Result<Vec<Self>> {
        let path = self.name(field);
        let elements = self.list(field)?.into_iter().enumerate();
        elements
            .map(|(index, value)| Self::element(format!("{path}[{index}]"), value))
            .collect()
    }

    /// A text; an empty one counts as absent, as for kubeadm.
    pub(super) fn text(&mut self, field: &str) -> Result<Option<String>> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
            Some(_) => bail!("{} has to be a text; put it in quotes", self.name(field)),
        }
    }

    /// A list of texts.
    pub(super) fn texts(&mut self, field: &str) -> Result<Vec<String>> {
        let name = self.name(field);
        let text = |value: Value| match value {
            Value::String(text) => Ok(text),
            _ => Err(anyhow!(
                "{name} has to be a list of texts; put them in quotes"
            )),
        };
        self.list(field)?.into_iter().map(text).collect()
    }

    /// `true` or `false`; false when absent.
    pub(super) fn flag(&mut self, field: &str) -> Result<bool> {
        match self.take(field) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(_) => bail!("{} has to be true or false", self.name(field)),
        }
    }

    /// A length of time such as `5m0s`.
    pub(super) fn duration(&mut self, field: &str) -> Result<Option<GoDuration>> {
        let name = self.name(field);
        let text = self.text(field)?;
        text.map(|text| text.parse().map_err(|e| anyhow!("{name}: {e}")))
            .transpose()
    }

    /// Every field as a text, in the file's order of names.
    pub(super) fn all_texts(mut self) -> Result<Vec<(String, String)>> {
        let names: Vec<String> = self.fields.keys().cloned().collect();
        let pair = |name: String| {
            let text = self.text(&name)?.unwrap_or_default();
            Ok((name, text))
        };
        names.into_iter().map(pair).collect()
    }

    /// Whether a field is a list.
    pub(super) fn is_list(&self, field: &str) -> bool {
        self.fields.get(field).is_some_and(Value::is_array)
    }

    /// Passes a field by.
    pub(super) fn ignore(&mut self, fields: &[&str]) {
        for field in fields {
            self.fields.remove(*field);
        }
    }

    /// Fields that nobody read.
    pub(super) fn rest(self, unknown: &mut Vec<String>) {
        unknown.extend(self.fields.keys().map(|field| self.name(field)));
    }

    fn list(&mut self, field: &str) -> Result<Vec<Value>> {
        match self.take(field) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => Ok(list),
            Some(_) => bail!("{} has to be a list", self.name(field)),
        }
    }
}
