//! What must hold after every step, and what at the end.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use chrono::{DateTime, Utc};
use runner_broker::dev::github::{GitHub, RunnerState};
use runner_broker::model::Method;
use serde_json::Value;
use tokio_postgres::{Client, Row};

use super::told::{HandedOut, TARGETS, TEAMS, Told};

const LIVE: &str = "('requested', 'pending', 'active', 'offline', 'deleting')";

/// Where a sequence plays.
pub struct Scene<'a> {
    pub db: &'a Client,
    pub github: &'a GitHub,
    pub now: DateTime<Utc>,
}

/// The most that a team may have from now on: its quota, or what it had when the quota was lowered, until it has
/// less.
pub struct Ratchet {
    /// Raised or lowered only when nothing is under way and the counts have just been looked at.
    pub max: [i64; 2],
    limit: [i64; 2],
}

impl Ratchet {
    pub fn new(max: [i64; 2]) -> Ratchet {
        Ratchet { max, limit: max }
    }

    /// The limit that holds for this count, which may be the last one of a higher limit.
    fn limit(&mut self, team: usize, count: i64) -> i64 {
        let limit = self.limit[team].max(self.max[team]);
        self.limit[team] = self.max[team].max(limit.min(count));
        limit
    }
}

/// What no moment may show.
pub async fn after_a_step(scene: &Scene<'_>, told: &Mutex<Told>, ratchet: &mut Ratchet) {
    let query = format!(
        "SELECT array(SELECT (SELECT count(*) FROM runners WHERE team = t AND (status IN {LIVE}
                    OR method = 'registration_token' AND status IN ('deleted', 'failed') AND expires_at > $1))
                FROM unnest($2::text[]) WITH ORDINALITY AS teams (t, n) ORDER BY n),
            array(SELECT what FROM model_breaches)
            || array(SELECT 'two live runners of key ' || key FROM model_keys k
                JOIN runners r ON r.id = k.runner_id WHERE r.status IN {LIVE}
                GROUP BY key HAVING count(DISTINCT r.id) > 1)
            || array(SELECT 'two live runners are named ' || lower(name) FROM runners
                WHERE status IN {LIVE} GROUP BY target, lower(name) HAVING count(*) > 1)"
    );
    // Looked at before GitHub is: a runner's row is there before the runner.
    let now = SystemTime::from(scene.now);
    let row = scene.db.query_one(&query, &[&now, &TEAMS.as_slice()]).await.expect("a look");
    let (counts, mut breaches): (Vec<i64>, Vec<String>) = (row.get(0), row.get(1));
    let on_github: HashSet<i64> = github(scene).keys().copied().collect();
    let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
    for (team, count) in counts.into_iter().enumerate() {
        let name = TEAMS[team];
        let is_used = |out: &&HandedOut| {
            let jit = out.github_id.filter(|_| out.method == Method::Jit);
            out.team == name && jit.is_some_and(|id| on_github.contains(&id))
        };
        let used = told.handed_out.iter().filter(is_used).count() as i64;
        let limit = ratchet.limit(team, count);
        for (what, count) in [("the table", count), ("GitHub", used)] {
            if count > limit {
                breaches.push(format!("{what} has {count} of team {name}, more than {limit}"));
            }
        }
    }
    told.breaches.extend(breaches);
}

/// GitHub's runners by id, with their targets.
fn github(scene: &Scene<'_>) -> HashMap<i64, (&'static str, RunnerState)> {
    let of =
        |target: &'static str| scene.github.runners(target).into_iter().map(move |r| (r.id, (target, r)));
    TARGETS.into_iter().flat_map(of).collect()
}

/// Rows that a sweep would still have to go on with, and deliveries that nobody has worked off.
pub async fn unfinished(scene: &Scene<'_>) -> Vec<String> {
    let query = format!(
        "SELECT name || ' is ' || status, status = 'deleting' AND wait_until_idle, github_runner_id FROM runners
         WHERE status IN ('requested', 'deleting') OR (status IN {LIVE} AND missed_sweeps > 0)"
    );
    let on_github = github(scene);
    // Without somebody who waits for its end, a job makes its runner again what it was.
    let waits_for_its_end = |row: &Row| {
        let runner = row.get::<_, Option<i64>>(2).and_then(|id| on_github.get(&id));
        row.get(1) && runner.is_some_and(|(_, runner)| runner.busy)
    };
    let rows = scene.db.query(&query, &[]).await.expect("the rows");
    let deliveries = "SELECT 'a delivery waits: ' || coalesce(failure, 'nobody was at it')
        FROM webhook_deliveries WHERE finished_at IS NULL";
    let deliveries = scene.db.query(deliveries, &[]).await.expect("the deliveries");
    rows.iter().filter(|row| !waits_for_its_end(row)).chain(&deliveries).map(|row| row.get(0)).collect()
}

