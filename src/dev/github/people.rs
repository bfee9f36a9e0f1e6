//! People on GitHub: the page where one chooses who to be, codes for user tokens (OAuth 2 with PKCE), and what the
//! API says of its holder. GitHub refuses a code with status 200.

use std::collections::HashMap;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use chrono::TimeDelta;
use maud::{DOCTYPE, html};
use serde_json::{Value, json};
use url::{Url, form_urlencoded};

use super::answer::{Answer, Request, linked, paged};
use super::records::Code;
use super::state::State;

/// The one OAuth App that is registered here.
pub const CLIENT_ID: &str = "Iv1.dev";
pub const CLIENT_SECRET: &str = "dev-github-secret";

/// How long a code is good.
const CODE_LIFE: TimeDelta = TimeDelta::minutes(10);

type Fields = HashMap<String, String>;

fn fields(text: &[u8]) -> Fields {
    form_urlencoded::parse(text).into_owned().collect()
}

/// What stands outside the API: the page, and the exchange of a code.
pub(super) fn page(state: &mut State, request: &Request) -> Option<Answer> {
    match (request.method, request.path) {
        ("GET", "/login/oauth/authorize") => Some(choose(state, &fields(request.query.as_bytes()))),
        ("POST", "/login/oauth/authorize") => Some(chosen(state, &fields(request.body))),
        ("POST", "/login/oauth/access_token") => {
            let answer = exchange(state, &fields(request.body));
            Some(match request.wants_json {
                true => Answer::json(200, &answer),
                false => in_a_form(&answer),
            })
        }
        _ => None,
    }
}

/// GitHub's answer to a request that does not ask for JSON.
fn in_a_form(answer: &Value) -> Answer {
    let pairs = answer.as_object().into_iter().flatten();
    let pairs = pairs.map(|(name, value)| (name, value.as_str().unwrap_or_default()));
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    Answer { body: body.into(), ..Answer::empty(200) }
        .with("content-type", "application/x-www-form-urlencoded")
}

fn redirect_uri(asked: &Fields) -> Result<Url, Answer> {
    let uri = asked.get("redirect_uri").and_then(|uri| Url::parse(uri).ok());
    match uri {
        Some(uri) if asked.get("client_id").is_some_and(|id| id == CLIENT_ID) => Ok(uri),
        _ => Err(Answer::html(404)),
    }
}

fn back(mut uri: Url, asked: &Fields, answer: (&str, &str)) -> Answer {
    uri.query_pairs_mut().append_pair(answer.0, answer.1);
    if let Some(state) = asked.get("state") {
        uri.query_pairs_mut().append_pair("state", state);
    }
    Answer::empty(302).with("location", uri.as_str())
}

fn choose(state: &State, asked: &Fields) -> Answer {
    if let Err(refusal) = redirect_uri(asked) {
        return refusal;
    }
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head { meta charset="utf-8"; link rel="icon" href="data:,"; title { "Who are you? · dev's GitHub" } }
            body style="font: 1rem/1.5 system-ui; max-width: 34rem; margin: 3rem auto; padding: 0 1rem" {
                h1 { "Who are you?" }
                p { "This stands in for GitHub. It believes everything." }
                form method="post" action="/login/oauth/authorize" {
                    @for (name, value) in asked { input type="hidden" name=(name) value=(value); }
                    @for person in &state.people.known {
                        p { button name="login" value=(person.login) style="font: inherit; padding: .4rem .8rem" {
                            (person.login) " (" (person.teams.join(", ")) ")"
                        } }
                    }
                    p { button name="deny" value="1" { "Cancel" } }
                }
            }
        }
    };
    Answer { body: page.into_string().into(), ..Answer::empty(200) }
        .with("content-type", "text/html; charset=utf-8")
}

fn chosen(state: &mut State, asked: &Fields) -> Answer {
    let uri = match redirect_uri(asked) {
        Ok(uri) => uri,
        Err(refusal) => return refusal,
    };
    let login = asked.get("login").filter(|login| state.people.known.iter().any(|one| one.login == **login));
    let Some(login) = login.filter(|_| !asked.contains_key("deny")) else {
        return back(uri, asked, ("error", "access_denied"));
    };
    let code = format!("{:020x}", rand::random::<u128>());
    let scope = match state.people.granted.is_empty() {
        true => asked.get("scope").cloned().unwrap_or_default(),
        false => state.people.granted.clone(),
    };
    let made = Code {
        login: login.clone(),
        scope,
        redirect_uri: uri.to_string(),
        challenge: asked.get("code_challenge").cloned(),
        made_at: state.clock.now(),
    };
    state.people.codes.insert(code.clone(), made);
    state.issue("codes", &code);
    back(uri, asked, ("code", &code))
}

fn exchange(state: &mut State, asked: &Fields) -> Value {
    let refuse = |error: &str| json!({ "error": error, "error_description": "as dev's GitHub sees it" });
    let field = |name: &str| asked.get(name).map(String::as_str);
    if (field("client_id"), field("client_secret")) != (Some(CLIENT_ID), Some(CLIENT_SECRET)) {
        return refuse("incorrect_client_credentials");
    }
    let now = state.clock.now();
    let taken = field("code").and_then(|code| state.people.codes.remove(code));
    let Some(code) = taken.filter(|code| now - code.made_at < CODE_LIFE) else {
        return refuse("bad_verification_code");
    };
    if field("redirect_uri") != Some(&code.redirect_uri) {
        return refuse("redirect_uri_mismatch");
    }
    let challenge = field("code_verifier").map(|text| BASE64URL.encode(digest(&SHA256, text.as_bytes())));
    if code.challenge.is_some() && code.challenge != challenge {
        return refuse("bad_verification_code");
    }
    let token = format!("gho_{:032x}", rand::random::<u128>());
    state.issue("user_tokens", &token);
    state.people.tokens.insert(token.clone(), (code.login, code.scope.clone()));
    json!({ "access_token": token, "token_type": "bearer", "scope": code.scope })
}

/// `/user` and what is below it.
pub(super) fn user(state: &State, request: &Request, rest: &[&str]) -> Result<Answer, Answer> {
    let bearer = request.bearer.ok_or_else(|| Answer::error(401, "Requires authentication"))?;
    let held = state.people.tokens.get(bearer);
    let (login, scope) = held.ok_or_else(|| Answer::error(401, "Bad credentials"))?;
    let person = state.people.known.iter().find(|person| person.login == *login);
    let person = person.ok_or_else(|| Answer::error(401, "Bad credentials"))?;
    let shows_orgs = scope.split([' ', ',']).any(|scope| scope == "read:org");
    let missing = || Answer::error(403, "You need at least read:org scope to list your memberships.");
    match rest {
        [] => Ok(Answer::json(
            200,
            &json!({ "id": person.id, "login": person.login, "name": person.name, "email": person.email,
                "type": "User", "site_admin": false }),
        )),
        ["orgs"] if shows_orgs => {
            let (page, link) = paged(request, person.orgs.len());
            let orgs = person.orgs[page].iter().map(|org| json!({ "login": org })).collect::<Vec<_>>();
            Ok(linked(Answer::json(200, &orgs), link))
        }
        ["teams"] if shows_orgs => {
            let (page, link) = paged(request, person.teams.len());
            let teams = person.teams[page].iter().filter_map(|team| team.split_once('/'));
            let teams = teams.map(|(org, slug)| json!({ "slug": slug, "organization": { "login": org } }));
            Ok(linked(Answer::json(200, &teams.collect::<Vec<_>>()), link))
        }
        ["orgs"] | ["teams"] => Err(missing()),
        _ => Err(Answer::not_found()),
    }
}
