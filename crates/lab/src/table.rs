//! Tables as the API server prints them (`meta.k8s.io/v1 Table`), laid out as kubectl does.

use serde_json::Value;

/// The rows' cells under their columns' names; `wide` adds the columns of lower priority.
pub fn render(table: &Value, wide: bool) -> String {
    let columns: Vec<(usize, &Value)> = list(table, "columnDefinitions")
        .iter()
        .enumerate()
        .filter(|(_, column)| wide || column["priority"].as_i64().unwrap_or(0) == 0)
        .collect();
    let heads = columns
        .iter()
        .map(|(_, column)| column["name"].as_str().unwrap_or("").to_uppercase())
        .collect();
    let row = |row: &Value| {
        columns
            .iter()
            .map(|(i, _)| cell(&row["cells"][*i]))
            .collect()
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
    fn columns_line_up_and_wide_ones_need_asking() {
        let table = json!({
            "columnDefinitions": [{"name": "Name"}, {"name": "Restarts"}, {"name": "IP", "priority": 1}],
            "rows": [{"cells": ["a", 0, "10.0.0.1"]}, {"cells": ["longer", 12, null]}],
        });
        assert_eq!(
            render(&table, false),
            "NAME     RESTARTS\na        0\nlonger   12\n"
        );
        assert_eq!(
            render(&table, true),
            "NAME     RESTARTS   IP\na        0          10.0.0.1\nlonger   12\n"
        );
    }
}
