//! Label and field selectors.

mod fields;
mod labels;
mod parse;

pub use fields::Fields;
pub use labels::Labels;

#[cfg(test)]
mod tests;
