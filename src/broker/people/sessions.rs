//! Who is signed in to the console. A session holds what the provider said at sign-in; what that is worth is asked
//! of the policy at every request, as for a token.
//!
//! A sign-in always makes a new session; the browser's former one ends in the same transaction, as do the oldest
//! beyond ten. `identities` is read `FOR SHARE` there: a deactivation at the same moment either sees the session and
//! ends it, or is seen.

use std::collections::HashSet;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

use super::caller::{Caller, Origin};
use super::sign_in_limit::{ATTEMPTS_WITHIN, count, network};
use crate::auth::Verified;
use crate::broker::events::{About, Kind, record};
use crate::broker::{Broker, Error};
use crate::model::{Identity, sha256};
use crate::store::sessions::{self, SignedIn};
use crate::store::{identities, sign_in_attempts};

/// How long somebody who does nothing stays signed in.
pub const IDLE: TimeDelta = TimeDelta::hours(1);
/// How long anybody stays signed in: what the provider said about them is no older than this.
pub const LONGEST: TimeDelta = TimeDelta::hours(8);
/// As many may somebody have at a time; the oldest ones end for newer ones.
pub const MOST: i64 = 10;
/// A page more or less does not write.
const TOUCHED_EVERY: TimeDelta = TimeDelta::minutes(1);

/// Somebody who is signed in.
#[derive(Clone, Debug)]
pub struct Session {
    /// The signed-in caller.
    pub caller: Caller,
    /// As the provider gave them at sign-in.
    pub claims: Map<String, Value>,
    /// The id of the login provider.
    pub provider: String,
    /// The token that each form of this session must send.
    pub csrf_token: String,
    /// When the session began.
    pub signed_in_at: DateTime<Utc>,
    token_sha256: String,
}

impl Broker {
    /// Signs somebody in whom a provider has vouched for; what the browser is to keep. Always a new one: what
    /// the browser had before (`replaced`) is worth nothing from then on.
    ///
    /// # Errors
    ///
    /// [`Error::AccessDenied`], [`Error::IdentityDeactivated`] or [`Error::Store`].
    pub async fn begin_session(
        self: &Arc<Self>,
        provider: &str,
        verified: Verified,
        replaced: Option<&SecretString>,
        origin: Origin,
    ) -> Result<SecretString, Error> {
        let begun = self.sign_in(provider, verified, replaced, origin).await;
        count(provider, begun.as_ref().map_or_else(Error::code, |_| "signed_in"));
        begun
    }

