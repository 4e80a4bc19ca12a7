//! X.501 names as Kubernetes reads them: the common name is the user, every organization is a group.

use x509_cert::{
    attr::AttributeTypeAndValue,
    der::{Any, Decode, Encode, Tag, asn1::ObjectIdentifier},
    name::{Name, RdnSequence, RelativeDistinguishedName},
};

use crate::pki::PkiError;

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const ORGANIZATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.10");

/// Who a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The user name.
    pub common_name: String,
    /// The groups, in order.
    pub organizations: Vec<String>,
}

impl Subject {
    /// A subject without groups.
    pub fn user(common_name: impl Into<String>) -> Self {
        Self {
            common_name: common_name.into(),
            organizations: Vec::new(),
        }
    }

    /// A subject with groups.
    pub fn member(common_name: impl Into<String>, groups: &[&str]) -> Self {
        Self {
            common_name: common_name.into(),
            organizations: groups.iter().map(|g| (*g).to_owned()).collect(),
        }
    }

    /// `O=…, …, CN=…`, one relative name per attribute, so that no group is lost.
    pub(crate) fn to_name(&self) -> Result<Name, PkiError> {
        let mut sequence = RdnSequence::default();
        for organization in &self.organizations {
            sequence.push(attribute(ORGANIZATION, organization)?);
        }
        sequence.push(attribute(COMMON_NAME, &self.common_name)?);
        let der = sequence
            .to_der()
            .map_err(|e| PkiError::encode("a name", &e))?;
        Name::from_der(&der).map_err(|e| PkiError::encode("a name", &e))
    }
}

fn attribute(oid: ObjectIdentifier, text: &str) -> Result<RelativeDistinguishedName, PkiError> {
    let value =
        Any::new(Tag::Utf8String, text.as_bytes()).map_err(|e| PkiError::encode("a name", &e))?;
    let mut name = RelativeDistinguishedName::default();
    name.insert(AttributeTypeAndValue { oid, value })
        .map_err(|e| PkiError::encode("a name", &e))?;
    Ok(name)
}
