//! Which names are allowed: the same checks as every Go plugin makes, for the same messages' sake.

use super::{CniError, code};

/// Longest interface name that the kernel takes.
const IFNAME_MAX: usize = 15;

/// Checks a container ID.
///
/// # Errors
/// Code 4 when it is empty or has other than letters, digits, `_`, `.` and `-`, or starts with one of these three.
pub fn check_container_id(id: &str) -> Result<(), CniError> {
    if id.is_empty() {
        return Err(CniError::new(
            code::INVALID_ENVIRONMENT,
            "missing containerID",
        ));
    }
    if !is_identifier(id) {
        return Err(CniError::new(
            code::INVALID_ENVIRONMENT,
            "invalid characters in containerID",
        )
        .with_details(id));
    }
    Ok(())
}

/// Checks a network's name.
///
/// # Errors
/// Code 7 when it is empty or has characters that a container ID may not have either.
pub fn check_network_name(name: &str) -> Result<(), CniError> {
    if name.is_empty() {
        return Err(CniError::new(code::INVALID_CONF, "missing network name"));
    }
    if !is_identifier(name) {
        return Err(CniError::new(
            code::INVALID_CONF,
            "invalid characters found in network name",
        )
        .with_details(name));
    }
    Ok(())
}

/// Checks the name of an interface inside a container.
///
/// # Errors
/// Code 4 when the kernel would not take it.
pub fn check_ifname(name: &str) -> Result<(), CniError> {
    let wrong = |msg: &str| Err(CniError::new(code::INVALID_ENVIRONMENT, msg).with_details(name));
    if name.is_empty() {
        return wrong("interface name is empty");
    }
    if name.len() > IFNAME_MAX {
        return wrong("interface name is too long: the kernel takes 15 bytes");
    }
    if name == "." || name == ".." {
        return wrong("interface name is . or ..");
    }
    if name
        .chars()
        .any(|c| c == '/' || c == ':' || c == '\0' || c.is_whitespace())
    {
        return wrong("interface name contains / or : or white space");
    }
    Ok(())
}

/// `^[a-zA-Z0-9][a-zA-Z0-9_.\-]*$`
fn is_identifier(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}
