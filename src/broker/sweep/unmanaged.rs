//! Runners that nobody asked for, on a target that is ours to watch: each is reported once, and removed only if
//! the operator wants that and it runs no job.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::BATCH;
use super::plan::MISSES;
use super::report::Report;
use crate::broker::events::{About, Actor, Kind, record, record_all};
use crate::broker::lease::fence;
use crate::broker::{Broker, Error};
use crate::config::Unmanaged;
use crate::github::{self, Removal};
use crate::model::{Status, Target};
use crate::store::leases::Lease;
use crate::store::runners::{self, Ended, Runner};
use crate::store::unmanaged::{self, Known, New};

/// How long GitHub's lists and the replicas' clocks may lag behind what has just ended or begun.
const CLOCK_TOLERANCE: TimeDelta = TimeDelta::minutes(1);

/// How long a registration token is good for.
const TOKEN_LIFE: TimeDelta = TimeDelta::hours(1);

/// How many rows an event names at most.
const CANDIDATES: i64 = 20;

/// How many are reported in one transaction.
const AT_ONCE: usize = 1_000;

/// What the list shows that no live row knows and none can be about to know. `ours`: orphans.
pub(super) fn unmanaged_runners<'a>(
    rows: &[Runner],
    ours: &HashSet<i64>,
    list: impl Iterator<Item = &'a github::Runner>,
    at: DateTime<Utc>,
) -> Vec<&'a github::Runner> {
    let ids: HashSet<i64> = rows.iter().filter_map(|row| row.github_runner_id).collect();
    let names: HashSet<String> =
        rows.iter().filter(|row| is_open(row, at)).map(|row| row.name.to_ascii_lowercase()).collect();
    list.filter(|found| {
        !ids.contains(&found.id)
            && !ours.contains(&found.id)
            && !names.contains(&found.name.to_ascii_lowercase())
    })
    .collect()
}

/// Whether a runner of the row's name may be the row's although it is not the one that the row knows.
fn is_open(row: &Runner, at: DateTime<Utc>) -> bool {
    match row.status {
        Status::Requested => true,
        Status::Deleting if row.deleting_from.is_none() => true,
        _ => row.github_runner_id.is_none() || row.facts_at.is_none_or(|known| known > at - CLOCK_TOLERANCE),
    }
}

/// The runners to remove, each with whether the log says so already.
pub(super) struct Removals<'a>(Vec<(&'a github::Runner, bool)>);

