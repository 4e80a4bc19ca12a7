//! What a series of measurements comes down to.

use std::time::Duration;

/// A series of figures of one kind; smaller or larger may be better.
#[derive(Clone, Debug, Default)]
pub struct Series(Vec<f64>);

impl Series {
    /// Adds a figure.
    pub fn push(&mut self, figure: f64) {
        self.0.push(figure);
    }

    /// Adds a time, in microseconds.
    pub fn push_time(&mut self, time: Duration) {
        self.push(time.as_secs_f64() * 1e6);
    }

    /// Adds another series.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// How many figures there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The figure below which a share of all figures lies: 0.5 is the median.
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1);
        // The index is within the series: the share is at most 1.
        sorted
            .get((share * last as f64).round() as usize)
            .copied()
            .unwrap_or(f64::NAN)
    }

    /// The median.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }
}

impl FromIterator<f64> for Series {
    fn from_iter<T: IntoIterator<Item = f64>>(figures: T) -> Self {
        Self(figures.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_figures_of_the_series() {
        let series: Series = [5.0, 1.0, 4.0, 2.0, 3.0].into_iter().collect();
        assert_eq!(series.median(), 3.0);
        assert_eq!(series.quantile(0.99), 5.0);
        assert_eq!(series.quantile(0.0), 1.0);
        assert!(Series::default().median().is_nan());
    }
}
