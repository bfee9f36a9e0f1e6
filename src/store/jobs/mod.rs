//! The tables `jobs` and `job_violations`: GitHub's jobs for self-hosted runners, as its deliveries report them. A job
//! moves only forward, in whatever order and however often its deliveries come.

mod violations;

use chrono::{DateTime, Utc};
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Jsonb, Text, Timestamptz};
use diesel_async::RunQueryDsl;
use serde::Serialize;

use super::schema::jobs;
use super::walk::{Source, Value, Walk, at_text, when};
use super::{Conn, Error};

pub use violations::{Violation, claim_violation, release_violation, report_violation};

/// What one delivery reports of a job.
#[derive(Clone, Debug, Serialize)]
pub struct JobReport {
    /// GitHub's id of the job.
    pub id: i64,
    /// GitHub's id of the workflow run.
    pub run_id: i64,
    /// Lower-cased `owner/name`.
    pub repository: String,
    /// Lower-cased.
    pub owner: String,
    /// The workflow's name.
    pub workflow: Option<String>,
    /// The job's name.
    pub name: String,
    /// `runs-on`, lower-cased.
    pub labels: Vec<String>,
    /// GitHub's word: `waiting`, `queued`, `in_progress` or `completed`.
    pub state: &'static str,
    /// When the job got into this state.
    pub state_at: DateTime<Utc>,
    /// Such as `success`, once it is completed.
    pub conclusion: Option<String>,
    /// GitHub's id of the runner that took it.
    pub runner_id: Option<i64>,
    /// The runner's name.
    pub runner_name: Option<String>,
    /// When it was queued.
    pub queued_at: Option<DateTime<Utc>>,
    /// When a runner took it.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub completed_at: Option<DateTime<Utc>>,
}

/// A job as the table has it.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = jobs, check_for_backend(Pg))]
pub struct Job {
    /// GitHub's id of the job.
    pub id: i64,
    /// GitHub's id of the workflow run.
    pub run_id: i64,
    /// Lower-cased `owner/name`.
    pub repository: String,
    /// The workflow's name.
    pub workflow: Option<String>,
    /// The job's name.
    pub name: String,
    /// `runs-on`, lower-cased.
    pub labels: Vec<String>,
    /// GitHub's word: `waiting`, `queued`, `in_progress` or `completed`.
    pub state: String,
    /// Such as `success`, once it is completed.
    pub conclusion: Option<String>,
    /// The runner's name.
    pub runner_name: Option<String>,
    /// The team whose runner took it.
    pub team: Option<String>,
    /// When it was queued.
    pub queued_at: Option<DateTime<Utc>>,
    /// When a runner took it.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub completed_at: Option<DateTime<Utc>>,
}

/// The state of a job after a merge.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
#[diesel(check_for_backend(Pg))]
pub struct MergedJob {
    /// GitHub's id of the job.
    #[diesel(sql_type = BigInt)]
    pub id: i64,
    /// GitHub's word: `waiting`, `queued`, `in_progress` or `completed`.
    #[diesel(sql_type = Text)]
    pub state: String,
}

/// Merges reports into the table; no two may be of the same job. Of report and row the one in the later state wins, then
/// the one with the later time; columns that the winner lacks keep the loser's values. Every order of the same
/// deliveries leaves the same row.
pub async fn merge(
    conn: &mut Conn,
    reports: &[JobReport],
    now: DateTime<Utc>,
) -> Result<Vec<MergedJob>, Error> {
    let reports = serde_json::to_value(reports).map_err(|err| Error::Row(err.to_string()))?;
    Ok(diesel::sql_query(MERGE).bind::<Jsonb, _>(reports).bind::<Timestamptz, _>(now).load(conn).await?)
}