impl Broker {
    /// Reports those that nobody has reported yet, and forgets those that are gone.
    pub(super) async fn report_unmanaged<'a>(
        &self,
        lease: &Lease,
        target: &Target,
        unmanaged_runners: Vec<&'a github::Runner>,
        at: DateTime<Utc>,
        report: &mut Report,
    ) -> Result<Removals<'a>, Error> {
        if self.config.unmanaged_runners == Unmanaged::Ignore {
            return Ok(Removals(Vec::new()));
        }
        let mut conn = self.store.conn().await?;
        let known = unmanaged::known(&mut conn, target).await?;
        drop(conn);
        let known: HashMap<i64, Known> =
            known.into_iter().map(|known| (known.github_runner_id, known)).collect();
        self.forget_gone(lease, target, &known, &unmanaged_runners).await?;
        let (old, new): (Vec<_>, Vec<_>) =
            unmanaged_runners.into_iter().partition(|found| known.contains_key(&found.id));
        let new = self.report_unmanaged_runners(lease, target, new, at, report).await?;

        let mut removals = Vec::new();
        if self.config.unmanaged_runners == Unmanaged::Remove {
            let is_said = |found: &github::Runner| known[&found.id].removing_at.is_some();
            removals.extend(old.into_iter().filter(|found| !found.busy).map(|found| (found, is_said(found))));
            removals.extend(new.into_iter().filter(|found| !found.busy).map(|found| (found, true)));
            removals.truncate(BATCH as usize);
        }
        Ok(Removals(removals))
    }

    /// Pages shift while they are read, so one list that misses a runner does not make it new again.
    async fn forget_gone(
        &self,
        lease: &Lease,
        target: &Target,
        known: &HashMap<i64, Known>,
        unmanaged_runners: &[&github::Runner],
    ) -> Result<(), Error> {
        let shown: HashSet<i64> = unmanaged_runners.iter().map(|found| found.id).collect();
        let (mut back, mut missed, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for known in known.values() {
            match shown.contains(&known.github_runner_id) {
                true if known.missed_sweeps == 0 => {}
                true => back.push(known.github_runner_id),
                false if known.missed_sweeps + 1 >= MISSES => gone.push(known.github_runner_id),
                false => missed.push(known.github_runner_id),
            }
        }
        if back.is_empty() && missed.is_empty() && gone.is_empty() {
            return Ok(());
        }
        self.store
            .transaction::<_, Error, _>(async |conn| {
                fence(conn, Some(lease)).await?;
                Ok(unmanaged::follow(conn, target, &back, &missed, &gone).await?)
            })
            .await
    }

    /// One event for each, remembered with it; those that were reported.
    async fn report_unmanaged_runners<'a>(
        &self,
        lease: &Lease,
        target: &Target,
        unmanaged_runners: Vec<&'a github::Runner>,
        at: DateTime<Utc>,
        report: &mut Report,
    ) -> Result<Vec<&'a github::Runner>, Error> {
        if unmanaged_runners.is_empty() {
            return Ok(unmanaged_runners);
        }
        let ids: Vec<i64> = unmanaged_runners.iter().map(|found| found.id).collect();
        let names: Vec<String> =
            unmanaged_runners.iter().map(|found| found.name.to_ascii_lowercase()).collect();
        let mut conn = self.store.conn().await?;
        let ended = runners::ended(&mut conn, target, &ids, &names).await?;
        let tokens = runners::tokens_since(&mut conn, target, at - TOKEN_LIFE, CANDIDATES).await?;
        drop(conn);
        // A row that has just ended may have had this runner when the list was read.
        let just_ended = |found: &github::Runner| {
            let is_its = |row: &Ended| {
                row.github_runner_id == Some(found.id) || row.name.eq_ignore_ascii_case(&found.name)
            };
            ended
                .iter()
                .any(|row| is_its(row) && row.ended_at.is_none_or(|ended| ended > at - CLOCK_TOLERANCE))
        };
        let unmanaged_runners: Vec<_> =
            unmanaged_runners.into_iter().filter(|found| !just_ended(found)).collect();
        let candidates: Vec<Value> = tokens
            .iter()
            .map(|row| {
                json!({
                    "runner_id": row.id, "runner_name": row.name, "team": row.team,
                    "provisioned_by": row.provisioned_by, "token_expires_at": row.token_expires_at,
                })
            })
            .collect();
        let mut reported = Vec::new();
        for some in unmanaged_runners.chunks(AT_ONCE) {
            let former = |found: &github::Runner| {
                ended.iter().find(|row| row.github_runner_id == Some(found.id)).map(|row| row.id)
            };
            let events = some
                .iter()
                .map(|found| (*found, self.unmanaged_event(target, found, former(found), &candidates)));
            let events: Vec<_> = events.collect();
            let removes = self.config.unmanaged_runners == Unmanaged::Remove;
            let new: Vec<New<'_>> = some
                .iter()
                .map(|found| New {
                    target: target.to_string(),
                    github_runner_id: found.id,
                    name: &found.name,
                    first_seen_at: at,
                    removing_at: (removes && !found.busy).then(|| self.clock.now()),
                })
                .collect();
            let remembered = self
                .store
                .transaction::<_, Error, _>(async |conn| {
                    fence(conn, Some(lease)).await?;
                    let remembered = unmanaged::remember(conn, &new).await?;
                    let events = events.into_iter().filter(|(found, _)| remembered.contains(&found.id));
                    let events: Vec<_> = events.map(|(_, event)| event).collect();
                    record_all(conn, &events).await?;
                    Ok(remembered)
                })
                .await?;
            report.unmanaged += remembered.len();
            reported.extend(some.iter().filter(|found| remembered.contains(&found.id)));
        }
        Ok(reported)
    }

    fn unmanaged_event(
        &self,
        target: &Target,
        found: &github::Runner,
        former: Option<uuid::Uuid>,
        candidates: &[Value],
    ) -> crate::store::audit::NewEvent {
        let action = match (self.config.unmanaged_runners, found.busy) {
            (Unmanaged::Remove, false) => "removed",
            (Unmanaged::Remove, true) => "removed_when_idle",
            _ => "reported",
        };
        let mut event = self.event(Kind::UnmanagedRunnerDetected, Actor::System("sync")).with(json!({
            "name": found.name,
            "id": found.id,
            "labels": found.labels,
            "status": if found.online { "online" } else { "offline" },
            "busy": found.busy,
            "candidates": candidates,
            // The row whose runner this was; the row has ended.
            "former_runner_id": former,
            "action_taken": action,
        }));
        event.target = Some(target.to_string());
        event.runner_name = Some(found.name.clone());
        event
    }

    /// Takes them off GitHub; what the log does not say yet, it says before.
    pub(super) async fn remove_unmanaged(
        &self,
        lease: &Lease,
        target: &Target,
        removals: Removals<'_>,
        report: &mut Report,
    ) -> Result<(), Error> {
        for (found, is_said) in removals.0 {
            let removed = self.remove_unmanaged_runner(lease, target, found, is_said).await;
            if report.note(removed, "removing an unmanaged runner")? == Some(true) {
                report.removed += 1;
            }
        }
        Ok(())
    }

    async fn remove_unmanaged_runner(
        &self,
        lease: &Lease,
        target: &Target,
        found: &github::Runner,
        is_said: bool,
    ) -> Result<bool, Error> {
        if !is_said {
            let mut event = self.event(Kind::UnmanagedRunnerRemoved, Actor::System("sync"));
            event.event_data = json!({ "name": found.name, "id": found.id, "labels": found.labels });
            event.target = Some(target.to_string());
            event.runner_name = Some(found.name.clone());
            let now = event.timestamp;
            self.store
                .transaction::<_, Error, _>(async |conn| {
                    fence(conn, Some(lease)).await?;
                    if unmanaged::remove(conn, target, found.id, now).await? {
                        record(conn, event).await?;
                    }
                    Ok(())
                })
                .await?;
        }
        // GitHub refuses if it has got a job since.
        Ok(self.github.delete_runner(target, found.id, self.deadline()).await? == Removal::Removed)
    }
}
