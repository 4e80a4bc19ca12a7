//! Label selectors, by the words of meta/v1 `LabelSelector`.
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::model::Labels;

/// Whether the selector selects the labels; `Err` when it is not a valid selector.
/// "The result of matchLabels and matchExpressions are ANDed. An empty label selector matches all objects."
pub fn selects(selector: &LabelSelector, labels: &Labels) -> Result<bool, ()> {
    let mut all = true;
    for (key, value) in selector.match_labels.iter().flatten() {
        all &= labels.get(key) == Some(value);
    }
    for expression in selector.match_expressions.iter().flatten() {
        let values = expression.values.clone().unwrap_or_default();
        let value = labels.get(&expression.key);
        all &= match expression.operator.as_str() {
            "In" if !values.is_empty() => value.is_some_and(|v| values.contains(v)),
            // "NotIn" holds for objects without the key too.
            "NotIn" if !values.is_empty() => !value.is_some_and(|v| values.contains(v)),
            "Exists" if values.is_empty() => value.is_some(),
            "DoesNotExist" if values.is_empty() => value.is_none(),
            _ => return Err(()),
        };
    }
    Ok(all)
}
