//! One function that makes certificates: names, key, validity and usages in, signed certificate out.

use std::{net::IpAddr, time::Duration};

use jiff::Timestamp;
use rcgen::{KeyPair, PublicKeyData, SigningKey};
use signature::Keypair;
use x509_cert::{
    Certificate, TbsCertificate,
    builder::{Builder, CertificateBuilder, profile::BuilderProfile},
    der::{
        Any, Decode, Document,
        asn1::{BitString, GeneralizedTime, Ia5String, ObjectIdentifier, UtcTime},
        flagset::FlagSet,
    },
    ext::{
        Extension, ToExtension,
        pkix::{
            AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages,
            SubjectAltName, SubjectKeyIdentifier, name::GeneralName,
        },
    },
    name::Name,
    request::CertReq,
    serial_number::SerialNumber,
    spki::{
        AlgorithmIdentifierOwned, DynSignatureAlgorithmIdentifier, EncodePublicKey,
        SubjectPublicKeyInfoOwned, SubjectPublicKeyInfoRef,
    },
    time::{Time, Validity},
};

use super::{BACKDATE, CA_LIFETIME, CertificateAuthority, LEAF_LIFETIME, PkiError};
use crate::{csr::RequestInfo, names::Subject};

const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");

/// What a key made here is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// TLS client.
    Client,
    /// TLS server.
    Server,
}

/// A certificate to make.
#[derive(Clone, Debug)]
pub struct Issue<'a> {
    /// User and groups.
    pub subject: Subject,
    /// Client or server.
    pub purpose: Purpose,
    /// DNS alternative names.
    pub dns_names: &'a [String],
    /// Address alternative names.
    pub ip_addresses: &'a [IpAddr],
}

/// Validity and usages asked for in a request object.
pub(super) struct Terms<'a> {
    pub now: Timestamp,
    pub ttl: Duration,
    pub usages: &'a [String],
}

/// A certificate for the public key `spki` (DER), valid for one year.
pub(super) fn issue(
    ca: &CertificateAuthority,
    request: &Issue<'_>,
    spki: &[u8],
    now: Timestamp,
) -> Result<Certificate, PkiError> {
    let key = SubjectPublicKeyInfoOwned::from_der(spki)
        .map_err(|e| PkiError::read("a public key", &e))?;
    let extended = match request.purpose {
        Purpose::Client => CLIENT_AUTH,
        Purpose::Server => SERVER_AUTH,
    };
    let content = Content {
        subject: request.subject.to_name()?,
        issuer: ca.certificate.tbs_certificate().subject().clone(),
        is_ca: false,
        key_usage: KeyUsages::DigitalSignature | KeyUsages::KeyEncipherment,
        extended: vec![extended],
        names: alternative_names(request.dns_names, request.ip_addresses)?,
        authority: authority_of(ca)?,
    };
    sign(
        content,
        key,
        validity(now, LEAF_LIFETIME, Some(ca))?,
        &ca.key,
    )
}

/// A certificate for a request whose self-signature was verified (`info` was read from `der`).
pub(super) fn issue_for_request(
    ca: &CertificateAuthority,
    info: &RequestInfo,
    der: &[u8],
    terms: &Terms<'_>,
) -> Result<Certificate, PkiError> {
    let request = CertReq::from_der(der).map_err(|e| PkiError::read("the request", &e))?;
    let (key_usage, extended) = parse_usages(terms.usages)?;
    let content = Content {
        subject: request.info.subject,
        issuer: ca.certificate.tbs_certificate().subject().clone(),
        is_ca: false,
        key_usage,
        extended,
        names: alternative_names(&info.dns_names, &info.ip_addresses)?,
        authority: authority_of(ca)?,
    };
    sign(
        content,
        request.info.public_key,
        validity(terms.now, terms.ttl, Some(ca))?,
        &ca.key,
    )
}

