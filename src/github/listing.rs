//! The whole list of a target's runners, or an error: never a part of it. Pages that did not change cost
//! nothing of GitHub's budget.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::call::Call;
use super::deadline::Deadline;
use super::error::Error;
use super::operation::Operation;
use super::paths::actions;
use super::runner::Runner;
use super::runners::{Page, not_shown, refused};
use super::{GitHub, MAX_PAGES};
use crate::model::Target;

/// A page as GitHub last sent it, kept until it changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedPage {
    /// From 1.
    pub page: u32,
    /// What GitHub answers 304 to as long as nothing changes.
    pub etag: Option<String>,
    /// In GitHub's order.
    pub runners: Vec<Runner>,
    /// Whether another page follows.
    pub has_next: bool,
    /// How many runners GitHub said there are, on all pages.
    pub total: Option<usize>,
}

/// All runners of a target.
#[derive(Clone, Debug)]
pub struct Listing {
    /// Before the first page was asked for: what was made later may be missing.
    pub started_at: DateTime<Utc>,
    /// In order, without gaps; to be given back as `known` next time.
    pub pages: Vec<CachedPage>,
    /// The numbers of the pages that differ from what was known.
    pub changed: Vec<u32>,
}

impl Listing {
    /// The runners of all pages.
    pub fn runners(&self) -> impl Iterator<Item = &Runner> {
        self.pages.iter().flat_map(|page| &page.runners)
    }

    /// Whether it shows as many as there were when it began. Each runner that goes while the pages are read
    /// hides another one that moves up to a page that was read already.
    pub fn shows_all(&self) -> bool {
        let shown: HashSet<i64> = self.runners().map(|runner| runner.id).collect();
        self.pages.first().and_then(|page| page.total).is_none_or(|total| shown.len() >= total)
    }
}

impl GitHub {
    /// Reads every page. `known` are the pages of the last listing, in any order, or none.
    pub async fn list_runners(
        &self,
        target: &Target,
        mut known: Vec<CachedPage>,
        deadline: Deadline,
    ) -> Result<Listing, Error> {
        let started_at = self.clock().now();
        let mut pages = Vec::with_capacity(known.len().max(1));
        let mut changed = Vec::new();
        for page in 1..=MAX_PAGES {
            let cached = known.iter().position(|cached| cached.page == page).map(|at| known.swap_remove(at));
            let (read, same) = self.page(target, page, cached, deadline).await?;
            if !same {
                changed.push(page);
            }
            let last = !read.has_next;
            pages.push(read);
            if last {
                return Ok(Listing { started_at, pages, changed });
            }
        }
        Err(Error::endless())
    }

    /// One page, and whether it is the cached one.
    async fn page(
        &self,
        target: &Target,
        page: u32,
        cached: Option<CachedPage>,
        deadline: Deadline,
    ) -> Result<(CachedPage, bool), Error> {
        let path = format!("{}/runners?per_page=100&page={page}", actions(target));
        let etag = cached.as_ref().and_then(|cached| cached.etag.as_deref());
        let call = Call { etag, ..Call::new(Operation::ListRunners, path) };
        let answer = self.as_installation(target, &call, deadline).await?;
        if let (StatusCode::NOT_MODIFIED, Some(cached)) = (answer.status, &cached) {
            let has_next = answer.has_next().unwrap_or(cached.has_next);
            let same = has_next == cached.has_next;
            return Ok((CachedPage { has_next, ..cached.clone() }, same));
        }
        if !answer.status.is_success() {
            return Err(refused(&answer, target, &not_shown(target)));
        }
        let Page { total_count: total, runners } = answer.decode(false)?;
        let runners = runners.into_iter().map(Runner::from).collect();
        let etag = answer.etag().map(str::to_owned);
        Ok((CachedPage { page, etag, runners, has_next: answer.has_next() == Some(true), total }, false))
    }
}
