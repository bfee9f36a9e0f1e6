//! Who is let in, and as what: a verified token against the policy's rules.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::auth::Verified;
pub use crate::broker::events::Origin;
use crate::broker::events::{Actor, Batch};
use crate::broker::{Broker, Error};
use crate::model::{Identity, Role};
use crate::policy::{Membership, Memberships};

/// Somebody whose token was verified, with the teams and roles that the policy gives them.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Issuer, subject and display name.
    pub identity: Identity,
    /// The teams and roles by the policy.
    pub memberships: Arc<Memberships>,
    /// The claims of their token, from which another policy may derive other teams and roles.
    pub claims: Arc<Claims>,
    /// Where the request came from.
    pub origin: Origin,
}

/// The claims of a verified token. They are not for any log.
#[derive(Clone, Default)]
pub struct Claims(pub Map<String, Value>);

impl std::fmt::Debug for Claims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claims").finish_non_exhaustive()
    }
}

impl Caller {
    /// Whether the caller has this role.
    pub fn has(&self, role: Role) -> bool {
        self.memberships.has(role)
    }

    /// The names of the caller's teams.
    pub fn teams(&self) -> impl Iterator<Item = &str> {
        self.memberships.teams.iter().map(|membership| membership.team.name())
    }

    /// The team that a request is about: the named one, or the only one, if the caller is in it.
    pub fn membership(&self, team: Option<&str>) -> Option<&Membership> {
        match (team, self.memberships.teams.as_slice()) {
            (Some(name), all) => all.iter().find(|of| of.team.name().eq_ignore_ascii_case(name)),
            (None, [only]) => Some(only),
            (None, _) => None,
        }
    }

    /// This caller as the one who does what an event records.
    pub(in crate::broker) fn actor(&self) -> Actor<'_> {
        Actor::Caller { identity: &self.identity, origin: &self.origin, batch: None }
    }

    /// This caller as the one who does what an event of a batch records.
    pub(in crate::broker) fn actor_in<'a>(&'a self, batch: &'a Batch) -> Actor<'a> {
        Actor::Caller { identity: &self.identity, origin: &self.origin, batch: Some(batch) }
    }

    /// Neither team nor role: anybody on GitHub can be that, so what they do is logged in bulk.
    pub fn is_stranger(&self) -> bool {
        self.memberships.is_stranger()
    }

    /// The caller's teams and roles in one text, which all have who have the same. Unlike a subject nobody chooses it, and
    /// there are only so many: what is counted by caller is counted by it.
    pub(in crate::broker) fn standing(&self) -> String {
        let roles = self.memberships.roles.keys().map(|role| role.as_str());
        let mut standing: Vec<&str> = self.teams().chain(roles).collect();
        standing.sort_unstable();
        standing.join(", ")
    }

    /// Demands a role.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`].
    pub fn needs(&self, role: Role) -> Result<(), Error> {
        match self.has(role) {
            true => Ok(()),
            false => Err(Error::Forbidden),
        }
    }
}

impl Broker {
    /// The caller that this token makes, by the policy as it stands now, unless a deny rule matches them or an
    /// administrator has deactivated the identity.
    ///
    /// # Errors
    ///
    /// [`Error::AccessDenied`] or [`Error::IdentityDeactivated`].
    pub fn admit(self: &Arc<Self>, verified: Verified, origin: Origin) -> Result<Caller, Error> {
        let policy = self.policy.load();
        let memberships = policy.rules.memberships(&verified.identity.issuer, &verified.claims);
        let caller = Caller {
            identity: verified.identity,
            memberships: Arc::new(memberships),
            claims: Arc::new(Claims(verified.claims)),
            origin,
        };
        let (identity, claims) = (&caller.identity, &caller.claims.0);
        if let Some(rule) = policy.rules.denied(&identity.issuer, claims, self.clock.now()) {
            self.note_denied(&caller, rule);
            return Err(Error::AccessDenied);
        }
        if self.is_inactive(identity) {
            self.note_refused_identity(&caller);
            return Err(Error::IdentityDeactivated);
        }
        if !caller.is_stranger() {
            self.identities.note(&caller.identity, self.clock.now());
        }
        Ok(caller)
    }

    /// Why this caller would not be let in any more: a deny rule matches, or an administrator has deactivated the
    /// identity, as this replica knows it by now.
    pub(in crate::broker) fn shut_out(&self, caller: &Caller) -> Option<Error> {
        let (identity, claims) = (&caller.identity, &caller.claims.0);
        if self.policy.load().rules.denied(&identity.issuer, claims, self.clock.now()).is_some() {
            return Some(Error::AccessDenied);
        }
        self.is_inactive(identity).then_some(Error::IdentityDeactivated)
    }

    /// What this caller is by now: the policy may have changed, or an administrator has deactivated the identity.
    ///
    /// # Errors
    ///
    /// [`Error::AccessDenied`] or [`Error::IdentityDeactivated`].
    pub fn admit_again(self: &Arc<Self>, caller: &Caller) -> Result<Caller, Error> {
        let (identity, claims) = (caller.identity.clone(), caller.claims.0.clone());
        self.admit(Verified { identity, claims }, caller.origin.clone())
    }
}
