//! GitHub's operations: who asks, what they may, and the way to each. Holds the state's lock throughout.

use std::hash::{DefaultHasher, Hash, Hasher};

use chrono::TimeDelta;
use serde_json::{Value, json};

use super::access::{as_app, rank, suspended};
use super::answer::{Answer, Request, linked, paged};
use super::limits::{CORE, REGISTRATION};
use super::records::Token;
use super::state::State;
use super::{hooks, keys, people, runners, shapes};
use crate::model::Target;

/// The bucket that a call is counted in.
pub(super) fn resource(method: &str, path: &str) -> &'static str {
    let counted_apart = ["/generate-jitconfig", "/registration-token", "/remove-token"];
    match method == "POST" && counted_apart.iter().any(|end| path.ends_with(end)) {
        true => REGISTRATION,
        false => CORE,
    }
}

/// Who asks, for the limits: the token's installation, or 0 for the App and strangers.
pub(super) fn who(state: &State, bearer: Option<&str>) -> u64 {
    bearer.and_then(|token| state.tokens.get(token)).map_or(0, |token| token.installation)
}

/// What GitHub answers, limits, budget headers and ETag included.
pub(super) fn answer(state: &mut State, request: &Request) -> Answer {
    if let Some(page) = people::page(state, request) {
        return page;
    }
    if !request.has_user_agent {
        let rules = "Request forbidden by administrative rules. Please make sure your request has a \
                     User-Agent header.";
        return Answer::error(403, rules);
    }
    let now = state.clock.now();
    let who = who(state, request.bearer);
    let resource = resource(request.method, request.path);
    let free = request.path == "/rate_limit";
    let points = if request.method == "GET" { 1 } else { 5 };
    if !free && let Some(refusal) = state.meter.refusal(who, resource, points, now) {
        return state.meter.report(refusal, who, resource, now);
    }
    let answer = route(state, request).unwrap_or_else(|refusal| refusal);
    let answer = match request.method {
        "GET" if answer.status == 200 => conditional(answer, request.if_none_match),
        _ => answer,
    };
    // GitHub's own promise: what has not changed costs nothing.
    if answer.status != 304 && !free {
        state.meter.charge(who, resource, now);
    }
    state.meter.report(answer, who, resource, now)
}

fn route(state: &mut State, request: &Request) -> Result<Answer, Answer> {
    let segments: Vec<&str> = request.path.trim_matches('/').split('/').collect();
    match (request.method, &segments[..]) {
        ("GET", ["rate_limit"]) => {
            let who = who(state, request.bearer);
            Ok(Answer::json(200, &state.meter.overview(who, state.clock.now())))
        }
        ("GET", ["app"]) => {
            as_app(state, request)?;
            Ok(Answer::json(200, &shapes::app(state, request.base)))
        }
        ("GET", ["app", "installations"]) => {
            as_app(state, request)?;
            let all = state.installations.values();
            let all = all.map(|of| shapes::listed_installation(state, of, request.base)).collect::<Vec<_>>();
            let (page, link) = paged(request, all.len());
            Ok(linked(Answer::json(200, &all[page]), link))
        }
        ("GET", ["app", "installations", id]) => {
            as_app(state, request)?;
            let found = id.parse().ok().and_then(|id| state.installations.get(&id));
            let found = found.ok_or_else(Answer::not_found)?;
            Ok(Answer::json(200, &shapes::installation(state, found, request.base)))
        }
        ("POST", ["app", "installations", id, "access_tokens"]) => {
            as_app(state, request)?;
            mint(state, request, id.parse().map_err(|_| Answer::not_found())?)
        }
        ("GET", ["app", "hook", "config"]) => {
            as_app(state, request)?;
            Ok(hooks::config(state))
        }
        ("GET", ["app", "hook", "deliveries"]) => {
            as_app(state, request)?;
            Ok(hooks::list(state, request))
        }
        ("POST", ["app", "hook", "deliveries", id, "attempts"]) => {
            as_app(state, request)?;
            Ok(hooks::redeliver(state, id))
        }
        ("GET", ["orgs", owner, "installation"]) | ("GET", ["repos", owner, _, "installation"]) => {
            as_app(state, request)?;
            let target = target(&segments)
                .filter(|target| state.scopes.contains_key(target) && !state.deselected.contains(target));
            let found = target.and_then(|_| state.installation(owner)).ok_or_else(Answer::not_found)?;
            Ok(Answer::json(200, &shapes::installation(state, found, request.base)))
        }
        ("GET", ["user", rest @ ..]) => people::user(state, request, rest),
        (_, ["orgs", _, "actions", rest @ ..]) | (_, ["repos", _, _, "actions", rest @ ..]) => {
            let target = target(&segments).ok_or_else(Answer::not_found)?;
            runners::route(state, request, &target, rest)
        }
        _ => Err(Answer::not_found()),
    }
}

