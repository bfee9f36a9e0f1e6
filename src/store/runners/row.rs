//! A row of `runners`, and what changes it.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use diesel::deserialize::{self, Queryable};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::Text;
use uuid::Uuid;

use crate::model::{Method, Status, Target};
use crate::store::schema::runners;

/// A runner as the table has it.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = runners, check_for_backend(Pg))]
pub struct Runner {
    /// A UUID v7: newer runners have greater ones.
    pub id: Uuid,
    /// Unique among the live runners of a target, without regard to case.
    pub name: String,
    /// The organisation or repository.
    pub target: Target,
    /// Whose quota it counts in.
    pub team: String,
    /// Where it is in its life.
    pub status: Status,
    /// How it was registered.
    pub method: Method,
    /// All of them, lower-cased: the system's, the team's and those asked for.
    pub labels: Vec<String>,
    /// Whether it takes one job only.
    pub ephemeral: bool,
    /// Whether it runs a job.
    pub busy: bool,
    /// GitHub's id of the runner group.
    pub runner_group_id: i64,
    /// GitHub's id. `None`: GitHub has not made it yet.
    pub github_runner_id: Option<i64>,
    /// Grows by one with each repeat of an idempotency key.
    pub generation: i32,
    /// The issuer of the caller who asked for it.
    pub issuer: String,
    /// The subject of the caller who asked for it.
    pub subject: String,
    /// Their display name.
    pub provisioned_by: String,
    /// The status that `deleting` goes back to when GitHub says busy.
    pub deleting_from: Option<String>,
    /// How often its removal failed.
    pub delete_attempts: i32,
    /// When its removal is tried again.
    pub delete_after: Option<DateTime<Utc>>,
    /// Whether the removal of a busy runner waits until it is idle.
    pub wait_until_idle: bool,
    /// How many whole lists of GitHub's in a row did not have it.
    pub missed_sweeps: i32,
    /// When the row was written.
    pub created_at: DateTime<Utc>,
    /// When the row was last changed.
    pub updated_at: DateTime<Utc>,
    /// When GitHub was asked for it, the last time.
    pub requested_at: DateTime<Utc>,
    /// When its credential ends.
    pub expires_at: Option<DateTime<Utc>>,
    /// The time of the newest facts of GitHub about it.
    pub facts_at: Option<DateTime<Utc>>,
    /// When GitHub first had it.
    pub registered_at: Option<DateTime<Utc>>,
    /// When it was last online.
    pub last_seen_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub deleted_at: Option<DateTime<Utc>>,
    /// What GitHub showed instead of `labels`, once that has been reported.
    pub drifted_labels: Option<Vec<String>>,
}

/// Lets diesel read a word of the model from a text column.
macro_rules! read_as_text {
    ($($word:ty),+) => { $(
        impl Queryable<Text, Pg> for $word {
            type Row = String;
            fn build(text: String) -> deserialize::Result<$word> {
                Ok(<$word>::from_str(&text)?)
            }
        }
    )+ };
}
read_as_text!(Status, Method, Target);

/// The generation of a row that a provision works on; a later one makes its answers stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The row.
    pub id: Uuid,
    /// As [`Runner::generation`].
    pub generation: i32,
}

impl Runner {
    /// The claim on the row as it is.
    pub fn claim(&self) -> Claim {
        Claim { id: self.id, generation: self.generation }
    }

    /// The row as `settle` left it.
    pub fn settled(&self, issued: Issued<'_>, now: DateTime<Utc>) -> Runner {
        Runner {
            status: Status::Pending,
            github_runner_id: issued.github_runner_id,
            expires_at: Some(issued.expires_at),
            updated_at: now,
            facts_at: Some(now),
            registered_at: issued.github_runner_id.map(|_| now),
            missed_sweeps: 0,
            ..self.clone()
        }
    }
}

/// What GitHub gave for a claim.
#[derive(Clone, Copy, Debug)]
pub struct Issued<'a> {
    /// `None` for registration tokens: GitHub knows no runner yet.
    pub github_runner_id: Option<i64>,
    /// 64 characters of hexadecimal.
    pub credential_sha256: &'a str,
    /// When the credential ends.
    pub expires_at: DateTime<Utc>,
    /// Whether an earlier request for it was lost, and may still make a runner under its name.
    pub may_appear: bool,
}

/// A move of one row. The row changes only if it is still as the caller saw it.
#[derive(Clone, Debug, Default, AsChangeset)]
#[diesel(table_name = runners)]
pub struct Change {
    /// The text of the new [`Status`].
    pub status: Option<&'static str>,
    /// See [`Runner::busy`].
    pub busy: Option<bool>,
    /// See [`Runner::github_runner_id`].
    pub github_runner_id: Option<i64>,
    /// See [`Runner::deleting_from`].
    pub deleting_from: Option<Option<&'static str>>,
    /// See [`Runner::delete_attempts`].
    pub delete_attempts: Option<i32>,
    /// See [`Runner::delete_after`].
    pub delete_after: Option<Option<DateTime<Utc>>>,
    /// See [`Runner::wait_until_idle`].
    pub wait_until_idle: Option<bool>,
    /// See [`Runner::drifted_labels`].
    pub drifted_labels: Option<Vec<String>>,
    /// See [`Runner::labels`].
    pub labels: Option<Vec<String>>,
    /// See [`Runner::runner_group_id`].
    pub runner_group_id: Option<i64>,
    /// See [`Runner::missed_sweeps`].
    pub missed_sweeps: Option<i32>,
    /// Why it failed.
    pub failure: Option<String>,
    /// Whether a lost request may still make a runner under its name.
    pub may_appear: Option<bool>,
    /// See [`Runner::updated_at`].
    pub updated_at: Option<DateTime<Utc>>,
    /// See [`Runner::facts_at`].
    pub facts_at: Option<DateTime<Utc>>,
    /// See [`Runner::registered_at`].
    pub registered_at: Option<DateTime<Utc>>,
    /// See [`Runner::last_seen_at`].
    pub last_seen_at: Option<DateTime<Utc>>,
    /// See [`Runner::deleted_at`].
    pub deleted_at: Option<DateTime<Utc>>,
}
