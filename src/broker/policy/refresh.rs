//! How a replica takes over a policy that was changed, here or elsewhere.

use super::tables::from_tables;
use crate::broker::{Broker, Error, Policy};
use crate::policy::{Fault, Rules};
use crate::store::policies;

impl Broker {
    /// Takes over a policy that was changed elsewhere, and who is not to be let in; cheap when nothing changed.
    ///
    /// # Errors
    ///
    /// [`Error::Policy`] or [`Error::Store`].
    pub async fn refresh_policy(&self) -> Result<(), Error> {
        // None has to wait for what another lacks.
        let inactive = self.refresh_inactive().await;
        let installations = self.refresh_installations().await;
        self.refresh_rules().await?;
        inactive.and(installations)
    }

    async fn refresh_rules(&self) -> Result<(), Error> {
        // One reads at a time, so that what was read earlier never replaces what was read later.
        let _alone = self.reading_policy.lock().await;
        let mut conn = self.store.conn().await?;
        if policies::revision(&mut conn).await? == self.policy.load().revision {
            return Ok(());
        }
        drop(conn);
        let (revision, tables) = self
            .store
            .transaction::<_, Error, _>(async |conn| {
                policies::repeatable_read(conn).await?;
                Ok((policies::revision(conn).await?, policies::load(conn).await?))
            })
            .await?;
        let rules = Rules::compile(&from_tables(tables)?, &self.defaults())
            .map_err(|faults| Error::Policy(listed(&faults)))?;
        self.policy.store(std::sync::Arc::new(Policy { revision, rules }));
        Ok(())
    }

    /// Uses here what has been written. It is decided; if it cannot be read back now, the next poll does that.
    pub(in crate::broker) async fn refresh_after_edit(&self) {
        if let Err(err) = self.refresh_policy().await {
            tracing::warn!(error = %err, "a changed policy takes effect here with the next poll");
        }
    }
}

/// The faults of a document, a line each.
pub fn listed(faults: &[Fault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
