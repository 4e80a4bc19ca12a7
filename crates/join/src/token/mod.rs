//! `malha token`: bootstrap tokens of a running cluster, any cluster that kubeadm's tokens work in.

mod access;
mod output;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, anyhow, bail, ensure};
use jiff::Timestamp;
use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, PostParams},
};
use malha_bootstrap::{
    kubeconfig::Kubeconfig,
    pin::CaPin,
    token::{BootstrapToken, DEFAULT_GROUP, Expiry, NAMESPACE, SECRET_TYPE, Token, TokenId, Usage},
};

pub use access::{Access, client_of, explain};
pub use output::{Format, table, write_objects};

use crate::endpoint::Endpoint;

/// What `malha token create` is told.
#[derive(Clone, Debug)]
pub struct Create {
    /// The token; a random one if not given.
    pub token: Option<Token>,
    /// Seconds it lives; 0 means for ever.
    pub ttl: i64,
    /// What it may be used for.
    pub usages: BTreeSet<Usage>,
    /// Groups its bearer gets; kubeadm's default group if not given and it is for authentication.
    pub groups: Option<Vec<String>>,
    /// Free text.
    pub description: Option<String>,
}

impl Create {
    /// The token that is asked for.
    ///
    /// # Errors
    /// When Kubernetes would refuse it.
    pub fn describe(self, now: Timestamp) -> Result<BootstrapToken> {
        ensure!(
            self.ttl >= 0,
            "--ttl must not be negative; 0 means that the token never expires"
        );
        ensure!(
            !self.usages.is_empty(),
            "a token needs a use; give --usages signing,authentication"
        );
        // kubeadm's default group makes `--usages signing` alone impossible.
        let default = || match self.usages.contains(&Usage::Authentication) {
            true => vec![DEFAULT_GROUP.to_owned()],
            false => Vec::new(),
        };
        let described = BootstrapToken {
            token: self.token.unwrap_or_else(Token::generate),
            description: self.description.filter(|text| !text.is_empty()),
            expiry: Expiry::after(now, self.ttl),
            groups: self.groups.unwrap_or_else(default),
            usages: self.usages,
        };
        described.validate()?;
        Ok(described)
    }
}

/// The tokens of a cluster.
#[derive(Clone)]
pub struct Tokens {
    client: Client,
}

impl Tokens {
    /// Through a client that may read and write Secrets in `kube-system`.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Creates a token.
    ///
    /// # Errors
    /// When one with this ID exists, or the API server refuses.
    pub async fn create(&self, token: &BootstrapToken) -> Result<()> {
        let id = &token.token.id;
        match self
            .api()
            .create(&PostParams::default(), &secret_of(token))
            .await
        {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => {
                bail!(
                    "a token with the ID {id} already exists; delete it first with: malha token delete {id}"
                )
            }
            Err(error) => {
                Err(explain(error)).with_context(|| format!("cannot create the token {id}"))
            }
        }
    }

    /// All tokens; Secrets that only look like one are left out.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn list(&self) -> Result<Vec<BootstrapToken>> {
        let selected = ListParams::default().fields(&format!("type={SECRET_TYPE}"));
        let list = self
            .api()
            .list(&selected)
            .await
            .map_err(explain)
            .context("cannot list the tokens")?;
        Ok(list.items.iter().filter_map(read).collect())
    }

    /// Deletes a token.
    ///
    /// # Errors
    /// When there is none, or the API server refuses.
    pub async fn delete(&self, id: &TokenId) -> Result<()> {
        match self
            .api()
            .delete(&id.secret_name(), &DeleteParams::default())
            .await
        {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => {
                bail!(
                    "there is no token with the ID {id}; see which there are with: malha token list"
                )
            }
            Err(error) => {
                Err(explain(error)).with_context(|| format!("cannot delete the token {id}"))
            }
        }
    }

    /// Where nodes find the control plane, and the pins of its CA: what `cluster-info` says.
    ///
    /// # Errors
    /// When `cluster-info` cannot be read.
    pub async fn control_plane(&self) -> Result<(Endpoint, Vec<CaPin>)> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), "kube-public");
        let map = api
            .get("cluster-info")
            .await
            .map_err(explain)
            .context("cannot read cluster-info")?;
        let text = map.data.as_ref().and_then(|data| data.get("kubeconfig"));
        let text = text.ok_or_else(|| {
            anyhow!(
                "cluster-info has no kubeconfig; create it with: kubeadm init phase bootstrap-token"
            )
        })?;
        let kubeconfig = Kubeconfig::parse(text).context("cannot use cluster-info")?;
        let cluster = kubeconfig
            .single_cluster()
            .context("cannot use cluster-info")?;
        let ca_pem = cluster.ca_pem().context("cannot use cluster-info")?;
        Ok((
            Endpoint::from_url(&cluster.server)?,
            CaPin::of_certificates(&ca_pem)?,
        ))
    }

    fn api(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }
}

