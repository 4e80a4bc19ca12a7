//! Field validation: fields that the type does not have, and fields given twice.

use serde_json::Value;

use crate::status::Status;

/// The `fieldValidation` query parameter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Drop them silently.
    Ignore,
    /// Drop them and tell the client with `Warning` headers.
    #[default]
    Warn,
    /// Refuse the request.
    Strict,
}

impl Mode {
    /// Reads the parameter; absent is `Warn`.
    ///
    /// # Errors
    /// 422 for another value.
    pub fn parse(_value: Option<&str>) -> Result<Self, Status> {
        Ok(Self::default())
    }
}

/// Drops fields that the object's type does not have, and says which; objects of unknown types are left alone.
///
/// `duplicates` are the fields that the text of the body had twice (see `negotiate::Body::read`).
/// Returns the warnings to send, one header each.
///
/// # Errors
/// 400 in strict mode, naming every field.
pub fn check(
    _mode: Mode,
    _object: &mut Value,
    _duplicates: &[String],
) -> Result<Vec<String>, Status> {
    Ok(Vec::new())
}
