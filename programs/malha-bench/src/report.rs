//! Results as Markdown tables, a row for each figure beside its baseline.

use crate::stats::Series;

/// One figure, its baseline from the same run, and what was aimed at.
pub struct Row {
    /// What was measured.
    pub what: String,
    /// Malha's median, with its unit.
    pub ours: String,
    /// What it is compared with.
    pub baseline: String,
    /// The baseline's median, with its unit.
    pub theirs: String,
    /// Malha's median divided by the baseline's.
    pub ratio: f64,
    /// The aim, in words.
    pub aim: String,
}

impl Row {
    /// Two series of times at the same share of each: 0.5 compares medians.
    pub fn times(what: &str, mine: &Series, baseline: &str, theirs: &Series, share: f64) -> Self {
        let (ours, other) = (mine.quantile(share), theirs.quantile(share));
        Self {
            what: format!("{what} (n={})", mine.len()),
            ours: format!("{:.2} ms", ours / 1000.0),
            baseline: baseline.to_owned(),
            theirs: format!("{:.2} ms", other / 1000.0),
            ratio: ours / other,
            aim: String::new(),
        }
    }
}

/// A table under a heading.
pub fn table(heading: &str, rows: &[Row]) -> String {
    let mut text = format!(
        "### {heading}\n\n| what | Malha | baseline | | ratio | aim |\n| --- | ---: | --- | ---: | ---: | --- |\n"
    );
    for row in rows {
        text.push_str(&format!(
            "| {} | {} | {} | {} | {} | {} |\n",
            row.what,
            row.ours,
            row.baseline,
            row.theirs,
            ratio(row.ratio),
            row.aim
        ));
    }
    text
}

/// Small ratios read better as fractions.
fn ratio(ratio: f64) -> String {
    if ratio < 0.2 {
        format!("1/{:.0}", 1.0 / ratio)
    } else {
        format!("{ratio:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_read_well() {
        assert_eq!(ratio(0.05), "1/20");
        assert_eq!(ratio(0.951), "0.95");
        assert_eq!(ratio(1.3), "1.30");
    }
}
