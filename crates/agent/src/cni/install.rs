//! The last target: the plugin and the configuration list, which make the node Ready.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use malha_cni::conflist;
use malha_core::paths;

use crate::before::BOOT_FILE;
use crate::config::Paths;
use crate::target::Health;

/// What runtimes may ask of the plugin beyond an attachment.
const CAPABILITIES: [&str; 1] = ["portMappings"];

/// Installs and removes.
#[derive(Clone, Debug)]
pub struct Installer {
    conf: PathBuf,
    bin: PathBuf,
    plugin: PathBuf,
    text: String,
    plugin_installed: bool,
}

impl Installer {
    /// For these paths.
    ///
    /// # Errors
    /// When this executable's own path is not known.
    pub fn new(paths: &Paths) -> Result<Self> {
        let plugin = match &paths.plugin {
            Some(path) => path.clone(),
            None => std::env::current_exe()
                .context("cannot find this executable")?
                .with_file_name(conflist::PLUGIN),
        };
        Ok(Self {
            conf: paths.cni_conf.clone(),
            bin: paths.cni_bin.clone(),
            plugin,
            text: conflist::render(paths::CNI_NETWORK, &CAPABILITIES, &paths.cni_socket),
            plugin_installed: false,
        })
    }

    /// A list that was installed before the machine started again would make the node Ready before this agent serves.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn forget_last_boot(&self, run: &Path, boot_id: &str) -> Result<()> {
        let marker = run.join(BOOT_FILE);
        if std::fs::read_to_string(&marker).is_ok_and(|text| text.trim() == boot_id) {
            return Ok(());
        }
        if self.remove()? {
            tracing::info!("removed the CNI configuration of an earlier boot");
        }
        std::fs::write(&marker, boot_id)
            .with_context(|| format!("cannot write {}", marker.display()))
    }

    /// Install while the node serves; remove when it does not. While it starts, what is there stays: an agent that was
    /// only restarted would make the node NotReady for a moment.
    ///
    /// # Errors
    /// Of the file system, with the file.
    pub fn follow(&mut self, health: &Health) -> Result<()> {
        match health {
            Health::Serving => self.install(),
            Health::Starting(_) => Ok(()),
            Health::Waiting(_) | Health::Failing(_) => {
                if self.remove()? {
                    tracing::warn!("removed the CNI configuration: pods cannot be attached");
                }
                Ok(())
            }
        }
    }

    /// As the runner takes it.
    pub fn into_target(mut self) -> impl FnMut(&Health) -> Result<()> + Send + 'static {
        move |health| self.follow(health)
    }

    fn install(&mut self) -> Result<()> {
        // The plugin before the list that names it.
        if !self.plugin_installed || !self.bin.join(conflist::PLUGIN).exists() {
            conflist::install_plugin(&self.plugin, &self.bin).with_context(|| {
                format!(
                    "cannot install {} into {}",
                    self.plugin.display(),
                    self.bin.display()
                )
            })?;
            self.plugin_installed = true;
        }
        let installed = conflist::install(&self.conf, &self.text).with_context(|| {
            format!(
                "cannot write the CNI configuration into {}",
                self.conf.display()
            )
        })?;
        if installed {
            tracing::info!(directory = %self.conf.display(), "CNI configuration installed: pods can be attached");
        }
        Ok(())
    }

    fn remove(&self) -> Result<bool> {
        conflist::remove(&self.conf).with_context(|| {
            format!(
                "cannot remove the CNI configuration from {}",
                self.conf.display()
            )
        })
    }
}
