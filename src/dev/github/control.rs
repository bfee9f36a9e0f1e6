//! `/_dev/`: the owner's API over HTTP, for other processes; the module's documentation lists it.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::answer::{Answer, Request};
use super::fault::Fault;
use super::life::{Refused, parse};
use super::state::State;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    target: String,
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Jit {
    encoded_jit_config: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Registration {
    target: String,
    name: String,
    #[serde(default)]
    labels: Vec<String>,
    #[serde(default)]
    ephemeral: bool,
    token: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Labelled {
    target: String,
    name: String,
    #[serde(default)]
    labels: Vec<String>,
    #[serde(default)]
    ephemeral: bool,
}

impl From<Refused> for Answer {
    fn from(refused: Refused) -> Answer {
        Answer::error(refused.status, &refused.message)
    }
}

pub(super) fn answer(state: &mut State, request: &Request) -> Answer {
    route(state, request).unwrap_or_else(|refusal| refusal)
}

fn route(state: &mut State, request: &Request) -> Result<Answer, Answer> {
    let path = request.path.trim_start_matches("/_dev").trim_matches('/');
    match (request.method, path) {
        ("GET", "") => Ok(Answer::json(200, &overview(state))),
        ("GET", "runners") => {
            let target = request.param("target").unwrap_or_default();
            let scope = state.scopes.get(&parse(&target)?).ok_or_else(Answer::not_found)?;
            Ok(Answer::json(200, &scope.runners.values().collect::<Vec<_>>()))
        }
        ("GET", "calls") => Ok(Answer::json(200, &state.calls())),
        ("DELETE", "calls") => {
            state.clear_calls();
            Ok(Answer::empty(204))
        }
        ("POST", "faults") => {
            state.faults.add(body::<Fault>(request)?);
            Ok(Answer::empty(204))
        }
        ("DELETE", "faults") => {
            state.faults.clear();
            Ok(Answer::empty(204))
        }
        ("POST", "jit") => {
            let name = state.connect_jit(&body::<Jit>(request)?.encoded_jit_config)?;
            Ok(Answer::json(200, &json!({ "name": name })))
        }
        ("POST", "register") => {
            let ask: Registration = body(request)?;
            let id = state.register(&ask.target, &ask.name, &ask.labels, ask.ephemeral, &ask.token)?;
            Ok(Answer::json(201, &json!({ "id": id })))
        }
        ("POST", "plant") => {
            let ask: Labelled = body(request)?;
            let id = state.plant(&ask.target, &ask.name, &ask.labels, ask.ephemeral)?;
            Ok(Answer::json(201, &json!({ "id": id })))
        }
        ("POST", "set-labels") => {
            let ask: Labelled = body(request)?;
            state.set_labels(&ask.target, &ask.name, &ask.labels)?;
            Ok(Answer::empty(204))
        }
        ("POST", act) => {
            let act = match act {
                "connect" => State::connect,
                "disconnect" => State::disconnect,
                "start-job" => State::start_job,
                "finish-job" => State::finish_job,
                "remove" => State::vanish,
                _ => return Err(Answer::not_found()),
            };
            let Named { target, name } = body(request)?;
            act(state, &target, &name)?;
            Ok(Answer::empty(204))
        }
        _ => Err(Answer::not_found()),
    }
}

fn body<T: DeserializeOwned>(request: &Request) -> Result<T, Answer> {
    serde_json::from_slice(request.body).map_err(|err| Answer::error(400, &err.to_string()))
}

fn overview(state: &State) -> Value {
    let mut targets: Vec<String> = state.scopes.keys().map(ToString::to_string).collect();
    targets.sort();
    json!({ "url": state.url, "app_id": state.app_id, "targets": targets, "issued": state.counts })
}
