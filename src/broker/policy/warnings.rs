//! Warnings about the policy: the stored one, a document that replaces it, or one team.

use super::apply::current;
use crate::broker::{Broker, Error};
use crate::policy::{Document, Known, TeamEntry, Warning};

impl Broker {
    /// Warnings about the policy as it is stored.
    ///
    /// # Errors
    ///
    /// [`Error::Policy`] or [`Error::Store`].
    pub async fn policy_warnings(&self) -> Result<Vec<Warning>, Error> {
        Ok(self.warnings_about(&current(&self.store).await?, None))
    }

    /// Warnings about a document that replaces this policy.
    pub fn warnings_about(&self, document: &Document, current: Option<&Document>) -> Vec<Warning> {
        let (issuers, now) = (self.system.issuers(), self.clock.now());
        document.lint(&Known { issuers, current, now })
    }

    /// Warnings about a team, whatever else the policy says.
    pub(super) fn warnings_about_team(&self, team: &TeamEntry) -> Vec<String> {
        let document = Document { team: vec![team.clone()], ..Document::default() };
        self.warnings_about(&document, None).into_iter().map(|warning| warning.what).collect()
    }
}
