//! Owners whose GitHub does not answer: their other rows wait for the next sweep.

use std::collections::HashMap;

use super::report::Report;
use crate::broker::Error;
use crate::github;
use crate::model::Target;

/// After so many questions in a row that GitHub did not answer, an owner's other rows wait for the next sweep.
const MAX_UNANSWERED: u32 = 3;

/// How often in a row GitHub did not answer, by owner: each such question costs its whole time limit.
#[derive(Default)]
pub(super) struct OwnerOutages(HashMap<String, u32>);

impl OwnerOutages {
    /// Whether this target's rows are left to the next sweep.
    pub(super) fn skips(&self, target: &Target, report: &mut Report) -> bool {
        let skips = self.0.get(target.owner()).is_some_and(|&count| count >= MAX_UNANSWERED);
        report.failures += usize::from(skips);
        skips
    }

    pub(super) fn record<T>(&mut self, target: &Target, result: Result<T, Error>) -> Result<T, Error> {
        let count = self.0.entry(target.owner().to_owned()).or_default();
        *count = match &result {
            Err(Error::GitHub(github::Error::Unavailable { .. } | github::Error::RateLimited { .. })) => {
                *count + 1
            }
            _ => 0,
        };
        result
    }
}