    async fn sign_in(
        self: &Arc<Self>,
        provider: &str,
        verified: Verified,
        replaced: Option<&SecretString>,
        origin: Origin,
    ) -> Result<SecretString, Error> {
        let claims = Value::Object(verified.claims.clone());
        let caller = self.admit(verified, origin)?;
        let token = SecretString::from(BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()));
        let Identity { issuer, subject, display_name } = caller.identity.clone();
        let event = self.event(Kind::SignedIn, caller.actor()).with(json!({ "provider": provider }));
        let who = SignedIn { provider: provider.to_owned(), issuer, subject, display_name, claims };
        let now = event.timestamp;
        let new = sha256(token.expose_secret());
        let old = replaced.map(|token| sha256(token.expose_secret()));
        let network = network(&caller.origin);
        let begun = self
            .store
            .transaction::<_, Error, _>(async |conn| {
                // By the table and not by what this replica knows: an identity that is deactivated at this moment has
                // either no session yet, or this one is ended with the others.
                if !identities::is_active(conn, &who.issuer, &who.subject).await? {
                    return Ok(Err(Error::IdentityDeactivated));
                }
                if let Some(old) = &old {
                    sessions::remove(conn, old).await?;
                }
                sessions::keep_newest(conn, &who.issuer, &who.subject, MOST - 1).await?;
                sessions::add(conn, new, who, now).await?;
                sign_in_attempts::take_back(conn, &network).await?;
                if !caller.is_stranger() {
                    record(conn, event).await?;
                }
                Ok(Ok(()))
            })
            .await?;
        if let Err(refusal) = begun {
            self.note_refused_identity(&caller);
            return Err(refusal);
        }
        if caller.is_stranger() {
            self.note_stranger(Kind::SignedIn, &caller);
        }
        Ok(token)
    }

    /// Whose session this is. `None`: nobody's, or it has ended.
    ///
    /// # Errors
    ///
    /// [`Error::AccessDenied`], [`Error::IdentityDeactivated`] or [`Error::Store`].
    pub async fn session(
        self: &Arc<Self>,
        token: &SecretString,
        origin: Origin,
    ) -> Result<Option<Session>, Error> {
        self.find_session(token, origin, true).await
    }

    /// As `session`, for what a page asks by itself: that keeps nobody signed in.
    ///
    /// # Errors
    ///
    /// [`Error::AccessDenied`], [`Error::IdentityDeactivated`] or [`Error::Store`].
    pub async fn glance(
        self: &Arc<Self>,
        token: &SecretString,
        origin: Origin,
    ) -> Result<Option<Session>, Error> {
        self.find_session(token, origin, false).await
    }

    async fn find_session(
        self: &Arc<Self>,
        token: &SecretString,
        origin: Origin,
        is_sign_of_life: bool,
    ) -> Result<Option<Session>, Error> {
        let mut conn = self.store.conn().await?;
        let token_sha256 = sha256(token.expose_secret());
        let Some(row) = sessions::find(&mut conn, &token_sha256).await? else { return Ok(None) };
        let now = self.clock.now();
        if !stands(&row, now) {
            return Ok(None);
        }
        if is_sign_of_life && now - row.last_seen_at >= TOUCHED_EVERY {
            sessions::touch(&mut conn, &token_sha256, now).await?;
        }
        drop(conn);
        let Value::Object(claims) = row.claims else { return Ok(None) };
        let identity = Identity { issuer: row.issuer, subject: row.subject, display_name: row.display_name };
        let caller = self.admit(Verified { identity, claims: claims.clone() }, origin)?;
        Ok(Some(Session {
            caller,
            claims,
            provider: row.provider,
            csrf_token: csrf_token(token),
            signed_in_at: row.created_at,
            token_sha256,
        }))
    }

    /// Which of these sessions (by `key`) have not ended: one question for all who look on.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    pub async fn standing(&self, keys: &[String]) -> Result<HashSet<String>, Error> {
        let now = self.clock.now();
        let rows = sessions::some(&mut *self.store.conn().await?, keys).await?;
        Ok(rows.into_iter().filter(|row| stands(row, now)).map(|row| row.token_sha256).collect())
    }

    /// Signs out; done again, it changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    pub async fn end_session(self: &Arc<Self>, session: &Session) -> Result<(), Error> {
        let caller = &session.caller;
        let event = self.event(Kind::SignedOut, caller.actor()).with(json!({ "provider": session.provider }));
        let ended = self
            .store
            .transaction::<_, Error, _>(async |conn| {
                let ended = sessions::remove(conn, &session.token_sha256).await?;
                if ended && !caller.is_stranger() {
                    record(conn, event).await?;
                }
                Ok(ended)
            })
            .await?;
        if ended && caller.is_stranger() {
            self.note_stranger(Kind::SignedOut, caller);
        }
        Ok(())
    }

    /// Forgets sessions that have ended, and how often was tried to begin some; any replica may.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    pub async fn purge_sessions(&self) -> Result<(), Error> {
        let now = self.clock.now();
        self.store
            .transaction::<_, Error, _>(async |conn| {
                sessions::purge(conn, now - LONGEST, now - IDLE).await?;
                sign_in_attempts::purge(conn, now - ATTEMPTS_WITHIN).await?;
                Ok(())
            })
            .await
    }
}

fn stands(row: &sessions::Session, now: DateTime<Utc>) -> bool {
    now - row.created_at < LONGEST && now - row.last_seen_at < IDLE
}

/// What a session is told from others by; nobody can sign in with it.
pub fn key(token: &SecretString) -> String {
    sha256(token.expose_secret())
}

/// Made from the session's own secret: nobody else can make it, and nothing has to be kept.
fn csrf_token(token: &SecretString) -> String {
    sha256(format!("csrf\0{}", token.expose_secret()))
}
