//! Why a queued job is not taken: what it asks for and no live runner has. A look at what is there now, for people;
//! `jobs` decides what is news.
//!
//! A waiting job is compared with the labels of at most 1,000 live runners each of its owner, its repository, and
//! the visitor's teams. Where there are more, the page says so.

use std::collections::BTreeSet;

use crate::broker::people::caller::Caller;
use crate::broker::people::scopes::runner_scope;
use crate::broker::{Broker, Error};
use crate::store::jobs::{Job, Offer, offers};

/// How many live runners of a target, or of a team, are looked at: thousands have a few sets of labels.
const LOOKED_AT: i64 = 1_000;
/// How many targets one page asks about.
const TARGETS: usize = 20;

/// Whether one of the caller's live runners fits a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fit {
    /// At least one has every label.
    Some,
    /// There is no live runner for its repository or its owner.
    NoRunners,
    /// Labels that none has.
    Lacking {
        /// The labels.
        labels: Vec<String>,
        /// How many runners were looked at, where that was not all.
        looked: Option<usize>,
    },
    /// Each label is there, but not at one runner.
    NotTogether {
        /// How many runners were looked at, where that was not all.
        looked: Option<usize>,
    },
}

impl Broker {
    /// Of each job that is queued, whether the caller's live runners fit it; `None` for the others, and for those of
    /// more repositories than one page is to ask about.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    pub async fn fits(&self, caller: &Caller, jobs: &[Job]) -> Result<Vec<Option<Fit>>, Error> {
        let queued = || jobs.iter().filter(|job| job.state == "queued");
        let mut targets: BTreeSet<&str> = BTreeSet::new();
        for job in queued() {
            let more =
                [owner(job), job.repository.as_str()].into_iter().filter(|name| !targets.contains(name));
            if targets.len() + more.clone().count() <= TARGETS {
                targets.extend(more.collect::<Vec<_>>());
            }
        }
        if targets.is_empty() {
            return Ok(jobs.iter().map(|_| None).collect());
        }
        let asked: Vec<&str> = targets.iter().copied().collect();
        let mut conn = self.store.conn().await?;
        let offers = offers(&mut conn, &runner_scope(caller), &asked, LOOKED_AT).await?;
        let known = |job: &&Job| job.state == "queued" && targets.contains(job.repository.as_str());
        Ok(jobs.iter().map(|job| Some(job).filter(known).map(|job| fit(job, &offers))).collect())
    }
}

fn owner(job: &Job) -> &str {
    job.repository.split_once('/').map_or(job.repository.as_str(), |(owner, _)| owner)
}

fn fit(job: &Job, offers: &[Offer]) -> Fit {
    let near: Vec<&Offer> =
        offers.iter().filter(|offer| offer.target == job.repository || offer.target == owner(job)).collect();
    if near.is_empty() {
        return Fit::NoRunners;
    }
    let has = |offer: &Offer, label: &String| offer.labels.iter().any(|one| one.eq_ignore_ascii_case(label));
    if near.iter().any(|offer| job.labels.iter().all(|label| has(offer, label))) {
        return Fit::Some;
    }
    let full: i64 = near.iter().map(|offer| offer.runners).sum();
    let looked = near.iter().any(|offer| offer.more).then_some(full.unsigned_abs() as usize);
    let labels: Vec<String> =
        job.labels.iter().filter(|label| !near.iter().any(|offer| has(offer, label))).cloned().collect();
    match labels.is_empty() {
        true => Fit::NotTogether { looked },
        false => Fit::Lacking { labels, looked },
    }
}