/// A CA certificate signed by its own key.
pub(super) fn self_signed_ca(
    subject: &Subject,
    key: &KeyPair,
    now: Timestamp,
) -> Result<Certificate, PkiError> {
    let name = subject.to_name()?;
    let spki = key.subject_public_key_info();
    let public = SubjectPublicKeyInfoOwned::from_der(&spki)
        .map_err(|e| PkiError::read("a public key", &e))?;
    let content = Content {
        issuer: name.clone(),
        names: alternative_names(std::slice::from_ref(&subject.common_name), &[])?,
        subject: name,
        is_ca: true,
        key_usage: KeyUsages::DigitalSignature
            | KeyUsages::KeyEncipherment
            | KeyUsages::KeyCertSign,
        extended: Vec::new(),
        authority: None,
    };
    sign(content, public, validity(now, CA_LIFETIME, None)?, key)
}

/// Everything of a certificate but its key, serial number, validity and signature.
struct Content {
    subject: Name,
    issuer: Name,
    is_ca: bool,
    key_usage: FlagSet<KeyUsages>,
    extended: Vec<ObjectIdentifier>,
    names: Vec<GeneralName>,
    authority: Option<AuthorityKeyIdentifier>,
}

impl BuilderProfile for Content {
    fn get_issuer(&self, _subject: &Name) -> Name {
        self.issuer.clone()
    }

    fn get_subject(&self) -> Name {
        self.subject.clone()
    }

    fn build_extensions(
        &self,
        key: SubjectPublicKeyInfoRef<'_>,
        _issuer_key: SubjectPublicKeyInfoRef<'_>,
        tbs: &TbsCertificate,
    ) -> x509_cert::builder::Result<Vec<Extension>> {
        let subject = tbs.subject();
        let mut list = Vec::new();
        list.push((&KeyUsage(self.key_usage)).to_extension(subject, &list)?);
        if !self.extended.is_empty() {
            list.push((&ExtendedKeyUsage(self.extended.clone())).to_extension(subject, &list)?);
        }
        let constraints = BasicConstraints {
            ca: self.is_ca,
            path_len_constraint: None,
        };
        list.push((true, &constraints).to_extension(subject, &list)?);
        if self.is_ca {
            list.push((&SubjectKeyIdentifier::try_from(key)?).to_extension(subject, &list)?);
        }
        if let Some(authority) = &self.authority {
            list.push(authority.to_extension(subject, &list)?);
        }
        if !self.names.is_empty() {
            list.push((&SubjectAltName(self.names.clone())).to_extension(subject, &list)?);
        }
        Ok(list)
    }
}

fn sign(
    content: Content,
    key: SubjectPublicKeyInfoOwned,
    validity: Validity,
    signer: &KeyPair,
) -> Result<Certificate, PkiError> {
    let failed = |e: x509_cert::builder::Error| PkiError::encode("a certificate", &e);
    let signer = Signer::new(signer);
    let serial = SerialNumber::generate(&mut rand::rng());
    let mut builder = CertificateBuilder::new(content, serial, validity, key).map_err(failed)?;
    let blob = builder.finalize(&signer).map_err(failed)?;
    let signed = signer
        .key
        .sign(&blob)
        .map_err(|e| PkiError::encode("a signature", &e))?;
    let bits = BitString::from_bytes(&signed).map_err(|e| PkiError::encode("a signature", &e))?;
    builder.assemble(bits, &signer).map_err(failed)
}

/// From five minutes before `now` for `lifetime`, at most as long as the CA.
fn validity(
    now: Timestamp,
    lifetime: Duration,
    ca: Option<&CertificateAuthority>,
) -> Result<Validity, PkiError> {
    let start = now
        .as_second()
        .saturating_sub(BACKDATE.as_secs() as i64)
        .max(0) as u64;
    let mut end = now.as_second().max(0) as u64 + lifetime.as_secs();
    if let Some(ca) = ca {
        let last = ca
            .certificate
            .tbs_certificate()
            .validity()
            .not_after
            .to_unix_duration()
            .as_secs();
        if last as i64 <= now.as_second() {
            let last = Timestamp::from_second(last as i64).unwrap_or_default();
            return Err(PkiError::CaExpired(last.to_string()));
        }
        end = end.min(last);
    }
    Ok(Validity::new(time(start)?, time(end)?))
}

/// UTCTime until 2049, GeneralizedTime after (RFC 5280, 4.1.2.5).
fn time(seconds: u64) -> Result<Time, PkiError> {
    let since_epoch = Duration::from_secs(seconds);
    if let Ok(utc) = UtcTime::from_unix_duration(since_epoch) {
        return Ok(Time::UtcTime(utc));
    }
    let general = GeneralizedTime::from_unix_duration(since_epoch);
    general
        .map(Time::GeneralTime)
        .map_err(|e| PkiError::encode("a validity", &e))
}