const MERGE: &str = "
    INSERT INTO jobs AS j (id, run_id, repository, owner, workflow, name, labels, state, state_at, conclusion,
        runner_id, runner_name, queued_at, started_at, completed_at, queued_seen_at, changed_at, created_at)
    SELECT id, run_id, repository, owner, workflow, name, labels, state, state_at, conclusion,
        runner_id, runner_name, queued_at, started_at, completed_at, CASE WHEN state = 'queued' THEN $2 END, $2, $2
    FROM jsonb_to_recordset($1) AS s (id bigint, run_id bigint, repository text, owner text, workflow text,
        name text, labels text[], state text, state_at timestamptz, conclusion text, runner_id bigint,
        runner_name text, queued_at timestamptz, started_at timestamptz, completed_at timestamptz)
    -- In one order everywhere, so that two replicas never wait for each other.
    ORDER BY id
    ON CONFLICT (id) DO UPDATE SET
        (run_id, repository, owner, workflow, name, labels, state, state_at, conclusion, runner_id, runner_name,
         queued_at, started_at, completed_at, queued_seen_at, changed_at) = (
        SELECT w.run_id, w.repository, w.owner, coalesce(w.workflow, l.workflow), w.name, w.labels, w.state,
            w.state_at, w.conclusion, coalesce(w.runner_id, l.runner_id),
            CASE WHEN w.runner_id IS NULL THEN l.runner_name ELSE w.runner_name END,
            coalesce(w.queued_at, l.queued_at), coalesce(w.started_at, l.started_at),
            coalesce(w.completed_at, l.completed_at),
            CASE WHEN w.state = 'queued' THEN coalesce(j.queued_seen_at, $2) END, $2
        FROM (SELECT array_position(ARRAY['waiting', 'queued', 'in_progress', 'completed'], j.state) AS old_rank,
            array_position(ARRAY['waiting', 'queued', 'in_progress', 'completed'], excluded.state) AS new_rank) r
        CROSS JOIN LATERAL (SELECT
            (r.new_rank, excluded.state_at, coalesce(excluded.conclusion, ''), coalesce(excluded.runner_id, 0))
            > (r.old_rank, j.state_at, coalesce(j.conclusion, ''), coalesce(j.runner_id, 0)) AS new_wins) o
        CROSS JOIN LATERAL (SELECT (CASE WHEN o.new_wins THEN excluded ELSE j END).*) w
        CROSS JOIN LATERAL (SELECT (CASE WHEN o.new_wins THEN j ELSE excluded END).*) l)
    RETURNING id, state";

/// Notes which team's runner took the job.
pub async fn taken_by(conn: &mut Conn, id: i64, team: &str) -> Result<(), Error> {
    diesel::update(jobs::table.find(id)).set(jobs::team.eq(team)).execute(conn).await?;
    Ok(())
}

/// The jobs that a caller may see.
#[derive(Clone, Debug)]
pub enum Scope {
    /// All jobs.
    All,
    /// Those on runners of these teams, and those that no team's runner took in repositories that fit one of these
    /// patterns of `LIKE`.
    Of {
        /// Names of teams.
        teams: Vec<String>,
        /// Patterns of `LIKE` for lower-cased `owner/name`.
        repositories: Vec<String>,
    },
}

/// What a list shows; `None` filters nothing.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// In this state.
    pub state: Option<String>,
    /// Lower-cased `owner/name`.
    pub repository: Option<String>,
    /// Lower-cased.
    pub label: Option<String>,
}

