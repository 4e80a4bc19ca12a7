//! The table of faults in `docs/join.md`: the tests hold what joins say against it.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};

const HEADING: &str = "## What failures say";

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The fault.
    pub cause: String,
    /// What the line says, in order; between the parts is what differs from join to join (`…`).
    pub parts: Vec<String>,
    /// The test, as `FILE::NAME`.
    pub test: String,
}

impl Row {
    /// Whether a line says what the table says it does.
    pub fn describes(&self, line: &str) -> bool {
        let mut rest = Some(line);
        for part in &self.parts {
            rest = rest.and_then(|rest| Some(rest.split_once(part.as_str())?.1));
        }
        rest.is_some()
    }
}

/// The table's rows.
///
/// # Errors
/// When the document or the table is not there.
pub fn rows() -> Result<Vec<Row>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/join.md");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let (_, section) = text
        .split_once(HEADING)
        .with_context(|| format!("docs/join.md has no part {HEADING:?}"))?;
    let lines = section.lines().skip_while(|line| !line.starts_with('|'));
    // The first two are the head.
    lines
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(row)
        .collect()
}

fn row(line: &str) -> Result<Row> {
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [cause, says, test] = cells.as_slice() else {
        anyhow::bail!("not three cells: {line}");
    };
    let parts: Vec<String> = says
        .trim_matches('`')
        .split('…')
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect();
    ensure!(!parts.is_empty(), "nothing is said: {line}");
    Ok(Row {
        cause: (*cause).to_owned(),
        parts,
        test: test.trim_matches('`').to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_parts_in_order() {
        let row = row("| x | `at …: refused; check …` | `a::b` |").expect("a row");
        assert_eq!((row.cause.as_str(), row.test.as_str()), ("x", "a::b"));
        assert!(row.describes("cannot look at 1.2.3.4: refused; check it"));
        assert!(!row.describes("; check : refused at "));
    }
}
