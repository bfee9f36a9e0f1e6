//! Several runners of a caller's own, each removed as if it were asked for alone.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream;

use super::batch::{Done, Item};
use crate::broker::Broker;
use crate::broker::people::caller::Caller;

/// How many GitHub is asked to delete at the same time.
const AT_ONCE: usize = 4;

impl Broker {
    /// What came of each, in their order. Unlike an administrator's batch this is no event of its own.
    pub async fn remove_own(
        self: &Arc<Self>,
        caller: &Caller,
        ids: Vec<String>,
        force_when_idle: bool,
    ) -> Vec<Item> {
        let work = |id: String| async move {
            let removed = self.remove(caller, &id, force_when_idle).await;
            Item { id, name: None, result: removed.map(|(_, outcome)| Done::Removed(outcome)) }
        };
        stream::iter(ids).map(work).buffered(AT_ONCE).collect().await
    }
}
