//! The certificates of one cluster, under kubeadm's names.

use std::net::IpAddr;

use jiff::Timestamp;

use super::{CertificateAuthority, Issue, KeyedCertificate, PkiError, Purpose, SigningKeyPair};
use crate::names::Subject;

/// Members of this group administrate the cluster (a ClusterRoleBinding of the same name says so).
pub const CLUSTER_ADMINS_GROUP: &str = "kubeadm:cluster-admins";

/// Under which names and addresses the API server is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServingNames {
    /// The machine's name, and more names that the user asks for.
    pub dns_names: Vec<String>,
    /// Advertised addresses and the first address of every service range.
    pub ip_addresses: Vec<IpAddr>,
    /// Cluster domain, for `kubernetes.default.svc.DOMAIN`.
    pub dns_domain: String,
}

/// Everything `init` makes.
pub struct ClusterPki {
    /// `ca.crt`, `ca.key`.
    pub ca: CertificateAuthority,
    /// `apiserver.crt`, `apiserver.key`.
    pub apiserver: KeyedCertificate,
    /// `apiserver-kubelet-client.crt`, `.key`: the API server towards nodes.
    pub kubelet_client: KeyedCertificate,
    /// For `admin.conf`.
    pub admin: KeyedCertificate,
    /// `sa.key`, `sa.pub`.
    pub service_accounts: SigningKeyPair,
}

impl ClusterPki {
    /// Makes everything new.
    ///
    /// # Errors
    /// When a key or certificate cannot be made.
    pub fn generate(names: &ServingNames, now: Timestamp) -> Result<Self, PkiError> {
        Self::generate_under(
            CertificateAuthority::generate("kubernetes", now)?,
            names,
            now,
        )
    }

    /// Makes everything but the CA, which exists.
    ///
    /// # Errors
    /// As [`ClusterPki::generate`].
    pub fn generate_under(
        ca: CertificateAuthority,
        names: &ServingNames,
        now: Timestamp,
    ) -> Result<Self, PkiError> {
        Ok(Self {
            apiserver: apiserver_serving(&ca, names, now)?,
            kubelet_client: apiserver_client(&ca, now)?,
            admin: admin_client(&ca, now)?,
            service_accounts: SigningKeyPair::generate()?,
            ca,
        })
    }
}

/// The API server's serving certificate: every name a pod or a user reaches it by.
///
/// # Errors
/// When a name is not ASCII, or the certificate cannot be made.
pub fn apiserver_serving(
    ca: &CertificateAuthority,
    names: &ServingNames,
    now: Timestamp,
) -> Result<KeyedCertificate, PkiError> {
    let service = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(str::to_owned);
    let full = format!("kubernetes.default.svc.{}", names.dns_domain);
    let mut dns_names: Vec<String> = service
        .into_iter()
        .chain([full, "localhost".to_owned()])
        .collect();
    dns_names.extend(names.dns_names.iter().cloned());
    let mut ip_addresses = names.ip_addresses.clone();
    ip_addresses.extend([
        IpAddr::from([127, 0, 0, 1]),
        IpAddr::from(std::net::Ipv6Addr::LOCALHOST),
    ]);
    unique(&mut dns_names);
    unique(&mut ip_addresses);
    let request = Issue {
        subject: Subject::user("kube-apiserver"),
        purpose: Purpose::Server,
        dns_names: &dns_names,
        ip_addresses: &ip_addresses,
    };
    ca.issue_keyed(&request, now)
}

/// The client certificate with which the API server asks nodes for logs and exec.
///
/// # Errors
/// When it cannot be made.
pub fn apiserver_client(
    ca: &CertificateAuthority,
    now: Timestamp,
) -> Result<KeyedCertificate, PkiError> {
    client(
        ca,
        Subject::member("kube-apiserver-kubelet-client", &[CLUSTER_ADMINS_GROUP]),
        now,
    )
}

/// The administrator's client certificate.
///
/// # Errors
/// When it cannot be made.
pub fn admin_client(
    ca: &CertificateAuthority,
    now: Timestamp,
) -> Result<KeyedCertificate, PkiError> {
    client(
        ca,
        Subject::member("kubernetes-admin", &[CLUSTER_ADMINS_GROUP]),
        now,
    )
}

fn client(
    ca: &CertificateAuthority,
    subject: Subject,
    now: Timestamp,
) -> Result<KeyedCertificate, PkiError> {
    ca.issue_keyed(
        &Issue {
            subject,
            purpose: Purpose::Client,
            dns_names: &[],
            ip_addresses: &[],
        },
        now,
    )
}

/// Removes later duplicates, keeping the order.
fn unique<T: PartialEq>(list: &mut Vec<T>) {
    let mut index = 0;
    while index < list.len() {
        let repeated = list[..index].contains(&list[index]);
        if repeated {
            list.remove(index);
        } else {
            index += 1;
        }
    }
}