/// The jobs of this scope that fit.
fn walk(scope: &Scope, filter: &Filter) -> Walk {
    let (mut sources, mut filters) = (Vec::new(), Vec::new());
    if let Some(repository) = &filter.repository {
        sources.push(at_text("repository", repository));
    }
    if let Some(state) = &filter.state {
        // Nearly all jobs are completed: that tells less than whose they are.
        match sources.is_empty() && (state != "completed" || matches!(scope, Scope::All)) {
            true => sources.push(at_text("state", state)),
            false => filters.push(when("state = ?").text(state)),
        }
    }
    match scope {
        Scope::All if sources.is_empty() => sources.push(Source::All),
        Scope::All => {}
        Scope::Of { teams, repositories } => {
            if sources.is_empty() {
                sources.extend(teams.iter().map(|team| at_text("team", team)));
                if !repositories.is_empty() {
                    sources.push(Source::Without { column: "team" });
                }
            }
            filters.push(
                when("team = ANY(?) OR (team IS NULL AND repository LIKE ANY(?))")
                    .with(Value::Texts(teams.clone()))
                    .with(Value::Texts(repositories.clone())),
            );
        }
    }
    filters.extend(filter.label.as_ref().map(|label| when("labels @> ARRAY[?]").text(label)));
    Walk { table: "jobs", sources, lowest: None, filters }
}

/// Newest first (GitHub's ids grow), at most `limit` of those with a smaller id than `before`; and where the next page
/// begins, for which see `walk::Page`.
pub async fn page(
    conn: &mut Conn,
    scope: &Scope,
    filter: &Filter,
    before: Option<i64>,
    limit: i64,
) -> Result<(Vec<Job>, Option<i64>), Error> {
    let page = walk(scope, filter).page(conn, before, limit).await?;
    let rows = jobs::table.filter(jobs::id.eq_any(&page.ids)).order(jobs::id.desc());
    Ok((rows.select(Job::as_select()).load(conn).await?, page.next))
}

/// A set of labels that live runners of a target have.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
#[diesel(check_for_backend(Pg))]
pub struct Offer {
    /// The organisation or repository.
    #[diesel(sql_type = Text)]
    pub target: String,
    /// Lower-cased.
    #[diesel(sql_type = Array<Text>)]
    pub labels: Vec<String>,
    /// How many of the runners that were looked at have it.
    #[diesel(sql_type = BigInt)]
    pub runners: i64,
    /// Whether the target has more live runners than were looked at.
    #[diesel(sql_type = Bool)]
    pub more: bool,
}

/// The sets of labels of these targets' live runners, as far as the scope goes. Of each target, or of each team in
/// scope, at most `limit` runners are looked at.
pub async fn offers(
    conn: &mut Conn,
    scope: &super::runners::Scope,
    targets: &[&str],
    limit: i64,
) -> Result<Vec<Offer>, Error> {
    let (column, keys): (&str, Vec<&str>) = match scope {
        super::runners::Scope::All => ("target", targets.to_vec()),
        super::runners::Scope::Teams(teams) => ("team", teams.iter().map(String::as_str).collect()),
    };
    let live = super::runners::LIVE;
    Ok(diesel::sql_query(format!(
        "SELECT found.target, found.labels, count(*) AS runners, bool_or(found.more) AS more
         FROM unnest($1) AS wanted (key) CROSS JOIN LATERAL (
             SELECT target, labels, count(*) OVER () >= $3 AS more FROM (
                 SELECT target, labels FROM runners WHERE {column} = wanted.key AND {live} LIMIT $3) AS looked
             ) AS found
         WHERE found.target = ANY($2) GROUP BY found.target, found.labels"
    ))
    .bind::<Array<Text>, _>(keys)
    .bind::<Array<Text>, _>(targets)
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?)
}

/// The newest jobs that a runner took, by its id at GitHub; `owner` is its target's.
pub async fn of_runner(conn: &mut Conn, owner: &str, runner_id: i64, limit: i64) -> Result<Vec<Job>, Error> {
    Ok(jobs::table
        .filter(jobs::runner_id.eq(runner_id))
        .filter(jobs::owner.eq(owner))
        .order(jobs::id.desc())
        .limit(limit)
        .select(Job::as_select())
        .load(conn)
        .await?)
}

