//! What clients send and what they want back: media types, tables, metadata only.

mod accept;
mod body;
mod media;

pub use accept::{Accept, Format, View};
pub use body::Body;
pub(in crate::api) use body::yaml;

/// How a client wants discovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiscoveryFormat {
    /// One document per group and version.
    Legacy,
    /// Everything at once, `apidiscovery.k8s.io` of this version.
    Aggregated(&'static str),
}

impl DiscoveryFormat {
    /// Decides by the `Accept` header: the first form that we have.
    pub fn parse(header: Option<&str>) -> Self {
        let ranges = media::ranges(header.unwrap_or(""));
        let decide = |range: &media::Range<'_>| match range.parameter("as") {
            None => Some(Self::Legacy),
            Some("APIGroupDiscoveryList")
                if range.parameter("g") == Some("apidiscovery.k8s.io") =>
            {
                match range.parameter("v") {
                    Some("v2") => Some(Self::Aggregated("v2")),
                    Some("v2beta1") => Some(Self::Aggregated("v2beta1")),
                    _ => None,
                }
            }
            Some(_) => None,
        };
        let json = ranges
            .iter()
            .filter(|r| media::format(r.media_type).is_some());
        json.filter_map(decide).next().unwrap_or(Self::Legacy)
    }

    /// The `Content-Type` of the answer.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Legacy => "application/json",
            Self::Aggregated("v2") => {
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
            }
            Self::Aggregated(_) => {
                "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
            }
        }
    }
}

#[cfg(test)]
mod tests;
