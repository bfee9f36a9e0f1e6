//! What a change of a team would do, and to whom.

use super::edit::{Change, Edit, place_of};
use crate::broker::{Broker, Error};
use crate::store::stats;

/// How many runners are named.
const NAMED: usize = 20;

/// What would come of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// A line a change; empty: none.
    pub changes: Vec<String>,
    /// As they count in the quota.
    pub live_runners: i64,
    /// Live runners that the team could not ask for any more: their labels, their target or their method. They
    /// stay as they are.
    pub outside: i64,
    /// The newest of them, by name.
    pub outside_names: Vec<String>,
    /// Whether the team would get no more runners until it has fewer.
    pub quota_used_up: bool,
    /// What the team's rules may say that nobody meant, a line each.
    pub warnings: Vec<String>,
}

impl Broker {
    pub(super) async fn preview(&self, edit: Edit<'_>, change: Change<'_>) -> Result<Preview, Error> {
        let edited = self.edit_policy(edit, change).await?;
        let name = edited.team.unwrap_or_default();
        let now = self.clock.now();
        let mut conn = self.store.conn().await?;
        let live = stats::counted_for_quota(&mut conn, std::slice::from_ref(&name), now).await?;
        let kinds = stats::live_kinds(&mut conn, &name, NAMED as i32).await?;
        drop(conn);
        let live_runners = live.get(&name).copied().unwrap_or(0);
        let mut preview = Preview {
            changes: edited.changes,
            live_runners,
            outside: 0,
            outside_names: Vec::new(),
            quota_used_up: false,
            warnings: Vec::new(),
        };
        if let Some(place) = place_of(&edited.document.team, &name) {
            preview.warnings = self.warnings_about_team(&edited.document.team[place]);
        }
        let Some(team) = edited.rules.team(&name) else { return Ok(preview) };
        preview.quota_used_up = team.max_runners().is_some_and(|most| live_runners >= most);
        let mut names = Vec::new();
        for kind in kinds {
            let fits = team.covers(&kind.target)
                && team.methods().contains(&kind.method)
                && team.unpermitted(&kind.labels).is_empty();
            if !fits {
                preview.outside += kind.runners;
                names.extend(kind.newest);
            }
        }
        names.sort_by(|(a, _), (b, _)| b.cmp(a));
        preview.outside_names = names.into_iter().take(NAMED).map(|(_, name)| name).collect();
        Ok(preview)
    }
}
