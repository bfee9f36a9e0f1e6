//! Refusals of tokens and of strangers, counted rather than listed: anybody can mint a token for our
//! audience, and the log cannot be pruned.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use metrics::counter;
use serde_json::json;

use super::caller::{Caller, Origin};
use super::events::{About, Actor, Kind, record};
use super::{Broker, Error};
use crate::store::audit::NewEvent;

/// So many webhooks without a good signature in a minute are no mistake in somebody's settings any more.
const MANY: u64 = 10;

/// What is counted together. All unknown issuers share one bucket, so that nobody can make more of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Bucket {
    kind: &'static str,
    issuer: Option<String>,
    code: &'static str,
}

/// How many came after the first of each bucket, since the last flush. The first is written at once; a bucket
/// is forgotten when nothing came for a whole minute.
#[derive(Debug, Default)]
pub struct Refusals {
    further: Mutex<HashMap<Bucket, u64>>,
}

impl Refusals {
    fn further(&self) -> MutexGuard<'_, HashMap<Bucket, u64>> {
        self.further.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this is the first of its bucket; if not, it is counted.
    fn is_first(&self, bucket: &Bucket) -> bool {
        let mut further = self.further();
        match further.get_mut(bucket) {
            Some(count) => {
                *count += 1;
                false
            }
            None => further.insert(bucket.clone(), 0).is_none(),
        }
    }

    /// The first one could not be written: the next is the first again.
    fn forget(&self, bucket: &Bucket) {
        self.further().remove(bucket);
    }

    /// What was counted and is to be written now.
    fn drain(&self) -> Vec<(Bucket, u64)> {
        let mut further = self.further();
        further.retain(|_, count| *count > 0);
        further.iter_mut().map(|(bucket, count)| (bucket.clone(), std::mem::take(count))).collect()
    }

    /// A count that could not be written.
    fn put_back(&self, bucket: Bucket, count: u64) {
        *self.further().entry(bucket).or_insert(0) += count;
    }
}

impl Broker {
    /// Notes a token that was refused.
    pub fn note_refused_token(
        self: &std::sync::Arc<Self>,
        issuer: Option<String>,
        why: String,
        origin: &Origin,
    ) {
        let bucket =
            Bucket { kind: Kind::TokenRefused.as_str(), issuer: issuer.clone(), code: "INVALID_TOKEN" };
        if !self.refusals.is_first(&bucket) {
            return;
        }
        let mut event = self.event(Kind::TokenRefused, Actor::System("authentication"));
        event.issuer = issuer;
        event.request_id = Some(origin.request_id.clone());
        event.request_ip = origin.address.clone();
        event.user_agent = origin.user_agent.clone();
        event.error_code = Some("INVALID_TOKEN".into());
        event.error_message = Some(why);
        self.write_first(bucket, event);
    }

    /// Notes a webhook without a good signature, as a refused token.
    pub fn note_unsigned_webhook(self: &std::sync::Arc<Self>, why: &'static str, origin: &Origin) {
        counter!("webhook_deliveries_total", "event" => "other", "outcome" => "unsigned").increment(1);
        let kind = Kind::WebhookSignatureInvalid;
        let bucket = Bucket { kind: kind.as_str(), issuer: None, code: "WEBHOOK_SIGNATURE_INVALID" };
        if !self.refusals.is_first(&bucket) {
            return;
        }
        let mut event = self.event(kind, Actor::System("webhooks"));
        event.request_id = Some(origin.request_id.clone());
        event.request_ip = origin.address.clone();
        event.user_agent = origin.user_agent.clone();
        event.error_code = Some(bucket.code.into());
        event.error_message = Some(why.into());
        self.write_first(bucket, event);
    }

    /// Writes the first of a bucket in the background: a refusal must not be slower, nor fail, for being logged.
    fn write_first(self: &std::sync::Arc<Self>, bucket: Bucket, event: NewEvent) {
        let broker = self.clone();
        self.tasks.spawn_on(
            async move {
                let written = broker.store.transaction(async |conn| record(conn, event).await).await;
                if let Err(err) = written {
                    broker.refusals.forget(&bucket);
                    tracing::warn!(error = %err, "a refusal could not be written to the audit log");
                }
            },
            &self.runtime,
        );
    }

    /// Writes the refusal of a caller with neither team nor role, once a minute for each issuer and code.
    pub(super) async fn note_refused_stranger(&self, caller: &Caller, err: &Error) -> Result<(), Error> {
        let issuer = Some(caller.identity.issuer.clone());
        let bucket = Bucket { kind: Kind::CallerRefused.as_str(), issuer, code: err.code() };
        if !self.refusals.is_first(&bucket) {
            return Ok(());
        }
        let event = self.event(Kind::CallerRefused, Actor::Caller(caller)).because(err);
        let written = self.store.transaction(async |conn| record(conn, event).await).await;
        if written.is_err() {
            self.refusals.forget(&bucket);
        }
        written
    }

    /// Writes how many refusals came after the first of each bucket; called once a minute and at the end.
    pub async fn flush_refusals(&self) -> Result<(), Error> {
        let mut result = Ok(());
        for (bucket, count) in self.refusals.drain() {
            let kinds = [Kind::TokenRefused, Kind::WebhookSignatureInvalid];
            let kind = kinds.into_iter().find(|kind| kind.as_str() == bucket.kind);
            let kind = kind.unwrap_or(Kind::CallerRefused);
            let actor = match kind {
                Kind::WebhookSignatureInvalid => Actor::System("webhooks"),
                _ => Actor::System("authentication"),
            };
            let mut event = self.event(kind, actor).with(json!({ "further": count }));
            if kind == Kind::WebhookSignatureInvalid && count >= MANY {
                event.severity = "high";
            }
            event.issuer = bucket.issuer.clone();
            event.error_code = Some(bucket.code.into());
            let written = self.store.transaction::<_, Error, _>(async |conn| record(conn, event).await).await;
            if written.is_err() {
                self.refusals.put_back(bucket, count);
                result = written;
            }
        }
        result
    }
}