/// What must hold once everything has come to rest.
pub async fn at_the_end(scene: &Scene<'_>, told: &Mutex<Told>) -> Vec<String> {
    let story = Story::read(scene).await;
    let told = told.lock().unwrap_or_else(PoisonError::into_inner);
    let mut breaches = story.agrees_with_github(&github(scene), &told);
    breaches.extend(story.every_move_has_its_event());
    breaches.extend(story.nothing_was_taken_away(&github(scene), &told));
    breaches
}

struct Live {
    name: String,
    target: String,
    status: String,
    method: String,
    github_id: Option<i64>,
    waits: bool,
}

#[derive(Debug, PartialEq)]
struct Move {
    xid: String,
    was: Option<String>,
    became: String,
    /// `None`: the event does not say.
    generation: Option<i64>,
}

struct Event {
    xid: String,
    at: DateTime<Utc>,
    kind: String,
    by_system: bool,
    data: Value,
}

/// All that the database tells.
struct Story {
    live: Vec<Live>,
    names: BTreeMap<String, String>,
    /// Each runner's, in their order.
    moves: HashMap<String, Vec<Move>>,
    events: HashMap<String, Vec<Event>>,
    claimed: HashSet<i64>,
}

impl Story {
    async fn read(scene: &Scene<'_>) -> Story {
        let runners =
            "SELECT id::text, name, target, status, method, github_runner_id, wait_until_idle FROM runners";
        let moves = "SELECT runner_id::text, xid::text, was, became, generation::bigint FROM model_moves ORDER BY seq";
        let events =
            "SELECT runner_id::text, xid::text, timestamp, event_type, user_identity LIKE 'system:%',
                event_data::text
            FROM audit_log WHERE runner_id IS NOT NULL ORDER BY id";
        let (runners, moves, events) = tokio::join!(
            scene.db.query(runners, &[]),
            scene.db.query(moves, &[]),
            scene.db.query(events, &[])
        );
        let mut story = Story {
            live: Vec::new(),
            names: BTreeMap::new(),
            moves: HashMap::new(),
            events: HashMap::new(),
            claimed: HashSet::new(),
        };
        for row in runners.expect("the runners") {
            let (name, status): (String, String) = (row.get(1), row.get(3));
            story.names.insert(row.get(0), format!("{name} ({status})"));
            story.claimed.extend(row.get::<_, Option<i64>>(5));
            if !["deleted", "failed"].contains(&status.as_str()) {
                story.live.push(Live {
                    name,
                    target: row.get(2),
                    status,
                    method: row.get(4),
                    github_id: row.get(5),
                    waits: row.get(6),
                });
            }
        }
        for row in moves.expect("the moves") {
            let a_move =
                Move { xid: row.get(1), was: row.get(2), became: row.get(3), generation: Some(row.get(4)) };
            story.moves.entry(row.get(0)).or_default().push(a_move);
        }
        for row in events.expect("the events") {
            let event = Event {
                xid: row.get(1),
                at: row.get::<_, SystemTime>(2).into(),
                kind: row.get(3),
                by_system: row.get(4),
                data: serde_json::from_str(row.get(5)).expect("JSON"),
            };
            story.events.entry(row.get(0)).or_default().push(event);
        }
        story
    }

    fn events(&self, id: &str) -> &[Event] {
        self.events.get(id).map(Vec::as_slice).unwrap_or_default()
    }

