//! Certificate signing requests: the one a node makes, and what the control plane reads from any.

use rcgen::{CertificateParams, DistinguishedName, DnType};
use x509_parser::{certification_request::X509CertificationRequest, prelude::FromDer};

use crate::{
    names::Subject,
    pki::{PkiError, generate_key},
};

/// The group of every node.
pub const NODES_GROUP: &str = "system:nodes";
/// The user name of a node: this prefix and its name.
pub const NODE_USER_PREFIX: &str = "system:node:";

/// A request with the key it was made with.
pub struct KeyedRequest {
    /// Private key, PKCS#8 PEM.
    pub key_pem: String,
    /// `CERTIFICATE REQUEST` PEM.
    pub csr_pem: String,
}

/// A fresh EC P-256 key and a request for `O=system:nodes, CN=system:node:NAME`, without SANs: the form a control
/// plane approves by itself.
///
/// # Errors
/// When the key or the request cannot be made.
pub fn node_csr(node_name: &str) -> Result<KeyedRequest, PkiError> {
    let key = generate_key()?;
    let csr_pem = request_node(node_name, &key)?;
    Ok(KeyedRequest {
        key_pem: key.serialize_pem(),
        csr_pem,
    })
}

/// The same request for a key that exists already, so that a join that was interrupted goes on with its key.
///
/// # Errors
/// When the key does not parse or the request cannot be made.
pub fn node_csr_with_key(node_name: &str, key_pem: &str) -> Result<String, PkiError> {
    let key = rcgen::KeyPair::from_pem(key_pem)
        .map_err(|e| PkiError::read("the node's private key", &e))?;
    request_node(node_name, &key)
}

fn request_node(node_name: &str, key: &rcgen::KeyPair) -> Result<String, PkiError> {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, NODES_GROUP);
    name.push(DnType::CommonName, format!("{NODE_USER_PREFIX}{node_name}"));
    params.distinguished_name = name;
    let request = params
        .serialize_request(key)
        .map_err(|e| PkiError::encode("a certificate request", &e))?;
    request
        .pem()
        .map_err(|e| PkiError::encode("a certificate request", &e))
}

/// What a request asks for; its self-signature has been verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestInfo {
    /// User and groups. `common_name` is empty when the request names none.
    pub subject: Subject,
    /// DNS names in the SAN extension.
    pub dns_names: Vec<String>,
    /// Addresses in the SAN extension.
    pub ip_addresses: Vec<std::net::IpAddr>,
    /// Number of SAN entries of other kinds (mail, URI, …).
    pub other_names: usize,
}

impl RequestInfo {
    /// Whether the request asks for any alternative name.
    pub fn has_alternative_names(&self) -> bool {
        !self.dns_names.is_empty() || !self.ip_addresses.is_empty() || self.other_names > 0
    }
}

/// Reads a request and verifies that its maker holds the private key.
///
/// # Errors
/// When the PEM or DER is broken, the signature does not verify, or a name is not text.
pub fn inspect(csr_pem: &str) -> Result<RequestInfo, PkiError> {
    let der = request_der(csr_pem)?;
    let (rest, request) =
        X509CertificationRequest::from_der(&der).map_err(|e| PkiError::read("the request", &e))?;
    if !rest.is_empty() {
        return Err(PkiError::Read {
            what: "the request",
            reason: "data follows it".into(),
        });
    }
    request
        .verify_signature()
        .map_err(|_| PkiError::BadSelfSignature)?;
    let subject = &request.certification_request_info.subject;
    let texts = |attributes: Vec<&x509_parser::x509::AttributeTypeAndValue<'_>>| {
        attributes
            .iter()
            .map(|a| a.as_str().map(str::to_owned))
            .collect::<Result<Vec<_>, _>>()
    };
    let names = texts(subject.iter_common_name().collect())
        .map_err(|e| PkiError::read("the common name", &e))?;
    let organizations = texts(subject.iter_organization().collect())
        .map_err(|e| PkiError::read("an organization", &e))?;
    let common_name = names.last().cloned().unwrap_or_default();
    let mut info = RequestInfo {
        subject: Subject {
            common_name,
            organizations,
        },
        dns_names: Vec::new(),
        ip_addresses: Vec::new(),
        other_names: 0,
    };
    read_alternative_names(&request, &mut info)?;
    Ok(info)
}

fn read_alternative_names(
    request: &X509CertificationRequest<'_>,
    info: &mut RequestInfo,
) -> Result<(), PkiError> {
    use x509_parser::extensions::{GeneralName, ParsedExtension};
    for extension in request.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(names) = extension else {
            continue;
        };
        for name in &names.general_names {
            match name {
                GeneralName::DNSName(dns) => info.dns_names.push((*dns).to_owned()),
                GeneralName::IPAddress(bytes) => info.ip_addresses.push(read_address(bytes)?),
                _ => info.other_names += 1,
            }
        }
    }
    Ok(())
}

fn read_address(bytes: &[u8]) -> Result<std::net::IpAddr, PkiError> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Ok(four.into());
    }
    let sixteen = <[u8; 16]>::try_from(bytes).map_err(|_| PkiError::Read {
        what: "an address in the request",
        reason: format!("{} bytes", bytes.len()),
    })?;
    Ok(sixteen.into())
}

pub(crate) fn request_der(csr_pem: &str) -> Result<Vec<u8>, PkiError> {
    let (_, block) = x509_parser::pem::parse_x509_pem(csr_pem.as_bytes())
        .map_err(|e| PkiError::read("the request", &e))?;
    if block.label != "CERTIFICATE REQUEST" && block.label != "NEW CERTIFICATE REQUEST" {
        return Err(PkiError::Read {
            what: "the request",
            reason: format!("PEM block is a {}", block.label),
        });
    }
    Ok(block.contents)
}
