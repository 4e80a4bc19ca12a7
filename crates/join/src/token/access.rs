//! Reaching the API server as the administrator.

use std::{env, error::Error as _, fs, io, path::PathBuf};

use anyhow::{Context, Result, anyhow};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use crate::paths::Paths;

/// Which kubeconfig is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// The file the user names; else `KUBECONFIG`, else admin.conf.
    pub kubeconfig: Option<PathBuf>,
}

impl Access {
    /// The file.
    pub fn file(&self, paths: &Paths) -> PathBuf {
        let from_environment = || {
            let list = env::var_os("KUBECONFIG")?;
            env::split_paths(&list).find(|file| file.exists())
        };
        let given = self.kubeconfig.clone().or_else(from_environment);
        given.unwrap_or_else(|| paths.admin_conf())
    }

    /// A client with the file's current context.
    ///
    /// # Errors
    /// When the file cannot be read or used.
    pub async fn client(&self, paths: &Paths) -> Result<Client> {
        let file = self.file(paths);
        fs::metadata(&file).map_err(|error| {
            anyhow!(
                "cannot read {}: {error}; run this on the control plane as root, or name a kubeconfig with --kubeconfig",
                file.display()
            )
        })?;
        let config = Kubeconfig::read_from(&file)
            .with_context(|| format!("cannot use {}", file.display()))?;
        connect(config)
            .await
            .with_context(|| format!("cannot use {}", file.display()))
    }
}

/// A client with a kubeconfig's text.
///
/// # Errors
/// When it cannot be used.
pub async fn client_of(kubeconfig: &str) -> Result<Client> {
    connect(Kubeconfig::from_yaml(kubeconfig).context("cannot read the kubeconfig")?).await
}

async fn connect(kubeconfig: Kubeconfig) -> Result<Client> {
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// A request's failure with cause and remedy, in one line.
pub fn explain(error: kube::Error) -> anyhow::Error {
    if let kube::Error::Api(status) = &error {
        return anyhow!("the API server says: {}", status.message);
    }
    let mut source = error.source();
    while let Some(current) = source {
        if let Some(io) = current.downcast_ref::<io::Error>()
            && io.kind() == io::ErrorKind::ConnectionRefused
        {
            return anyhow!(
                "cannot reach the API server: connection refused; check that the control plane runs (its log is in /var/log/malha)"
            );
        }
        source = current.source();
    }
    anyhow::Error::new(error)
}
