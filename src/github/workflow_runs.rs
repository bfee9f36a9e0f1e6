//! Workflow runs: the one thing that the broker does with them is to cancel one.

use http::StatusCode;

use super::GitHub;
use super::answer::refusal;
use super::call::Call;
use super::deadline::Deadline;
use super::error::Error;
use super::installation::Permission;
use super::operation::Operation;
use super::paths::actions;
use crate::model::Target;

/// The answer to a request to cancel a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// GitHub will cancel it.
    Accepted,
    /// It has ended already, or GitHub cannot cancel it now.
    NotPossible,
}

impl GitHub {
    /// Cancels a workflow run of a repository's. Sent once.
    pub async fn cancel_run(
        &self,
        repository: &Target,
        run: i64,
        deadline: Deadline,
    ) -> Result<Cancelled, Error> {
        let path = format!("{}/runs/{run}/cancel", actions(repository));
        let call = Call::new(Operation::CancelRun, path);
        let permission = Permission::Actions;
        let answer = self.with_permission(repository, permission, &call, deadline).await?;
        match answer.status {
            StatusCode::CONFLICT => Ok(Cancelled::NotPossible),
            status if status.is_success() => Ok(Cancelled::Accepted),
            _ => Err(refusal(&answer, permission.as_str(), "such workflow run")),
        }
    }
}
