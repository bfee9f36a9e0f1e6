//! Refusals that are counted rather than listed, since the log cannot be pruned: those of tokens, of callers without a team,
//! of deactivated identities and of denied callers all, since anybody can mint a token for our audience; those of callers
//! whom the policy names beyond some a minute. Bursts of refused tokens are reported.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use metrics::counter;
use serde_json::json;

use super::caller::{Caller, Origin};
use super::sign_in_limit::count as count_sign_in;
use crate::broker::events::{About, Actor, Kind, record};
use crate::broker::{Broker, Error};
use crate::store::audit::NewEvent;

/// So many refused tokens of one bucket within `WINDOW` are a burst.
const BURST: u64 = 100;
const WINDOW: TimeDelta = TimeDelta::minutes(1);

/// So many refusals of callers with the same teams and roles have events of their own within `WINDOW`.
const OWN_EVENTS: u64 = 10;

/// What is counted together. All unknown issuers share one bucket, and so do all callers with the same teams and roles:
/// nobody can make more of them, as they could by another subject.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Bucket {
    kind: Kind,
    issuer: Option<String>,
    whose: Whose,
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Whose {
    Anybody,
    /// An identity that our table has.
    Subject(String),
    /// See [`Caller::standing`].
    Standing(String),
}

#[derive(Debug)]
struct Count {
    /// Since the last flush, without the first one.
    further: u64,
    window_began: DateTime<Utc>,
    in_window: u64,
    /// It was told of, and has not ended since.
    in_burst: bool,
}

impl Count {
    /// One more; whether it is the one that makes a burst.
    fn add(&mut self, now: DateTime<Utc>) -> bool {
        if now - self.window_began >= WINDOW {
            let ended = self.in_window < BURST || now - self.window_began >= WINDOW * 2;
            self.in_burst &= !ended;
            (self.window_began, self.in_window) = (now, 0);
        }
        self.in_window += 1;
        let begins = self.in_window == BURST && !self.in_burst;
        self.in_burst |= begins;
        begins
    }
}

/// What a refusal is to its bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    First,
    Further,
    /// Of those that were counted, the one that makes them too many.
    Burst,
}

/// How many came after the first of each bucket, since the last flush. The first is written at once; a bucket
/// is forgotten when nothing came for a whole minute.
#[derive(Debug, Default)]
pub struct Refusals {
    counts: Mutex<HashMap<Bucket, Count>>,
    /// By standing: when the window began, and the events in it.
    own: Mutex<HashMap<String, (DateTime<Utc>, u64)>>,
}

impl Refusals {
    fn counts(&self) -> MutexGuard<'_, HashMap<Bucket, Count>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, bucket: &Bucket, now: DateTime<Utc>) -> Position {
        let mut counts = self.counts();
        match counts.get_mut(bucket) {
            Some(count) => {
                count.further += 1;
                if count.add(now) { Position::Burst } else { Position::Further }
            }
            None => {
                let count = Count { further: 0, window_began: now, in_window: 1, in_burst: false };
                counts.insert(bucket.clone(), count);
                Position::First
            }
        }
    }

    /// Whether there is room for one more event of its own, which is taken.
    fn take_own(&self, standing: &str, now: DateTime<Utc>) -> bool {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let (began, events) = own.entry(standing.to_owned()).or_insert((now, 0));
        if now - *began >= WINDOW {
            (*began, *events) = (now, 0);
        }
        *events += 1;
        *events <= OWN_EVENTS
    }

    /// The first one could not be written: the next is the first again.
    fn forget(&self, bucket: &Bucket) {
        self.counts().remove(bucket);
    }

    /// Takes the counts that must be written now.
    fn drain(&self) -> Vec<(Bucket, u64)> {
        let mut counts = self.counts();
        counts.retain(|_, count| count.further > 0);
        counts
            .iter_mut()
            .map(|(bucket, count)| (bucket.clone(), std::mem::take(&mut count.further)))
            .collect()
    }

    /// A count that could not be written.
    fn put_back(&self, bucket: &Bucket, count: u64, now: DateTime<Utc>) {
        let fresh = || Count { further: 0, window_began: now, in_window: 0, in_burst: false };
        self.counts().entry(bucket.clone()).or_insert_with(fresh).further += count;
    }
}

