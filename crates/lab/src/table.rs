//! Tables as the API server prints them (`meta.k8s.io/v1 Table`), laid out as kubectl does.

use serde_json::Value;

/// Which columns to show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    /// Those of lower priority, too (`-o wide`).
    pub wide: bool,
    /// The namespace before all others (`-A`).
    pub namespace: bool,
}

/// The rows' cells under their columns' names.
pub fn render(table: &Value, show: Columns) -> String {
    let columns: Vec<(usize, &Value)> = list(table, "columnDefinitions")
        .iter()
        .enumerate()
        .filter(|(_, column)| show.wide || column["priority"].as_i64().unwrap_or(0) == 0)
        .collect();
    let first = |text: &str| show.namespace.then(|| text.to_owned());
    let names = columns
        .iter()
        .map(|(_, column)| column["name"].as_str().unwrap_or("").to_uppercase());
    let heads = first("NAMESPACE").into_iter().chain(names).collect();
    let row = |row: &Value| {
        let namespace = row["object"]["metadata"]["namespace"]
            .as_str()
            .unwrap_or("");
        let cells = columns.iter().map(|(i, _)| cell(&row["cells"][*i]));
        first(namespace).into_iter().chain(cells).collect()
    };
    let rows = list(table, "rows").iter().map(row);
    align(std::iter::once(heads).chain(rows).collect())
}

/// Columns of equal width, three spaces apart.
pub fn align(rows: Vec<Vec<String>>) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |i: usize| {
        rows.iter()
            .filter_map(|row| row.get(i))
            .map(|c| c.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..count).map(|i| width(i).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}   "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_line_up_and_some_need_asking() {
        let table = json!({
            "columnDefinitions": [{"name": "Name"}, {"name": "Restarts"}, {"name": "IP", "priority": 1}],
            "rows": [
                {"cells": ["a", 0, "10.0.0.1"], "object": {"metadata": {"namespace": "x"}}},
                {"cells": ["longer", 12, null], "object": {"metadata": {"namespace": "yy"}}},
            ],
        });
        assert_eq!(
            render(&table, Columns::default()),
            "NAME     RESTARTS\na        0\nlonger   12\n"
        );
        let all = Columns {
            wide: true,
            namespace: true,
        };
        assert_eq!(
            render(&table, all),
            "NAMESPACE   NAME     RESTARTS   IP\nx           a        0          10.0.0.1\nyy          longer   12\n"
        );
    }
}
