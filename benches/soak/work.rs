//! The mixed load: callers who provision, read, list and remove, runners that live and end, webhooks about their jobs,
//! pages that are looked at. Each request is due at a moment of its own, whatever the answers take.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::Utc;
use runner_broker::dev::github::{JobState, signature};
use serde::Deserialize;
use serde_json::json;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::lines::Lines;
use crate::site::{ORG, SECRET, Site, session_of};
use crate::tally::Tally;

pub const TEAMS: u64 = 5;
/// Who looks at pages.
pub const PEOPLE: u64 = 20;

/// Places in `tally::KINDS`.
const PROVISION: usize = 0;
const READ: usize = 1;
const LIST: usize = 2;
const REMOVE: usize = 3;
const WEBHOOK: usize = 4;
const AUDIT: usize = 5;
const PAGE: usize = 6;

/// So many of the newest runners are read.
const REMEMBERED: usize = 2_000;

/// Every so manieth runner is removed by its caller before it starts.
const REMOVED: u64 = 10;

/// A job ends after 20 to 80 s, so that there are 60 runners for each provision a second.
const SHORTEST: u64 = 20_000;
const SPREAD: u64 = 60_000;

const LISTS: [&str; 4] = ["", "?status=active", "?label=docker&limit=20", "?q=7"];
const AUDITS: [&str; 4] = ["", "?event_type=provisioned", "?team=team-1", "?success=false"];
const PAGES: [&str; 7] = ["/", "/runners", "/jobs", "/audit", "/teams", "/security", "/system"];
/// The last so many are shown to admins alone, who are every second person.
const ADMINS: usize = 2;

/// A second.
pub struct Rates {
    pub provisions: f64,
    pub reads: f64,
    pub lists: f64,
    pub audits: f64,
    pub pages: f64,
}

pub struct Work {
    pub site: Site,
    pub tally: Tally,
    lines: Lines,
    /// Of each team's caller, then of an admin; made anew before they end.
    tokens: Mutex<Vec<String>>,
    /// Team and id.
    runners: Mutex<VecDeque<(u64, String)>>,
    number: AtomicU64,
}

#[derive(Deserialize)]
struct Jit {
    runner_id: String,
    runner_name: String,
    github_runner_id: i64,
    encoded_jit_config: String,
}

impl Work {
    pub fn at(site: Site) -> Work {
        let lines = Lines::to(site.replicas[0].port);
        let work = Work {
            site,
            tally: Tally::default(),
            lines,
            tokens: Mutex::default(),
            runners: Mutex::default(),
            number: AtomicU64::new(0),
        };
        work.mint();
        work
    }

    /// New tokens for everybody.
    pub fn mint(&self) {
        let token =
            |team: String| self.site.issuer.mint(json!({ "sub": format!("{team}-caller"), "team": team }));
        let teams = (0..TEAMS).map(|team| format!("team-{team}"));
        let minted = teams.chain(["admin".to_owned()]).map(token).collect();
        *self.tokens.lock().unwrap_or_else(PoisonError::into_inner) = minted;
    }

    /// Begins everything; each request is a task of its own.
    pub fn begin(self: &Arc<Work>, rates: &Rates, stop: &CancellationToken) {
        self.at_rate(rates.provisions, stop, |work, due, n| async move { work.life(due, n).await });
        self.at_rate(rates.reads, stop, |work, due, n| async move {
            let Some((team, id)) = work.some_runner(n) else { return };
            let reader = if n.is_multiple_of(2) { team } else { TEAMS };
            let request = work.get(reader, &format!("/api/v1/runners/{id}"));
            work.lines.call(&work.tally, READ, due, &request).await;
        });
        self.at_rate(rates.lists, stop, |work, due, n| async move {
            let list = format!("/api/v1/runners{}", LISTS[n as usize % LISTS.len()]);
            work.lines.call(&work.tally, LIST, due, &work.get(n % (TEAMS + 1), &list)).await;
        });
        self.at_rate(rates.audits, stop, |work, due, n| async move {
            let list = format!("/api/v1/audit{}", AUDITS[n as usize % AUDITS.len()]);
            work.lines.call(&work.tally, AUDIT, due, &work.get(TEAMS, &list)).await;
        });
        self.at_rate(rates.pages, stop, |work, due, n| async move {
            let place = n as usize % PAGES.len();
            let person = if place + ADMINS < PAGES.len() { n } else { 2 * n };
            let request = page(PAGES[place], person % PEOPLE);
            work.lines.call(&work.tally, PAGE, due, &request).await;
        });
    }