impl Broker {
    /// Notes a token that was refused. The event is written in the background: a refusal must not be
    /// slower, nor fail, for being logged.
    pub fn note_refused_token(self: &Arc<Self>, issuer: Option<String>, why: String, origin: &Origin) {
        let bucket =
            Bucket { kind: Kind::TokenRefused, issuer, whose: Whose::Anybody, code: "INVALID_TOKEN" };
        let kind = match self.refusals.note(&bucket, self.clock.now()) {
            Position::First => Kind::TokenRefused,
            Position::Further => return,
            Position::Burst => Kind::InvalidTokenBurst,
        };
        let mut event = self.event(kind, Actor::System("authentication"));
        event.issuer = bucket.issuer.clone();
        event.request_id = Some(origin.request_id.clone());
        event.request_ip = origin.address.clone();
        event.user_agent = origin.user_agent.clone();
        event.error_code = Some("INVALID_TOKEN".into());
        event.error_message = Some(why);
        if kind == Kind::InvalidTokenBurst {
            event = event.with(json!({ "count": BURST, "within_seconds": WINDOW.num_seconds() }));
        }
        self.write_refusal(bucket, event);
    }

    /// Notes that somebody tried who was deactivated; as `note_refused_token`.
    pub(in crate::broker) fn note_refused_identity(self: &Arc<Self>, caller: &Caller) {
        self.note_refused_caller(Kind::IdentityRefused, caller, &Error::IdentityDeactivated);
    }

    /// Notes that a caller tried whom this deny rule matches; as `note_refused_token`.
    pub(in crate::broker) fn note_denied(self: &Arc<Self>, caller: &Caller, rule: &str) {
        let err = Error::AccessDenied;
        let issuer = Some(caller.identity.issuer.clone());
        // Not by subject: who is denied may choose it.
        let bucket = Bucket { kind: Kind::AccessDenied, issuer, whose: Whose::Anybody, code: err.code() };
        if self.refusals.note(&bucket, self.clock.now()) == Position::First {
            let mut event = self.event(Kind::AccessDenied, caller.actor()).because(&err);
            event.policy_rule = Some(rule.to_owned());
            self.write_refusal(bucket, event);
        }
    }

    /// Notes that somebody called for something that their role does not allow; as `note_refused_token`.
    pub fn note_forbidden(self: &Arc<Self>, caller: &Caller) {
        let kind = if caller.is_stranger() { Kind::CallerRefused } else { Kind::AccessRefused };
        self.note_refused_caller(kind, caller, &Error::Forbidden);
    }

    fn note_refused_caller(self: &Arc<Self>, kind: Kind, caller: &Caller, err: &Error) {
        let identity = &caller.identity;
        let whose = match kind {
            Kind::CallerRefused => Whose::Anybody,
            Kind::IdentityRefused => Whose::Subject(identity.subject.clone()),
            _ => Whose::Standing(caller.standing()),
        };
        let issuer = match &whose {
            Whose::Standing(_) => None,
            Whose::Anybody | Whose::Subject(_) => Some(identity.issuer.clone()),
        };
        let bucket = Bucket { kind, issuer, whose, code: err.code() };
        if self.refusals.note(&bucket, self.clock.now()) == Position::First {
            self.write_refusal(bucket, self.event(kind, caller.actor()).because(err));
        }
    }

    /// Notes that nobody was signed in by this provider; as `note_refused_token`. `provider` is configured, so that
    /// nobody can make more buckets.
    pub fn note_refused_sign_in(
        self: &Arc<Self>,
        provider: &str,
        issuer: &str,
        code: &'static str,
        why: String,
        origin: &Origin,
    ) {
        count_sign_in(provider, code);
        let kind = Kind::SignInRefused;
        let bucket = Bucket { kind, issuer: Some(issuer.to_owned()), whose: Whose::Anybody, code };
        if self.refusals.note(&bucket, self.clock.now()) != Position::First {
            return;
        }
        let mut event = self.event(kind, Actor::System("sign-in")).with(json!({ "provider": provider }));
        event.issuer = bucket.issuer.clone();
        event.request_id = Some(origin.request_id.clone());
        event.request_ip = origin.address.clone();
        event.user_agent = origin.user_agent.clone();
        event.error_code = Some(code.into());
        event.error_message = Some(why);
        self.write_refusal(bucket, event);
    }

    /// Notes what somebody did who has neither team nor role, and may; as `note_refused_token`.
    pub(in crate::broker) fn note_stranger(self: &Arc<Self>, kind: Kind, caller: &Caller) {
        let issuer = Some(caller.identity.issuer.clone());
        let bucket = Bucket { kind, issuer, whose: Whose::Anybody, code: "NO_TEAM" };
        if self.refusals.note(&bucket, self.clock.now()) == Position::First {
            self.write_refusal(bucket, self.event(kind, caller.actor()));
        }
    }

    /// Notes a webhook without a good signature; as `note_refused_token`.
    pub fn note_unsigned_webhook(self: &Arc<Self>, why: &'static str, origin: &Origin) {
        counter!("webhook_deliveries_total", "event" => "other", "outcome" => "unsigned").increment(1);
        let kind = Kind::WebhookSignatureInvalid;
        let code = "WEBHOOK_SIGNATURE_INVALID";
        let bucket = Bucket { kind, issuer: None, whose: Whose::Anybody, code };
        if self.refusals.note(&bucket, self.clock.now()) != Position::First {
            return;
        }
        let mut event = self.event(kind, Actor::System("webhooks"));
        event.request_id = Some(origin.request_id.clone());
        event.request_ip = origin.address.clone();
        event.user_agent = origin.user_agent.clone();
        event.error_code = Some(bucket.code.into());
        event.error_message = Some(why.into());
        self.write_refusal(bucket, event);
    }

