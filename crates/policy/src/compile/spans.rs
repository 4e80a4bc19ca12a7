//! Sets of ports that get smaller as rules take their share.
use std::collections::BTreeMap;

/// Ports, both ends included.
pub type Span = (u16, u16);

/// Every port.
pub const FULL: Span = (0, u16::MAX);

/// Disjoint spans, by their first port.
#[derive(Clone, Debug, Default)]
pub struct Spans(BTreeMap<u16, u16>);

impl Spans {
    /// Every port.
    pub fn full() -> Self {
        Self::from_iter([FULL])
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Remove what of the span is here, and tell what that was.
    pub fn take(&mut self, (first, last): Span) -> Vec<Span> {
        let before = self.0.range(..=first).next_back().map(|(a, _)| *a);
        let touched: Vec<Span> = self
            .0
            .range(before.unwrap_or(first)..=last)
            .map(|(a, b)| (*a, *b))
            .filter(|(_, b)| *b >= first)
            .collect();
        let mut taken = Vec::with_capacity(touched.len());
        for (a, b) in touched {
            self.0.remove(&a);
            if a < first {
                self.0.insert(a, first - 1);
            }
            if b > last {
                self.0.insert(last + 1, b);
            }
            taken.push((a.max(first), b.min(last)));
        }
        taken
    }

    /// Add spans that are not here.
    pub fn add(&mut self, spans: impl IntoIterator<Item = Span>) {
        self.0.extend(spans);
    }

    /// What is left.
    pub fn drain(&mut self) -> Vec<Span> {
        std::mem::take(&mut self.0).into_iter().collect()
    }
}

impl FromIterator<Span> for Spans {
    fn from_iter<T: IntoIterator<Item = Span>>(spans: T) -> Self {
        Self(spans.into_iter().collect())
    }
}
