//! The operations on one scope's runners, and on its runner groups.

use chrono::SecondsFormat;
use serde_json::{Value, json};

use super::access::{as_installation, missing, needed};
use super::answer::{Answer, Request, linked, paged};
use super::keys::{self, JitConfig};
use super::records::{Purpose, Scope};
use super::shapes;
use super::state::State;
use crate::model::{Label, Target};

/// `rest` is the path behind `actions`.
pub(super) fn route(
    state: &mut State,
    request: &Request,
    target: &Target,
    rest: &[&str],
) -> Result<Answer, Answer> {
    let (permission, level) = needed(request.method, request.path);
    as_installation(state, request, target, permission, level)?;
    let is_org = matches!(target, Target::Organization(_));
    match (request.method, rest) {
        ("GET", ["runners"]) => list(scope(state, target)?, request),
        ("GET", ["runners", id]) => {
            let found = id.parse().ok().and_then(|id| scope(state, target).ok()?.runners.get(&id));
            found.map(|runner| Answer::json(200, &shapes::runner(runner))).ok_or_else(Answer::not_found)
        }
        ("DELETE", ["runners", id]) => delete(scope(state, target)?, id),
        ("POST", ["runners", "generate-jitconfig"]) => generate(state, request, target),
        ("POST", ["runners", "registration-token"]) => Ok(token(state, target, Purpose::Register)),
        ("POST", ["runners", "remove-token"]) => Ok(token(state, target, Purpose::Remove)),
        ("GET", ["runner-groups"]) if is_org => groups(scope(state, target)?, request),
        ("GET", ["runner-groups", id]) if is_org => {
            let scope = scope(state, target)?;
            let found = scope.groups.iter().find(|group| group.id.to_string() == *id);
            let org_url = format!("{}/orgs/{}", request.base, scope.name);
            found
                .map(|group| Answer::json(200, &shapes::group(group, &org_url)))
                .ok_or_else(Answer::not_found)
        }
        ("POST", ["runs", id, "cancel"]) if !is_org => Ok(state.cancel_run(target, id)),
        _ => Err(Answer::not_found()),
    }
}

fn scope<'a>(state: &'a mut State, target: &Target) -> Result<&'a mut Scope, Answer> {
    state.scopes.get_mut(target).ok_or_else(Answer::not_found)
}

fn list(scope: &Scope, request: &Request) -> Result<Answer, Answer> {
    let (runners, total, link): (Vec<Value>, _, _) = match request.param("name") {
        Some(name) => {
            let found: Vec<Value> = scope.named(&name).map(shapes::runner).into_iter().collect();
            let (page, link) = paged(request, found.len());
            (found[page].to_vec(), found.len(), link)
        }
        None => {
            let total = scope.runners.len();
            let (page, link) = paged(request, total);
            let runners = scope.runners.values().skip(page.start).take(page.len());
            (runners.map(shapes::runner).collect(), total, link)
        }
    };
    Ok(linked(Answer::json(200, &json!({ "total_count": total, "runners": runners })), link))
}

fn groups(scope: &Scope, request: &Request) -> Result<Answer, Answer> {
    let org_url = format!("{}/orgs/{}", request.base, scope.name);
    let all: Vec<Value> = scope.groups.iter().map(|group| shapes::group(group, &org_url)).collect();
    let (page, link) = paged(request, all.len());
    let body = json!({ "total_count": all.len(), "runner_groups": all[page] });
    Ok(linked(Answer::json(200, &body), link))
}

fn delete(scope: &mut Scope, id: &str) -> Result<Answer, Answer> {
    let runner = id.parse().ok().and_then(|id| scope.runners.get(&id)).ok_or_else(Answer::not_found)?;
    if runner.busy {
        let message = format!("Bad request - Runner \"{}\" is still running a job", runner.name);
        return Err(invalid(&message));
    }
    let id = runner.id;
    scope.remove(id);
    Ok(Answer::empty(204))
}

fn token(state: &mut State, target: &Target, purpose: Purpose) -> Answer {
    let token = keys::runner_token();
    let expires_at = state.runner_token(&token, target.clone(), purpose);
    state.issue(if purpose == Purpose::Register { "registration_tokens" } else { "remove_tokens" }, &token);
    let expires_at = expires_at.to_rfc3339_opts(SecondsFormat::Millis, false);
    Answer::json(201, &json!({ "token": token, "expires_at": expires_at }))
}

fn invalid(message: &str) -> Answer {
    let url = "https://docs.github.com/rest/actions/self-hosted-runners";
    Answer::json(422, &json!({ "message": message, "documentation_url": url, "status": "422" }))
}

fn generate(state: &mut State, request: &Request, target: &Target) -> Result<Answer, Answer> {
    let body = request.json()?;
    let not_supplied = |what: &str| invalid(&format!("Invalid request.\n\n\"{what}\" wasn't supplied."));
    let name = body["name"].as_str().ok_or_else(|| not_supplied("name"))?;
    let group_id = body["runner_group_id"].as_i64().ok_or_else(|| not_supplied("runner_group_id"))?;
    let labels = body["labels"].as_array().ok_or_else(|| not_supplied("labels"))?;
    if name.trim().is_empty() || name.len() > 64 {
        return Err(invalid("Invalid request.\n\nThe name of a runner has 1 to 64 characters."));
    }
    if !(1..=Label::MOST).contains(&labels.len()) {
        return Err(invalid("Invalid request.\n\nOnly 1 to 100 labels may be supplied."));
    }
    let lowered = labels
        .iter()
        .map(|label| label.as_str().map(str::to_lowercase).filter(|label| (1..=256).contains(&label.len())));
    let mut labels: Vec<String> = lowered
        .collect::<Option<_>>()
        .ok_or_else(|| invalid("Invalid request.\n\nA label has 1 to 256 characters."))?;
    let mut seen = std::collections::HashSet::new();
    labels.retain(|label| seen.insert(label.clone()));

    let known = scope(state, target)?;
    let group = known.groups.iter().find(|group| group.id == group_id).ok_or_else(Answer::not_found)?;
    if !group.open {
        let (permission, level) = needed(request.method, request.path);
        return Err(missing(permission, level));
    }
    if known.named(name).is_some() {
        return Err(Answer::error(409, "Already exists"));
    }
    let github_url = format!("{}/{}", state.url, target);
    let runner = state.new_runner(name, group_id, labels);
    let config = JitConfig {
        id: runner.id,
        name,
        group_id,
        work_folder: body["work_folder"].as_str().unwrap_or("_work"),
        client_id: runner.client_id,
        github_url: &github_url,
    };
    let encoded = config.encode();
    state.issue("jit_configs", &encoded);
    let answer = json!({ "runner": shapes::jit_runner(&runner), "encoded_jit_config": encoded });
    scope(state, target)?.insert(runner);
    Ok(Answer::json(201, &answer))
}
