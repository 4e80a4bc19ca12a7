//! Who asks, and whether they may: what a kubelet does with webhook authentication and authorization.

use http::{HeaderMap, Method, header};
use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec},
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
};
use kube::{Api, Client, api::PostParams};
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Groups that need not be asked about: the API server itself is of one of them.
const TRUSTED: [&str; 2] = ["system:masters", "kubeadm:cluster-admins"];

/// Somebody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// Name.
    pub name: String,
    /// Groups.
    pub groups: Vec<String>,
}

/// Whoever a certificate, which TLS has verified, names.
pub fn of_certificate(certificate: &CertificateDer<'_>) -> Option<User> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let groups = subject
        .iter_organization()
        .filter_map(|o| o.as_str().ok().map(str::to_owned));
    let groups = groups.chain(["system:authenticated".to_owned()]).collect();
    Some(User { name, groups })
}

/// Whoever a bearer token names.
///
/// # Errors
/// When the API server cannot be asked.
pub async fn of_token(headers: &HeaderMap, client: &Client) -> Result<Option<User>, kube::Error> {
    let text = headers
        .get(header::AUTHORIZATION)
        .and_then(|v| v.to_str().ok());
    let Some(token) = text.and_then(|t| t.strip_prefix("Bearer ")) else {
        return Ok(None);
    };
    let review = TokenReview {
        spec: TokenReviewSpec {
            token: Some(token.trim().to_owned()),
            audiences: None,
        },
        ..TokenReview::default()
    };
    let answer = Api::<TokenReview>::all(client.clone())
        .create(&PostParams::default(), &review)
        .await?;
    let status = answer.status.unwrap_or_default();
    Ok(status
        .user
        .filter(|_| status.authenticated == Some(true))
        .map(|user| User {
            name: user.username.unwrap_or_default(),
            groups: user.groups.unwrap_or_default(),
        }))
}

/// Whether a user may do something with the node.
///
/// # Errors
/// When the API server cannot be asked.
pub async fn may(
    user: &User,
    node: &str,
    method: &Method,
    client: &Client,
) -> Result<bool, kube::Error> {
    if user
        .groups
        .iter()
        .any(|group| TRUSTED.contains(&group.as_str()))
    {
        return Ok(true);
    }
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(user.name.clone()),
            groups: Some(user.groups.clone()),
            resource_attributes: Some(attributes(node, method)),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let reviews = Api::<SubjectAccessReview>::all(client.clone());
    let answer = reviews.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|s| s.allowed))
}

fn attributes(node: &str, method: &Method) -> ResourceAttributes {
    let verb = match *method {
        Method::POST => "create",
        Method::GET | Method::HEAD => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    };
    ResourceAttributes {
        verb: Some(verb.to_owned()),
        version: Some("v1".to_owned()),
        resource: Some("nodes".to_owned()),
        subresource: Some("proxy".to_owned()),
        name: Some(node.to_owned()),
        ..ResourceAttributes::default()
    }
}