fn target(segments: &[&str]) -> Option<Target> {
    match segments {
        ["orgs", org, ..] => org.parse().ok(),
        ["repos", owner, name, ..] => format!("{owner}/{name}").parse().ok(),
        _ => None,
    }
}

fn mint(state: &mut State, request: &Request, id: u64) -> Result<Answer, Answer> {
    let unacceptable = |message: &str| {
        let url = "https://docs.github.com/rest/apps/apps#create-an-installation-access-token-for-an-app";
        Answer::json(422, &json!({ "message": message, "documentation_url": url, "status": "422" }))
    };
    let now = state.clock.now();
    let body = request.json()?;
    let installation = state.installations.get(&id).ok_or_else(Answer::not_found)?;
    if installation.suspended_at.is_some() {
        return Err(suspended());
    }
    let mut permissions = installation.permissions.clone();
    if let Some(asked) = body["permissions"].as_object() {
        permissions.retain(|name, _| name == "metadata");
        for (name, level) in asked {
            let held = installation.permissions.get(name).map_or(0, |held| rank(held));
            let level = level.as_str().filter(|level| (1..=held).contains(&rank(level)));
            let level = level.ok_or_else(|| {
                unacceptable("The permissions requested are not granted to this installation.")
            })?;
            permissions.insert(name.clone(), level.to_owned());
        }
    }
    let repositories = match body["repositories"].as_array() {
        None => None,
        Some(names) => {
            let known = |name: &Value| {
                let name = name.as_str()?.to_lowercase();
                let target = Target::Repository { owner: installation.account.clone(), name: name.clone() };
                state.scopes.contains_key(&target).then_some(name)
            };
            let names = names.iter().map(known).collect::<Option<Vec<_>>>();
            Some(names.ok_or_else(|| {
                unacceptable(
                    "There is at least one repository that does not exist or is not accessible to the \
                     parent installation.",
                )
            })?)
        }
    };
    let token = keys::installation_token(state.app_id, now);
    let expires_at = now + TimeDelta::hours(1);
    let answer = json!({
        "token": token, "expires_at": shapes::time(expires_at), "permissions": permissions,
        "repository_selection": if repositories.is_some() { "selected" } else { "all" },
    });
    state.issue("installation_tokens", &token);
    let token_state = Token { installation: id, permissions, repositories, expires_at, refusals: (0, 401) };
    state.tokens.insert(token, token_state);
    Ok(Answer::json(201, &answer))
}

/// Gives a 200 its ETag, or makes it a 304 if the caller holds this very answer.
fn conditional(answer: Answer, if_none_match: Option<&str>) -> Answer {
    let mut hasher = DefaultHasher::new();
    answer.body.hash(&mut hasher);
    let link = answer.headers.iter().filter(|(name, _)| name == "link");
    link.for_each(|(_, value)| value.hash(&mut hasher));
    let etag = format!("W/\"{:016x}\"", hasher.finish());
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let held = if_none_match
        .is_some_and(|tags| tags.split(',').any(|tag| tag.trim() == "*" || opaque(tag) == opaque(&etag)));
    match held {
        true => Answer::empty(304).with("etag", etag),
        false => answer.with("etag", etag),
    }
}
