//! Collecting what is wrong.

use serde_json::Value;

use crate::{api::errors::FieldError, auth::fields::text};

/// The errors found so far. A field's path is given as `spec.x`; its value is read from the object that is checked, by
/// a JSON pointer.
#[derive(Default)]
pub(super) struct Errors(Vec<FieldError>);

impl Errors {
    pub fn into_list(self) -> Vec<FieldError> {
        self.0
    }

    pub fn push(&mut self, error: FieldError) {
        self.0.push(error);
    }

    pub fn invalid(&mut self, field: impl Into<String>, value: &Value, why: &str) {
        self.push(FieldError::invalid(field, value, why));
    }

    pub fn required(&mut self, field: impl Into<String>) {
        self.push(FieldError::required(field, ""));
    }

    pub fn forbidden(&mut self, field: impl Into<String>, why: &str) {
        self.push(FieldError::forbidden(field, why));
    }

    /// One error for each reason that a check of a text gave.
    pub fn texts(&mut self, field: &str, value: &str, whys: Vec<String>) {
        for why in whys {
            self.invalid(field, &value.into(), &why);
        }
    }

    /// A text that must be there and pass a check; gives it back.
    pub fn name<'a>(
        &mut self,
        parent: &str,
        object: &'a Value,
        key: &str,
        check: fn(&str) -> Vec<String>,
    ) -> &'a str {
        let value = text(object, &format!("/{key}"));
        let field = format!("{parent}.{key}");
        match value {
            "" => self.required(field),
            value => self.texts(&field, value, check(value)),
        }
        value
    }

    /// A text that, if it is there, is one of a few.
    pub fn one_of(&mut self, parent: &str, object: &Value, key: &str, supported: &[&str]) {
        let value = text(object, &format!("/{key}"));
        if !value.is_empty() && !supported.contains(&value) {
            let field = format!("{parent}.{key}");
            self.push(FieldError::not_supported(field, &value.into(), supported));
        }
    }

    /// A whole number that, if it is there, is at least so much.
    pub fn at_least(&mut self, parent: &str, object: &Value, key: &str, least: i64) {
        let Some(value) = object.get(key).and_then(Value::as_i64) else {
            return;
        };
        if value < least {
            let why = format!("must be greater than or equal to {least}");
            self.invalid(format!("{parent}.{key}"), &value.into(), &why);
        }
    }

    /// A port number; `required` if zero is no answer.
    pub fn port(&mut self, parent: &str, object: &Value, key: &str, required: bool) {
        let field = format!("{parent}.{key}");
        match object.get(key).and_then(Value::as_i64).unwrap_or(0) {
            0 if required => self.required(field),
            0..=65535 => {}
            port => self.invalid(
                field,
                &port.into(),
                "must be between 1 and 65535, inclusive",
            ),
        }
    }

    /// Items of a list that are there twice.
    pub fn unique<'a>(&mut self, values: impl Iterator<Item = (String, &'a str)>) {
        let mut seen = std::collections::BTreeSet::new();
        for (field, value) in values {
            if !value.is_empty() && !seen.insert(value) {
                self.push(FieldError::duplicate(field, &value.into()));
            }
        }
    }

    /// A field that must be as it was.
    pub fn immutable(&mut self, field: &str, old: &Value, new: &Value) {
        let pointer = format!("/{}", field.replace('.', "/"));
        let (was, is) = (old.pointer(&pointer), new.pointer(&pointer));
        if was != is {
            let is = is.cloned().unwrap_or(Value::Null);
            self.invalid(field, &is, "field is immutable");
        }
    }
}
