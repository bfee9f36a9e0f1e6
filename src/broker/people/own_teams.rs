//! The teams of a caller, and what they have used of their quotas. Changes nothing.

use super::caller::Caller;
use super::scopes::runner_scope;
use crate::broker::{Broker, Error};
use crate::store::runners::{self, Scope};

/// One team of a caller's with what it has used.
#[derive(Debug)]
pub struct TeamUse {
    /// The team.
    pub team: std::sync::Arc<crate::policy::Team>,
    /// Its live runners, as they count in the quota.
    pub live_runners: i64,
}

impl Broker {
    /// The teams whose runners a caller may ask for: their own, or all that are active for admins and auditors.
    pub fn teams_seen_by(&self, caller: &Caller) -> Vec<String> {
        match runner_scope(caller) {
            Scope::All => {
                self.policy.load().rules.teams().iter().map(|team| team.name().to_owned()).collect()
            }
            Scope::Teams(teams) => teams,
        }
    }

    /// The caller's teams with what each has used of its quota.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    pub async fn teams_of(&self, caller: &Caller) -> Result<Vec<TeamUse>, Error> {
        let mut conn = self.store.conn().await?;
        let now = self.clock.now();
        let mut teams = Vec::new();
        for membership in &caller.memberships.teams {
            let live_runners = runners::count_for_quota(&mut conn, membership.team.name(), now).await?;
            teams.push(TeamUse { team: membership.team.clone(), live_runners });
        }
        Ok(teams)
    }
}