/// The command that a machine joins with; without a token, a placeholder stands for it.
pub fn join_command(endpoint: &Endpoint, token: Option<&Token>, pins: &[CaPin]) -> String {
    let token = token.map_or_else(|| "<value withheld>".to_owned(), Token::expose);
    let mut command = format!("malha join {endpoint} --token {token}");
    for pin in pins {
        command.push_str(&format!(" --discovery-token-ca-cert-hash {pin}"));
    }
    command
}

/// The Secret of a token.
pub(crate) fn secret_of(token: &BootstrapToken) -> Secret {
    let data = token.to_data().into_iter();
    let data: BTreeMap<_, _> = data
        .map(|(key, value)| (key, ByteString(value.into_bytes())))
        .collect();
    Secret {
        metadata: ObjectMeta {
            name: Some(token.token.id.secret_name()),
            namespace: Some(NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        },
        type_: Some(SECRET_TYPE.to_owned()),
        data: Some(data),
        ..Secret::default()
    }
}

fn read(secret: &Secret) -> Option<BootstrapToken> {
    let name = secret.metadata.name.as_deref()?;
    let data = secret.data.as_ref()?;
    let found = BootstrapToken::from_data(name, |key| Some(data.get(key)?.0.as_slice()));
    found
        .inspect_err(|why| tracing::warn!(%why, "left out"))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(usages: &[Usage], groups: Option<&str>) -> Result<BootstrapToken> {
        let create = Create {
            token: None,
            ttl: 60,
            usages: usages.iter().copied().collect(),
            groups: groups.map(|g| {
                g.split(',')
                    .filter(|g| !g.is_empty())
                    .map(str::to_owned)
                    .collect()
            }),
            description: Some(String::new()),
        };
        create.describe(Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn groups_follow_the_usages() {
        let usual = create(&[Usage::Authentication, Usage::Signing], None).expect("valid");
        assert_eq!(usual.groups, [DEFAULT_GROUP]);
        assert_eq!(usual.description, None);
        let signing = create(&[Usage::Signing], None).expect("valid");
        assert!(signing.groups.is_empty());
        assert!(
            create(&[Usage::Authentication], Some(""))
                .expect("valid")
                .groups
                .is_empty()
        );
        create(&[Usage::Signing], Some(DEFAULT_GROUP)).expect_err("groups need authentication");
        create(&[Usage::Authentication], Some("system:masters"))
            .expect_err("not a bootstrap group");
        create(&[], None).expect_err("useless");
    }

    #[test]
    fn a_secret_can_be_read_back() {
        let token = create(&[Usage::Authentication], None).expect("valid");
        assert_eq!(read(&secret_of(&token)), Some(token));
    }

    #[test]
    fn the_command_names_every_pin() {
        let endpoint = "[fd00::1]:6443".parse().expect("valid");
        let token: Token = "abcdef.0123456789abcdef".parse().expect("valid");
        let pin = CaPin::of_public_key(b"key");
        assert_eq!(
            join_command(&endpoint, Some(&token), &[pin, pin]),
            format!(
                "malha join [fd00::1]:6443 --token abcdef.0123456789abcdef \
                 --discovery-token-ca-cert-hash {pin} --discovery-token-ca-cert-hash {pin}"
            )
        );
    }
}
