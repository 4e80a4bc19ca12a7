//! Masquerade of what pods send to the world outside.

use anyhow::Result;
use malha_kernel::masquerade;

use super::Target;
use crate::model::Desired;

/// See the module.
#[derive(Debug, Default)]
pub struct MasqueradeTarget;

impl Target for MasqueradeTarget {
    fn name(&self) -> &'static str {
        "masquerade"
    }

    fn update(&mut self, desired: &Desired) -> Result<()> {
        let Some(wanted) = &desired.masquerade else {
            return Ok(());
        };
        let wanted = masquerade::Masquerade {
            pods: wanted.sources.clone(),
            inside: wanted.exempt.clone(),
        };
        Ok(wanted.apply()?)
    }

    fn prune(&mut self, desired: &Desired) -> Result<()> {
        if desired.masquerade.is_none() {
            masquerade::disable()?;
        }
        Ok(())
    }
}
