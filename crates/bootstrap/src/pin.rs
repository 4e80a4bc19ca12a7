//! CA pins: `sha256:` and the hash of a CA certificate's public key (SubjectPublicKeyInfo, DER).
//!
//! A joining node knows the cluster's CA only by these. Several may be given (during a change of CA); one match
//! is enough, whichever it is. Source: RFC 7469, section 2.4, as used by kubeadm's `--discovery-token-ca-cert-hash`.

use std::{fmt, str::FromStr};

use aws_lc_rs::digest;

const LENGTH: usize = 32;

/// The SHA-256 of a public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CaPin([u8; LENGTH]);

/// Why a text is no pin. The texts are kubeadm's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// No colon.
    #[error("invalid public key hash, expected \"format:value\"")]
    NoPrefix,
    /// A hash other than SHA-256.
    #[error("unknown hash format {0:?}. Known format(s) are: sha256")]
    UnknownFormat(String),
    /// Not hexadecimal.
    #[error("the hash after \"sha256:\" is not hexadecimal")]
    NotHex,
    /// Not 32 bytes.
    #[error("expected a 32 byte SHA-256 hash, found {0} bytes")]
    Length(usize),
}

/// Certificates that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Broken PEM or DER.
    #[error("cannot read the CA certificate: {0}")]
    Unreadable(String),
    /// No certificate at all.
    #[error("no PEM certificate found")]
    Empty,
}

impl CaPin {
    /// The pin of a public key in DER (SubjectPublicKeyInfo).
    pub fn of_public_key(spki_der: &[u8]) -> Self {
        let hash = digest::digest(&digest::SHA256, spki_der);
        let mut bytes = [0; LENGTH];
        bytes.copy_from_slice(hash.as_ref());
        Self(bytes)
    }

    /// The pins of every certificate in a PEM text, in its order.
    ///
    /// # Errors
    /// When a certificate does not parse or there is none.
    pub fn of_certificates(pem: &str) -> Result<Vec<Self>, CertificateError> {
        let unreadable = |e: &dyn fmt::Display| CertificateError::Unreadable(e.to_string());
        let mut pins = Vec::new();
        for block in x509_parser::pem::Pem::iter_from_buffer(pem.as_bytes()) {
            let block = block.map_err(|e| unreadable(&e))?;
            if block.label != "CERTIFICATE" {
                continue;
            }
            let certificate = block.parse_x509().map_err(|e| unreadable(&e))?;
            pins.push(Self::of_public_key(
                certificate.tbs_certificate.subject_pki.raw,
            ));
        }
        if pins.is_empty() {
            Err(CertificateError::Empty)
        } else {
            Ok(pins)
        }
    }

    /// Whether any certificate in `pem` has a public key that any of `pins` names.
    ///
    /// # Errors
    /// As [`CaPin::of_certificates`].
    pub fn any_matches(pins: &[Self], pem: &str) -> Result<bool, CertificateError> {
        Ok(Self::of_certificates(pem)?
            .iter()
            .any(|found| pins.contains(found)))
    }
}

impl FromStr for CaPin {
    type Err = PinError;
    fn from_str(text: &str) -> Result<Self, PinError> {
        let (format, value) = text.split_once(':').ok_or(PinError::NoPrefix)?;
        if !format.eq_ignore_ascii_case("sha256") {
            return Err(PinError::UnknownFormat(format.to_owned()));
        }
        let bytes = decode_hex(value).ok_or(PinError::NotHex)?;
        let length = bytes.len();
        Ok(Self(
            bytes.try_into().map_err(|_| PinError::Length(length))?,
        ))
    }
}

impl fmt::Display for CaPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for CaPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .chars()
        .map(|c| c.to_digit(16).map(|d| d as u8))
        .collect::<Option<_>>()?;
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    Some(
        digits
            .chunks(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect(),
    )
}
