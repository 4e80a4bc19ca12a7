//! Label and field selectors.

mod fields;
mod labels;

pub use fields::Fields;
pub use labels::Labels;
