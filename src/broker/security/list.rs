//! Reading security events, a page at a time. Changes nothing.

use chrono::{DateTime, Utc};

use crate::broker::events::{Severity, Type, classify};
use crate::broker::{Broker, Error};
use crate::store::audit::Event;
use crate::store::security::{self, Cursor, Filter};

/// A security event as it is shown.
#[derive(Debug)]
pub struct SecurityEvent {
    /// The type.
    pub kind: Type,
    /// The event of the log.
    pub event: Event,
}

/// One page of security events, newest first.
#[derive(Debug)]
pub struct SecurityPage {
    /// The events of this page.
    pub events: Vec<SecurityEvent>,
    /// Where the next page begins; `None`: this is the last.
    pub next: Option<Cursor>,
}

/// Which security events to show; `None` filters nothing.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The type.
    pub kind: Option<Type>,
    /// The severity.
    pub severity: Option<Severity>,
    /// The team.
    pub team: Option<String>,
    /// From then on.
    pub since: Option<DateTime<Utc>>,
    /// Before then.
    pub until: Option<DateTime<Utc>>,
}

impl Broker {
    /// A page of security events.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    pub async fn security_events(
        &self,
        wanted: Wanted,
        after: Option<Cursor>,
        limit: i64,
    ) -> Result<SecurityPage, Error> {
        let fits = |kind: &Type| {
            wanted.kind.is_none_or(|one| one == *kind)
                && wanted.severity.is_none_or(|severity| severity == kind.severity())
        };
        let filter = Filter {
            types: Type::ALL.into_iter().filter(fits).map(Type::as_str).collect(),
            team: wanted.team,
            since: wanted.since,
            until: wanted.until,
        };
        let mut conn = self.store.conn().await?;
        let mut events = security::page(&mut conn, &filter, after, limit + 1).await?;
        let more = events.len() as i64 > limit;
        events.truncate(limit as usize);
        let next = events.last().filter(|_| more).map(|event| (event.timestamp, event.id));
        let events = events.into_iter().filter_map(|event| {
            let kind = classify(&event.event_type, event.error_code.as_deref())?;
            Some(SecurityEvent { kind, event })
        });
        Ok(SecurityPage { events: events.collect(), next })
    }
}
