//! Runners of ours that nobody was given: the sweep takes them off GitHub.

use super::report::Report;
use crate::broker::events::Actor;
use crate::broker::{Broker, Error};
use crate::github;
use crate::store::leases::Lease;
use crate::store::runners::Runner;

impl Broker {
    pub(super) async fn remove_orphans(
        &self,
        lease: &Lease,
        orphans: &[(&Runner, &github::Runner)],
        report: &mut Report,
    ) -> Result<(), Error> {
        for (row, found) in orphans {
            let by = Actor::System("sync");
            let removed = self.remove_orphan(by, Some(lease), row, found, self.deadline()).await;
            if report.note(removed, "removing an orphan")? == Some(true) {
                report.orphans += 1;
            }
        }
        Ok(())
    }
}
