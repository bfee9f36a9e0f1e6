//! Who may make a call: the App by its JWT, an installation by its token and its permissions.

use std::collections::BTreeMap;

use super::answer::{Answer, Request};
use super::keys;
use super::state::State;
use crate::model::Target;

/// How much of a permission an operation needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Read,
    Write,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Read => "read",
            Level::Write => "write",
        }
    }
}

/// The permission that a call to a scope needs.
pub(super) fn needed(method: &str, path: &str) -> (&'static str, Level) {
    let permission = match path {
        _ if path.ends_with("/cancel") => "actions",
        _ if path.starts_with("/repos/") => "administration",
        _ => "organization_self_hosted_runners",
    };
    (permission, if method == "GET" { Level::Read } else { Level::Write })
}

/// Lets only the App itself pass.
pub(super) fn as_app(state: &State, request: &Request) -> Result<(), Answer> {
    let jwt = request.bearer.ok_or_else(|| Answer::error(401, "Requires authentication"))?;
    keys::check_app_jwt(jwt, state.app_id, state.key_rotated, state.clock.now())
}

/// Lets only an installation pass that owns the target and has the permission, by its token and still.
pub(super) fn as_installation(
    state: &mut State,
    request: &Request,
    target: &Target,
    permission: &str,
    level: Level,
) -> Result<(), Answer> {
    let now = state.clock.now();
    let bearer = request.bearer.ok_or_else(|| Answer::error(401, "Requires authentication"))?;
    let bad = || Answer::error(401, "Bad credentials");
    let token = state.tokens.get_mut(bearer).filter(|token| token.expires_at > now).ok_or_else(bad)?;
    let installation = state.installations.get(&token.installation).ok_or_else(bad)?;
    if token.refusals.0 > 0 {
        token.refusals.0 -= 1;
        return Err(match token.refusals.1 {
            403 => missing(permission, level),
            _ => bad(),
        });
    }
    if installation.suspended_at.is_some() {
        return Err(suspended());
    }
    if !state.scopes.contains_key(target) || state.deselected.contains(target) {
        return Err(Answer::not_found());
    }
    let in_scope = match (&token.repositories, target) {
        (Some(names), Target::Repository { name, .. }) => names.contains(name),
        _ => true,
    };
    let has = |permissions: &BTreeMap<String, String>| {
        permissions.get(permission).is_some_and(|held| rank(held) >= rank(level.as_str()))
    };
    let owns = installation.account == target.owner();
    match owns && in_scope && has(&token.permissions) && has(&installation.permissions) {
        true => Ok(()),
        false => Err(missing(permission, level)),
    }
}

/// The 403 that waiting does not help against.
pub(super) fn missing(permission: &str, level: Level) -> Answer {
    Answer::error(403, "Resource not accessible by integration")
        .with("x-accepted-github-permissions", format!("{permission}={}", level.as_str()))
}

/// The 403 of an installation that its owner suspended.
pub(super) fn suspended() -> Answer {
    Answer::error(403, "This installation has been suspended")
}

/// Levels in order; 0: none.
pub(super) fn rank(level: &str) -> u8 {
    match level {
        "read" => 1,
        "write" => 2,
        "admin" => 3,
        _ => 0,
    }
}