    fn agrees_with_github(
        &self,
        on_github: &HashMap<i64, (&'static str, RunnerState)>,
        told: &Told,
    ) -> Vec<String> {
        let mut breaches = Vec::new();
        for row in &self.live {
            let found = row.github_id.and_then(|id| on_github.get(&id)).filter(|(at, _)| *at == row.target);
            let expected = match (row.github_id, found) {
                (None, _) => {
                    let named = |(at, runner): &(&str, RunnerState)| {
                        *at == row.target && runner.name.eq_ignore_ascii_case(&row.name)
                    };
                    let nobody = !on_github.values().any(named) && row.method == "registration_token";
                    if nobody { "pending" } else { "a row that knows its runner" }
                }
                (Some(_), None) => "gone from the live ones: GitHub has no such runner",
                (Some(_), Some((_, found))) if row.status == "deleting" && row.waits && found.busy => {
                    "deleting"
                }
                (Some(_), Some((_, found))) if (row.method == "jit") != found.jit => "another runner's row",
                (Some(_), Some((_, found))) if found.online || found.busy => "active",
                (Some(_), Some((_, found))) if found.jit && found.version.is_none() => "pending",
                (Some(_), Some(_)) => "offline",
            };
            if row.status != expected {
                let Live { name, status, github_id, .. } = row;
                breaches
                    .push(format!("{name} is {status} (GitHub's {github_id:?}), and should be {expected}"));
            }
        }
        let known: HashSet<i64> = self.live.iter().filter_map(|row| row.github_id).collect();
        for (id, (_, runner)) in on_github.iter().filter(|(id, _)| !known.contains(id)) {
            let registered = told.handed_out.iter().find(|out| out.github_id == Some(*id) && !runner.jit);
            // Registered with a token whose row was removed before: GitHub cannot take it back.
            let excused = registered.is_some_and(|out| {
                self.events(&out.runner_id).iter().any(|event| event.kind == "deprovisioned")
            });
            if !told.planted.contains_key(id) && !excused {
                breaches.push(format!("GitHub has {} ({id}), and no live row knows it", runner.name));
            }
        }
        breaches
    }

    /// The log's moves of each runner are the table's, one by one and each in the same transaction.
    fn every_move_has_its_event(&self) -> Vec<String> {
        let mut breaches = Vec::new();
        for (id, name) in &self.names {
            let moves = self.moves.get(id).map(Vec::as_slice).unwrap_or_default();
            let told: Vec<Move> = self.events(id).iter().filter_map(Event::tells).collect();
            let same = |(a, b): (&Move, &Move)| {
                (&a.xid, &a.was, &a.became) == (&b.xid, &b.was, &b.became)
                    && (b.generation.is_none() || a.generation == b.generation)
            };
            if moves.len() != told.len() || !moves.iter().zip(&told).all(same) {
                let kinds: Vec<&str> = self.events(id).iter().map(|event| event.kind.as_str()).collect();
                breaches.push(format!("{name} moved {moves:?}, and the log tells {told:?} by {kinds:?}"));
            }
        }
        breaches
    }

    /// What was handed out is there, or went by a rule.
    fn nothing_was_taken_away(
        &self,
        on_github: &HashMap<i64, (&'static str, RunnerState)>,
        told: &Told,
    ) -> Vec<String> {
        let mut breaches = Vec::new();
        let is_gone = |id: &i64| !on_github.contains_key(id) && !told.gone.contains(id);
        for out in &told.handed_out {
            if !self.names.contains_key(&out.runner_id) {
                breaches.push(format!("{} was handed out and has no row", out.name));
            }
            let Some(id) = out.github_id.filter(is_gone) else { continue };
            if !self
                .events(&out.runner_id)
                .iter()
                .any(|event| event.justifies(out, told.drifted.contains(&id)))
            {
                let kinds: Vec<&str> =
                    self.events(&out.runner_id).iter().map(|event| event.kind.as_str()).collect();
                breaches.push(format!("{} ({id}) was handed out and taken away: {kinds:?}", out.name));
            }
        }
        for id in told.planted.keys().filter(|id| is_gone(id) && !self.claimed.contains(id)) {
            breaches.push(format!("somebody else's runner {id} was taken away"));
        }
        breaches
    }
}

impl Event {
    fn str(&self, field: &str) -> Option<&str> {
        self.data[field].as_str()
    }

    /// The move that this event stands for, if it stands for one.
    fn tells(&self) -> Option<Move> {
        let moved = |was: Option<&str>, became: &str| {
            let generation = self.data["generation"].as_i64();
            Some(Move { xid: self.xid.clone(), was: was.map(Into::into), became: became.into(), generation })
        };
        match (self.kind.as_str(), self.str("from"), self.str("to")) {
            ("provision_requested", ..) if self.data["generation"] == 1 => moved(None, "requested"),
            ("provision_requested", ..) => moved(Some("pending"), "requested"),
            ("provisioned", ..) => moved(Some("requested"), "pending"),
            ("provision_failed", None, None) if self.by_system => moved(Some("deleting"), "failed"),
            ("provision_failed", None, None) => moved(Some("requested"), "failed"),
            ("deprovision_requested", from, _) => moved(from, "deleting"),
            ("deprovisioned", ..) if self.data.get("registration_token_expires_at").is_some() => {
                moved(Some("pending"), "deleted")
            }
            ("deprovisioned", ..) => moved(Some("deleting"), "deleted"),
            ("deprovision_refused", _, Some("deleting")) => None,
            ("deprovision_refused", _, Some(back)) => moved(Some("deleting"), back),
            (_, Some(from), Some(to)) if from != to => moved(Some(from), to),
            _ => None,
        }
    }

    /// Whether this is why `out` is no more.
    fn justifies(&self, out: &HandedOut, drifted: bool) -> bool {
        let started_before = out.started_at.is_some_and(|at| at < self.at);
        match self.kind.as_str() {
            "deprovision_requested" => {
                let by_time = matches!(self.str("reason"), Some("stale" | "start deadline"));
                !self.by_system || by_time || drifted && self.str("reason") == Some("label drift")
            }
            "provision_requested" => {
                let later = self.data["generation"].as_i64() > Some(out.generation.into());
                later && !started_before
            }
            _ => false,
        }
    }
}
