//! Label selectors in specs.

use serde_json::Value;

use super::{errors::Errors, meta, names};
use crate::{
    api::errors::FieldError,
    auth::fields::{items, strings, text},
};

/// A `metav1.LabelSelector`.
pub(super) fn check(field: &str, selector: &Value, errors: &mut Errors) {
    meta::labels(
        &format!("{field}.matchLabels"),
        &selector["matchLabels"],
        errors,
    );
    for (index, expression) in items(selector, "/matchExpressions").iter().enumerate() {
        let field = format!("{field}.matchExpressions[{index}]");
        let count = items(expression, "/values").len();
        match text(expression, "/operator") {
            "In" | "NotIn" if count == 0 => {
                let why = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.push(FieldError::required(format!("{field}.values"), why));
            }
            "Exists" | "DoesNotExist" if count > 0 => {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.forbidden(format!("{field}.values"), why);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                let why = "not a valid selector operator";
                errors.invalid(format!("{field}.operator"), &other.into(), why);
            }
        }
        errors.name(&field, expression, "key", names::qualified_name);
        for value in strings(expression, "/values") {
            let field = format!("{field}.values");
            errors.texts(&field, value, names::label_value(value));
        }
    }
}
