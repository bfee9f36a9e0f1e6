//! Reading runners: a page, one with its events and jobs. Changes nothing.

use uuid::Uuid;

use crate::broker::people::caller::Caller;
use crate::broker::people::scopes::runner_scope;
use crate::broker::{Broker, Error};
use crate::store::Store;
use crate::store::audit::{self, Event};
use crate::store::jobs::{self, Job};
use crate::store::runners::{self, Filter, Runner};

/// Where `total` stops counting.
pub const MOST_COUNTED: i64 = 10_000;

/// How many of its jobs.
const JOBS_SHOWN: i64 = 5;

/// One page of runners, newest first.
#[derive(Debug)]
pub struct RunnerPage {
    /// The runners of this page.
    pub runners: Vec<Runner>,
    /// Of all pages, at most `MOST_COUNTED`.
    pub total: i64,
    /// There may be more than `total`.
    pub total_capped: bool,
    /// Where the next page begins; `None`: this is the last. This one may have fewer runners than wanted all the
    /// same: see `store::walk`.
    pub next: Option<Uuid>,
}

impl Broker {
    /// A page of the runners that the caller may see.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    pub async fn runners(
        &self,
        caller: &Caller,
        filter: &Filter,
        before: Option<Uuid>,
        limit: i64,
    ) -> Result<RunnerPage, Error> {
        let scope = runner_scope(caller);
        let mut conn = self.store.conn().await?;
        let (runners, next) = runners::page(&mut conn, &scope, filter, before, limit).await?;
        let total = runners::total(&mut conn, &scope, filter, MOST_COUNTED).await?;
        Ok(RunnerPage { runners, total: total.count, total_capped: total.capped, next })
    }

    /// One runner that the caller may see, by its id or its live name, with its newest events.
    ///
    /// # Errors
    ///
    /// [`Error::RunnerNotFound`] or [`Error::Store`].
    pub async fn runner(&self, caller: &Caller, id_or_name: &str) -> Result<(Runner, Vec<Event>), Error> {
        let not_found = || Error::RunnerNotFound(id_or_name.to_owned());
        let scope = runner_scope(caller);
        let mut conn = self.store.conn().await?;
        if let Ok(id) = id_or_name.parse() {
            let (runner, events) = runners::with_events(&mut conn, id).await?;
            let runner = runner.filter(|runner| scope.has(runner)).ok_or_else(not_found)?;
            return Ok((runner, events));
        }
        let runner = runners::find(&mut conn, id_or_name, &scope).await?.ok_or_else(not_found)?;
        let events = audit::of_runner(&mut conn, runner.id, runners::MAX_EVENTS).await?;
        Ok((runner, events))
    }

    /// Those of these runners that the caller may see, newest first.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    pub async fn some_runners(&self, caller: &Caller, ids: &[Uuid]) -> Result<Vec<Runner>, Error> {
        let mut conn = self.store.conn().await?;
        Ok(runners::some(&mut conn, &runner_scope(caller), ids).await?)
    }

    /// The newest jobs of a runner that the caller has been shown.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    pub async fn jobs_of(&self, runner: &Runner) -> Result<Vec<Job>, Error> {
        let Some(id) = runner.github_runner_id else { return Ok(Vec::new()) };
        let mut conn = self.store.conn().await?;
        Ok(jobs::of_runner(&mut conn, runner.target.owner(), id, JOBS_SHOWN).await?)
    }
}

/// All runners for an operator at the machine, newest first, given to `each` page by page.
///
/// # Errors
///
/// [`Error::Store`].
pub async fn all_runners(
    store: &Store,
    filter: &Filter,
    mut each: impl FnMut(&Runner) -> std::io::Result<()>,
) -> Result<std::io::Result<()>, Error> {
    let mut conn = store.conn().await?;
    let mut before = None;
    loop {
        let (page, next) = runners::page(&mut conn, &runners::Scope::All, filter, before, 1_000).await?;
        for runner in &page {
            if let Err(err) = each(runner) {
                return Ok(Err(err));
            }
        }
        match next {
            Some(_) => before = next,
            None => return Ok(Ok(())),
        }
    }
}
