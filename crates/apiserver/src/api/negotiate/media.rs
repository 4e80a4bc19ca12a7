//! Reading `Accept`: media ranges with parameters, best first.

use super::Format;

/// One media range of an `Accept` header.
pub(super) struct Range<'a> {
    pub media_type: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl Range<'_> {
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| *value)
    }

    /// In thousandths; what cannot be read counts as 1.
    fn quality(&self) -> u32 {
        let quality = self.parameter("q").and_then(|q| q.parse::<f64>().ok());
        let quality = quality.unwrap_or(1.0).clamp(0.0, 1.0);
        // In 0..=1000 by the clamp.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        {
            (quality * 1000.0) as u32
        }
    }
}

/// The ranges of a header, best first, in the client's order where it says no more.
pub(super) fn ranges(header: &str) -> Vec<Range<'_>> {
    let mut ranges: Vec<Range<'_>> = header
        .split(',')
        .map(str::trim)
        .filter(|clause| !clause.is_empty())
        .map(|clause| {
            let mut parts = clause.split(';').map(str::trim);
            Range {
                media_type: parts.next().unwrap_or(""),
                parameters: parts.filter_map(|p| p.split_once('=')).collect(),
            }
        })
        .filter(|range| range.quality() > 0)
        .collect();
    ranges.sort_by_key(|range| std::cmp::Reverse(range.quality()));
    ranges
}

/// How we would write a media type; none for those we do not write.
pub(super) fn format(media_type: &str) -> Option<Format> {
    match media_type {
        "application/json" | "application/*" | "*/*" => Some(Format::Json),
        "application/yaml" => Some(Format::Yaml),
        _ => None,
    }
}
