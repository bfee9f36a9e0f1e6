//! Runner groups: people give names, GitHub wants ids.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;

use super::call::Call;
use super::deadline::Deadline;
use super::error::Error;
use super::operation::Operation;
use super::paths::actions;
use super::runners::refused;
use super::{GitHub, MAX_PAGES};
use crate::model::{DEFAULT_GROUP_ID, DEFAULT_GROUP_NAME, Target};

/// How long a list is used again that has what is sought.
const FRESH_WITH: TimeDelta = TimeDelta::minutes(5);
/// How long one is that has it not.
const FRESH_WITHOUT: TimeDelta = TimeDelta::minutes(1);

/// An organisation's groups, at a time.
#[derive(Clone)]
pub(super) struct Groups {
    groups: Arc<[Group]>,
    at: DateTime<Utc>,
}

#[derive(Deserialize)]
struct Group {
    id: i64,
    name: String,
}

impl Groups {
    fn id(&self, name: &str) -> Option<i64> {
        self.groups.iter().find(|group| group.name.eq_ignore_ascii_case(name)).map(|group| group.id)
    }

    fn name(&self, id: i64) -> Option<&str> {
        self.groups.iter().find(|group| group.id == id).map(|group| group.name.as_str())
    }
}

impl GitHub {
    /// The id of the runner group of this name, compared without case. `None`: the target has none.
    pub async fn group_id(
        &self,
        target: &Target,
        name: &str,
        deadline: Deadline,
    ) -> Result<Option<i64>, Error> {
        let Target::Organization(org) = target else {
            return Ok(name.eq_ignore_ascii_case(DEFAULT_GROUP_NAME).then_some(DEFAULT_GROUP_ID));
        };
        let groups = self.groups_with(org, target, |known| known.id(name).is_some(), deadline).await?;
        Ok(groups.id(name))
    }

    /// The name of the runner group with this id. `None`: the target has none, or it is the default group.
    pub async fn group_name(
        &self,
        target: &Target,
        id: i64,
        deadline: Deadline,
    ) -> Result<Option<String>, Error> {
        let Target::Organization(org) = target else { return Ok(None) };
        if id == DEFAULT_GROUP_ID {
            return Ok(None);
        }
        let groups = self.groups_with(org, target, |known| known.name(id).is_some(), deadline).await?;
        Ok(groups.name(id).map(str::to_owned))
    }

    /// The list as remembered, if it is young enough for having what is sought or for not having it; else anew.
    async fn groups_with(
        &self,
        org: &String,
        target: &Target,
        has: impl Fn(&Groups) -> bool,
        deadline: Deadline,
    ) -> Result<Groups, Error> {
        let now = self.clock().now();
        let holds = |known: &Groups| now - known.at < if has(known) { FRESH_WITH } else { FRESH_WITHOUT };
        let flight = self.0.groups.of(org);
        deadline.bound(flight.get(holds, || self.clone().list_groups(target.clone()))).await
    }

    async fn list_groups(self, target: Target) -> Result<Groups, Error> {
        #[derive(Deserialize)]
        struct Page {
            runner_groups: Vec<Group>,
        }
        let at = self.clock().now();
        // Several pages: each has a call's time, all of them three times that.
        let deadline = Deadline::within(self.timeout() * 3);
        let mut groups = Vec::new();
        for page in 1..=MAX_PAGES {
            let path = format!("{}/runner-groups?per_page=100&page={page}", actions(&target));
            let call = Call::new(Operation::ListRunnerGroups, path);
            let answer = self.as_installation(&target, &call, deadline).await?;
            if !answer.status.is_success() {
                return Err(refused(&answer, &target, &target.to_string()));
            }
            groups.extend(answer.decode::<Page>(false)?.runner_groups);
            if answer.has_next() != Some(true) {
                return Ok(Groups { groups: groups.into(), at });
            }
        }
        Err(Error::endless())
    }
}
