//! The signature over `cluster-info`: a detached compact JWS (RFC 7515, appendix F), HS256 keyed by a token's secret.
//!
//! kubeadm does not verify it as a JWS: it recomputes the whole text and compares. So the header is exactly
//! `{"alg":"HS256","kid":"<id>"}`, keys in this order, without spaces, base64url without padding.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::token::{Token, TokenId};

/// `data` key prefix in `kube-public/cluster-info`; the token's id follows.
pub const KEY_PREFIX: &str = "jws-kubeconfig-";

/// The `data` key that holds the signature made with token `id`.
pub fn config_map_key(id: &TokenId) -> String {
    format!("{KEY_PREFIX}{id}")
}

/// The signature does not belong to the content and the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the JWS signature was not made over this content with this token")]
pub struct JwsMismatch;

/// Signs `payload` with `token`; the result leaves the payload out (`header..signature`).
pub fn sign_detached(payload: &[u8], token: &Token) -> String {
    let header = format!(r#"{{"alg":"HS256","kid":"{}"}}"#, token.id);
    let header = URL_SAFE_NO_PAD.encode(header);
    let key = hmac::Key::new(hmac::HMAC_SHA256, token.secret.expose().as_bytes());
    let mut context = hmac::Context::with_key(&key);
    context.update(header.as_bytes());
    context.update(b".");
    context.update(URL_SAFE_NO_PAD.encode(payload).as_bytes());
    format!("{header}..{}", URL_SAFE_NO_PAD.encode(context.sign()))
}

/// Checks a detached JWS in constant time.
///
/// # Errors
/// [`JwsMismatch`] when content, token or form differ in any byte.
pub fn verify_detached(jws: &str, payload: &[u8], token: &Token) -> Result<(), JwsMismatch> {
    let expected = sign_detached(payload, token);
    aws_lc_rs::constant_time::verify_slices_are_equal(expected.as_bytes(), jws.as_bytes())
        .map_err(|_| JwsMismatch)
}