fn authority_of(ca: &CertificateAuthority) -> Result<Option<AuthorityKeyIdentifier>, PkiError> {
    let found = ca
        .certificate
        .tbs_certificate()
        .get_extension::<SubjectKeyIdentifier>();
    let found = found.map_err(|e| PkiError::read("the CA certificate", &e))?;
    Ok(found.map(|(_, id)| AuthorityKeyIdentifier {
        key_identifier: Some(id.0),
        ..Default::default()
    }))
}

fn alternative_names(dns: &[String], addresses: &[IpAddr]) -> Result<Vec<GeneralName>, PkiError> {
    let mut names = Vec::with_capacity(dns.len() + addresses.len());
    for name in dns {
        let name = Ia5String::new(name).map_err(|e| PkiError::encode("an alternative name", &e))?;
        names.push(GeneralName::DnsName(name));
    }
    names.extend(addresses.iter().map(|a| GeneralName::from(*a)));
    Ok(names)
}

/// Kubernetes' words for usages (`certificates.k8s.io/v1` KeyUsage).
fn parse_usages(
    usages: &[String],
) -> Result<(FlagSet<KeyUsages>, Vec<ObjectIdentifier>), PkiError> {
    let mut flags = FlagSet::default();
    let mut extended = Vec::new();
    for usage in usages {
        match usage.as_str() {
            "signing" | "digital signature" => flags |= KeyUsages::DigitalSignature,
            "content commitment" => flags |= KeyUsages::NonRepudiation,
            "key encipherment" => flags |= KeyUsages::KeyEncipherment,
            "data encipherment" => flags |= KeyUsages::DataEncipherment,
            "key agreement" => flags |= KeyUsages::KeyAgreement,
            "server auth" => extended.push(SERVER_AUTH),
            "client auth" => extended.push(CLIENT_AUTH),
            other => return Err(PkiError::UnknownUsage(other.to_owned())),
        }
    }
    if flags.is_empty() {
        flags |= KeyUsages::DigitalSignature;
    }
    Ok((flags, extended))
}

/// What the builder wants to know of the signing key.
struct Signer<'a> {
    key: &'a KeyPair,
    public: PublicKey,
}

/// A public key as SubjectPublicKeyInfo DER.
#[derive(Clone)]
struct PublicKey(Vec<u8>);

impl<'a> Signer<'a> {
    fn new(key: &'a KeyPair) -> Self {
        Self {
            key,
            public: PublicKey(key.subject_public_key_info()),
        }
    }
}

impl Keypair for Signer<'_> {
    type VerifyingKey = PublicKey;
    fn verifying_key(&self) -> PublicKey {
        self.public.clone()
    }
}

impl EncodePublicKey for PublicKey {
    fn to_public_key_der(&self) -> x509_cert::spki::Result<Document> {
        Ok(Document::try_from(self.0.as_slice())?)
    }
}

impl DynSignatureAlgorithmIdentifier for Signer<'_> {
    fn signature_algorithm_identifier(&self) -> x509_cert::spki::Result<AlgorithmIdentifierOwned> {
        let algorithm = self.key.algorithm();
        let rsa_sha256 = algorithm == &rcgen::PKCS_RSA_SHA256;
        let oid = match () {
            () if rsa_sha256 => "1.2.840.113549.1.1.11",
            () if algorithm == &rcgen::PKCS_ECDSA_P384_SHA384 => "1.2.840.10045.4.3.3",
            () if algorithm == &rcgen::PKCS_ED25519 => "1.3.101.112",
            () if algorithm == &rcgen::PKCS_ECDSA_P256_SHA256 => "1.2.840.10045.4.3.2",
            () => return Err(x509_cert::spki::Error::AlgorithmParametersMissing),
        };
        // RFC 4055: NULL parameters with RSA. RFC 5758 and RFC 8410: none with the others.
        Ok(AlgorithmIdentifierOwned {
            oid: ObjectIdentifier::new_unwrap(oid),
            parameters: rsa_sha256.then(Any::null),
        })
    }
}
