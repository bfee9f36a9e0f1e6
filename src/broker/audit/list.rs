//! Reading the audit log, a page at a time. Changes nothing.

use crate::broker::people::caller::Caller;
use crate::broker::people::scopes::audit_scope;
use crate::broker::{Broker, Error};
use crate::store::audit::{self, Event};

/// One page of the log, newest first.
#[derive(Debug)]
pub struct EventPage {
    /// The events of this page.
    pub events: Vec<Event>,
    /// Where the next page begins; `None`: this is the last.
    pub next: Option<i64>,
}

impl Broker {
    /// A page of the events that the caller may see.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    pub async fn events(
        &self,
        caller: &Caller,
        filter: &audit::Filter,
        before: Option<i64>,
        limit: i64,
    ) -> Result<EventPage, Error> {
        let mut conn = self.store.conn().await?;
        let (events, next) = audit::page(&mut conn, &audit_scope(caller), filter, before, limit).await?;
        Ok(EventPage { events, next })
    }
}
