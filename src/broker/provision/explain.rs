//! The decision without doing it: what a provision would get now.

use crate::broker::people::caller::Caller;
use crate::broker::{Broker, Error};
use crate::model::Label;
use crate::policy::{Ask, Usage};
use crate::store::{policies, runners};

/// What a provision with this ask would be told.
#[derive(Debug)]
pub struct Explanation {
    /// The team that would get the runner; `None`: none was found.
    pub team: Option<String>,
    /// All that the runner would have.
    pub labels: Vec<Label>,
    /// Why not; `None`: the provision would be granted.
    pub refusal: Option<Error>,
}

impl Broker {
    /// Decides as `provision` would, without a row, a lock or an event. Refusals are part of the answer;
    /// `Err` is for what kept us from deciding.
    ///
    /// # Errors
    ///
    /// [`Error::GitHub`] or [`Error::Store`].
    pub async fn explain(&self, caller: &Caller, ask: &Ask) -> Result<Explanation, Error> {
        let placed = match self.place(caller, ask, self.deadline()).await {
            Ok(placed) => placed,
            Err(Error::Denied(denial)) => {
                let team = caller.membership(ask.team.as_deref()).map(|of| of.team.name().to_owned());
                let refusal = Some(Error::Denied(denial));
                return Ok(Explanation { team, labels: Vec::new(), refusal });
            }
            Err(err) => return Err(err),
        };
        let (permit, now) = (placed.permit(), self.clock.now());
        let mut conn = self.store.conn().await?;
        let usage = Usage {
            live_runners: runners::count_for_quota(&mut conn, permit.team(), now).await?,
            recent_requests: policies::recent_requests(&mut conn, permit.team(), now).await?.0,
        };
        let refusal = placed.grant(usage).err().map(Error::Denied);
        let (team, labels) = (permit.team().to_owned(), permit.labels().iter().cloned().collect());
        Ok(Explanation { team: Some(team), labels, refusal })
    }
}