    fn at_rate<F>(
        self: &Arc<Work>,
        rate: f64,
        stop: &CancellationToken,
        act: impl Fn(Arc<Work>, Instant, u64) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        if rate <= 0.0 {
            return;
        }
        let (work, stop) = (self.clone(), stop.clone());
        tokio::spawn(async move {
            let begun = Instant::now();
            for n in 0.. {
                let due = begun + Duration::from_secs_f64(n as f64 / rate);
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep_until(due.into()) => {}
                }
                tokio::spawn(act(work.clone(), due, n));
            }
        });
    }

    /// A runner from its job's first webhook to the last.
    async fn life(&self, due: Instant, n: u64) {
        let team = n % TEAMS;
        let number = self.number.fetch_add(1, Ordering::Relaxed) as i64;
        let now = Utc::now();
        let mut job = JobState {
            id: 20_000_000_000 + number,
            run_id: 10_000_000_000 + number / 3,
            repository: format!("{ORG}/repo-{}", n % 50),
            name: format!("build {}", n % 7),
            labels: ["self-hosted", "linux", "x64", "docker"].map(str::to_owned).into(),
            status: "queued",
            conclusion: None,
            runner: None,
            created_at: now,
            started_at: None,
            completed_at: None,
        };
        let (_, made) = tokio::join!(self.deliver(&job), self.provision(due, team, number));
        let Some(made) = made else { return };
        sleep(Duration::from_millis(1_000 + self.drawn(n) % 3_000)).await;
        if n.is_multiple_of(REMOVED) {
            let path = format!("/api/v1/runners/{}", made.runner_id);
            let request = self.get(team, &path).replacen("GET", "DELETE", 1);
            self.lines.call(&self.tally, REMOVE, Instant::now(), &request).await;
            job.conclusion = Some("cancelled");
        } else {
            job.runner = Some((ORG.to_owned(), made.github_runner_id, made.runner_name.clone()));
            if !self.runs(&mut job, &made, n).await {
                return;
            }
            job.conclusion = Some("success");
        }
        (job.status, job.completed_at) = ("completed", Some(Utc::now()));
        self.deliver(&job).await;
    }

    /// The machine connects, takes its job and ends it. `false`: GitHub would not have it.
    async fn runs(&self, job: &mut JobState, made: &Jit, n: u64) -> bool {
        let github = &self.site.github;
        let refused = |what: &str| {
            self.tally.error(&format!("GitHub refused to {what}"));
            false
        };
        if github.connect_jit(&made.encoded_jit_config).is_err() {
            return refused("connect");
        }
        sleep(Duration::from_millis(500 + self.drawn(n + 1) % 3_000)).await;
        if github.start_job(ORG, &made.runner_name).is_err() {
            return refused("start a job");
        }
        (job.status, job.started_at) = ("in_progress", Some(Utc::now()));
        self.deliver(job).await;
        sleep(Duration::from_millis(SHORTEST + self.drawn(n + 2) % SPREAD)).await;
        match github.finish_job(ORG, &made.runner_name) {
            Ok(()) => true,
            Err(_) => refused("end a job"),
        }
    }

    async fn provision(&self, due: Instant, team: u64, number: i64) -> Option<Jit> {
        let body = format!(r#"{{"runner_name":"soak-{number}","labels":["docker"]}}"#);
        let request = format!(
            "POST /api/v1/runners/jit HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {}\r\nuser-agent: soak\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.token(team),
            body.len()
        );
        let answer = self.lines.call(&self.tally, PROVISION, due, &request).await?;
        let Ok(made) = serde_json::from_slice::<Jit>(&answer) else {
            self.tally.error("provision not understood");
            return None;
        };
        let mut runners = self.runners.lock().unwrap_or_else(PoisonError::into_inner);
        runners.push_back((team, made.runner_id.clone()));
        if runners.len() > REMEMBERED {
            runners.pop_front();
        }
        drop(runners);
        Some(made)
    }

    async fn deliver(&self, job: &JobState) {
        let body = self.site.github.job_payload(job).to_string();
        let request = format!(
            "POST /api/v1/webhooks/github HTTP/1.1\r\nhost: bench\r\nuser-agent: GitHub-Hookshot/soak\r\n\
             content-type: application/json\r\nx-github-event: workflow_job\r\n\
             x-github-delivery: soak-{}-{}\r\nx-hub-signature-256: {}\r\ncontent-length: {}\r\n\r\n{body}",
            job.id,
            job.status,
            signature(SECRET, body.as_bytes()),
            body.len()
        );
        self.lines.call(&self.tally, WEBHOOK, Instant::now(), &request).await;
    }

    fn some_runner(&self, n: u64) -> Option<(u64, String)> {
        let runners = self.runners.lock().unwrap_or_else(PoisonError::into_inner);
        // A stride that visits all of them in no order.
        runners.get((n as usize * 7919) % runners.len().max(1)).cloned()
    }

    fn token(&self, caller: u64) -> String {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)[caller as usize].clone()
    }

    fn get(&self, caller: u64, path: &str) -> String {
        format!(
            "GET {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {}\r\nuser-agent: soak\r\n\r\n",
            self.token(caller)
        )
    }

    /// A number that looks like chance and is the same in every run (SplitMix64).
    fn drawn(&self, n: u64) -> u64 {
        let mut z = n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// A page as one of the people asks for it.
pub fn page(path: &str, person: u64) -> String {
    let session = session_of(&format!("person-{person}"));
    format!(
        "GET {path} HTTP/1.1\r\nhost: bench\r\ncookie: runner-broker={session}\r\naccept: text/html\r\n\r\n"
    )
}