/// Marks queued jobs that are known since before `since` and that no live runner's labels fit, each once; at most
/// `limit`, and none of a repository and labels that were marked after `lately`. One statement, whatever their
/// number, which tests each repository and labels once.
pub async fn unmatched(
    conn: &mut Conn,
    since: DateTime<Utc>,
    lately: DateTime<Utc>,
    now: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<Job>, Error> {
    let ids: Vec<Id> = diesel::sql_query(
        "WITH waiting AS MATERIALIZED (SELECT DISTINCT repository, owner, labels FROM jobs
                WHERE state = 'queued' AND no_match_at IS NULL AND queued_seen_at <= $1),
            reported AS MATERIALIZED (SELECT DISTINCT repository, labels FROM jobs WHERE no_match_at > $2),
            -- Thousands of runners have a few sets of labels.
            offers AS MATERIALIZED (SELECT DISTINCT target, labels FROM runners
                WHERE status IN ('requested', 'pending', 'active', 'offline', 'deleting')
                  AND target IN (SELECT repository FROM waiting UNION SELECT owner FROM waiting)),
            unfit AS MATERIALIZED (SELECT repository, labels FROM waiting w
                WHERE NOT EXISTS (SELECT FROM reported t WHERE t.repository = w.repository AND t.labels = w.labels)
                  AND NOT EXISTS (SELECT FROM offers o
                    WHERE o.target IN (w.repository, w.owner) AND w.labels <@ o.labels))
         UPDATE jobs SET no_match_at = $3 WHERE id IN (
            SELECT j.id FROM jobs j JOIN unfit u ON u.repository = j.repository AND u.labels = j.labels
            WHERE j.state = 'queued' AND j.no_match_at IS NULL AND j.queued_seen_at <= $1
            ORDER BY j.id LIMIT $4 FOR UPDATE OF j SKIP LOCKED)
         RETURNING id",
    )
    .bind::<Timestamptz, _>(since)
    .bind::<Timestamptz, _>(lately)
    .bind::<Timestamptz, _>(now)
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?;
    let ids: Vec<i64> = ids.into_iter().map(|row| row.id).collect();
    Ok(jobs::table.filter(jobs::id.eq_any(ids)).order(jobs::id).select(Job::as_select()).load(conn).await?)
}

/// Forgets jobs that no delivery has changed for long: those completed before `completed`, others before `others`;
/// at most `limit`.
pub async fn forget(
    conn: &mut Conn,
    completed: DateTime<Utc>,
    others: DateTime<Utc>,
    limit: i64,
) -> Result<usize, Error> {
    Ok(diesel::sql_query(
        "DELETE FROM jobs WHERE id IN (
            (SELECT id FROM jobs WHERE changed_at < $1 ORDER BY changed_at LIMIT $3)
            UNION ALL (SELECT id FROM jobs WHERE changed_at < $2 AND state <> 'completed' LIMIT $3))",
    )
    .bind::<Timestamptz, _>(completed)
    .bind::<Timestamptz, _>(others)
    .bind::<BigInt, _>(limit)
    .execute(conn)
    .await?)
}

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = BigInt)]
    id: i64,
}

/// Rows that these deliveries may be about, the newest first: of one of these targets, and with one of these ids of
/// GitHub's, or pending under one of these names (lower-cased) with no id yet, which the job may turn out to be on.
pub async fn runners_of(
    conn: &mut Conn,
    targets: &[String],
    github_ids: &[i64],
    names: &[String],
) -> Result<Vec<super::runners::Runner>, Error> {
    use super::schema::runners;
    let by_name = sql::<Bool>("(status = 'pending' AND github_runner_id IS NULL AND lower(name) = ANY(")
        .bind::<Array<Text>, _>(names.to_vec())
        .sql("))");
    Ok(runners::table
        .filter(runners::target.eq_any(targets))
        .filter(runners::github_runner_id.eq_any(github_ids).assume_not_null().or(by_name))
        .order(runners::id.desc())
        .select(super::runners::Runner::as_select())
        .load(conn)
        .await?)
}