    fn write_refusal(self: &Arc<Self>, bucket: Bucket, event: NewEvent) {
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
    pub(in crate::broker) async fn note_refused_stranger(
        &self,
        caller: &Caller,
        err: &Error,
    ) -> Result<(), Error> {
        let issuer = Some(caller.identity.issuer.clone());
        let bucket = Bucket { kind: Kind::CallerRefused, issuer, whose: Whose::Anybody, code: err.code() };
        if self.refusals.note(&bucket, self.clock.now()) != Position::First {
            return Ok(());
        }
        let event = self.event(Kind::CallerRefused, caller.actor()).because(err);
        let written = self.store.transaction(async |conn| record(conn, event).await).await;
        if written.is_err() {
            self.refusals.forget(&bucket);
        }
        written
    }

    /// Whether what this caller is refused, or what changes nothing, has an event of its own. If not it is counted, and
    /// the count is written once a minute.
    pub(in crate::broker) fn has_own_event(&self, caller: &Caller, kind: Kind, code: &'static str) -> bool {
        let (standing, now) = (caller.standing(), self.clock.now());
        if self.refusals.take_own(&standing, now) {
            return true;
        }
        let bucket = Bucket { kind, issuer: None, whose: Whose::Standing(standing), code };
        self.refusals.put_back(&bucket, 1, now);
        false
    }

    /// Writes how many refusals came after the first of each bucket; called once a minute and at the end.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    pub async fn flush_refusals(&self) -> Result<(), Error> {
        let mut result = Ok(());
        for (bucket, count) in self.refusals.drain() {
            let actor = match bucket.kind {
                Kind::WebhookSignatureInvalid => Actor::System("webhooks"),
                Kind::SignedIn | Kind::SignedOut | Kind::SignInRefused => Actor::System("sign-in"),
                _ => Actor::System("authentication"),
            };
            let mut event = self.event(bucket.kind, actor).with(json!({ "further": count }));
            event.issuer = bucket.issuer.clone();
            match &bucket.whose {
                Whose::Anybody => {}
                Whose::Subject(subject) => event.subject = Some(subject.clone()),
                // For the team's members to read, if it is one team.
                Whose::Standing(standing) => {
                    let is_team = self.policy.load().rules.team(standing).is_some();
                    event.team = is_team.then(|| standing.clone());
                    event = event.with(json!({ "teams_and_roles": standing }));
                }
            }
            event.error_code = (!bucket.kind.success()).then(|| bucket.code.into());
            let written = self.store.transaction::<_, Error, _>(async |conn| record(conn, event).await).await;
            if written.is_err() {
                self.refusals.put_back(&bucket, count, self.clock.now());
                result = written;
            }
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket() -> Bucket {
        Bucket { kind: Kind::TokenRefused, issuer: None, whose: Whose::Anybody, code: "INVALID_TOKEN" }
    }

    /// How many bursts begin when so many are refused at `at`.
    fn bursts(refusals: &Refusals, count: u64, at: DateTime<Utc>) -> usize {
        (0..count).filter(|_| refusals.note(&bucket(), at) == Position::Burst).count()
    }

    #[test]
    fn a_burst_is_told_of_once_however_long_it_lasts() {
        let (refusals, start) = (Refusals::default(), Utc::now());
        let minute = |number: i32| start + WINDOW * number;
        assert_eq!(bursts(&refusals, BURST - 1, minute(0)), 0);
        assert_eq!(bursts(&refusals, 3 * BURST, minute(0)), 1);
        assert_eq!(bursts(&refusals, 2 * BURST, minute(1)), 0);
        assert_eq!(bursts(&refusals, BURST - 1, minute(2)), 0, "it has ended");
        assert_eq!(bursts(&refusals, BURST, minute(3)), 1, "the next one");
        assert_eq!(bursts(&refusals, BURST, minute(9)), 1, "and one after a quiet time");
    }

    #[test]
    fn a_trickle_is_no_burst_and_a_flush_does_not_hide_one() {
        let (refusals, start) = (Refusals::default(), Utc::now());
        for number in 0..20 {
            assert_eq!(bursts(&refusals, BURST / 2, start + WINDOW * number), 0);
        }
        let later = start + WINDOW * 30;
        assert_eq!(bursts(&refusals, BURST / 2, later), 0);
        refusals.drain();
        assert_eq!(bursts(&refusals, BURST / 2, later), 1);
    }
}
