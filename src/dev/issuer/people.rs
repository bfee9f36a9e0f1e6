//! The development issuer as people meet it: a page to choose who to be, codes that are good once and for the client that
//! asked (PKCE), and what it says of them.

use std::collections::HashMap;

use actix_web::http::header::{AUTHORIZATION, LOCATION};
use actix_web::{HttpRequest, HttpResponse};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD as BASE64URL};
use chrono::{DateTime, TimeDelta, Utc};
use maud::{DOCTYPE, html};
use serde_json::{Map, Value, json};
use url::{Host, Url, form_urlencoded};

use super::Issuer;

/// Where browsers are sent to sign in.
pub const AUTHORIZE: &str = "/authorize";
/// Where an access token shows whom it is about.
pub const USERINFO: &str = "/userinfo";

/// The one client that is registered here; its redirect URI may be anything on loopback.
pub const CLIENT_ID: &str = "runner-broker-console";
pub const CLIENT_SECRET: &str = "dev-console-secret";

/// How long a code is good.
const CODE_LIFE: TimeDelta = TimeDelta::seconds(60);

/// Whom the page offers to be: `sub`, claims, what that is.
const OFFERED: [(&str, &str, &str); 5] = [
    ("alice", r#"{"team": "blue", "email": "alice@example.com"}"#, "of team blue"),
    ("bob", r#"{"team": "ml", "email": "bob@example.com"}"#, "of team ml"),
    ("carol", r#"{"groups": ["admins"], "email": "carol@example.com"}"#, "an admin"),
    ("dave", r#"{"groups": ["auditors"], "email": "dave@example.com"}"#, "an auditor"),
    ("erin", r#"{"email": "erin@example.com"}"#, "without a team"),
];

/// What the issuer remembers of people, and how it is told to lie about them.
#[derive(Default)]
pub struct People {
    codes: HashMap<String, Code>,
    /// Claims by access token.
    shown: HashMap<String, Map<String, Value>>,
    /// Set in every ID token, whatever it should say; null takes a claim out.
    spoiled: Map<String, Value>,
    forged: bool,
    /// Claims that only userinfo says.
    held_back: Vec<String>,
}

struct Code {
    redirect_uri: String,
    challenge: String,
    nonce: Option<String>,
    claims: Map<String, Value>,
    made_at: DateTime<Utc>,
}

type Fields = HashMap<String, String>;

fn fields(text: &[u8]) -> Fields {
    form_urlencoded::parse(text).into_owned().collect()
}

fn secret() -> String {
    BASE64URL.encode(rand::random::<[u8; 24]>())
}

impl Issuer {
    /// From now on ID tokens say this, whatever is true; null takes a claim out, `{}` ends it.
    pub fn spoil_id_tokens(&self, claims: Value) {
        let claims = claims.as_object().cloned().unwrap_or_default();
        self.state.send_modify(|state| state.people.spoiled = claims);
    }

    /// From now on ID tokens are signed by a key that nobody publishes, or no longer.
    pub fn forge_id_tokens(&self, forged: bool) {
        self.state.send_modify(|state| state.people.forged = forged);
    }

    /// From now on these claims are in userinfo alone, as GitLab does it.
    pub fn hold_back(&self, claims: &[&str]) {
        let claims = claims.iter().map(|&name| name.to_owned()).collect();
        self.state.send_modify(|state| state.people.held_back = claims);
    }
}

/// Why a request to sign in is not even answered by a redirect, or where to.
fn redirect_uri(asked: &Fields) -> Result<Url, &'static str> {
    let field = |name: &str| asked.get(name).map(String::as_str);
    if field("client_id") != Some(CLIENT_ID) {
        return Err("there is no client of this client_id");
    }
    let uri = field("redirect_uri").and_then(|uri| Url::parse(uri).ok()).ok_or("redirect_uri is no URL")?;
    let loopback = match uri.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    if loopback { Ok(uri) } else { Err("redirect_uri is not on this machine") }
}

/// Whether the rest is as it should be: the error's code.
fn fault(asked: &Fields) -> Option<&'static str> {
    let field = |name: &str| asked.get(name).map(String::as_str);
    let is_openid = field("scope").is_some_and(|scopes| scopes.split(' ').any(|scope| scope == "openid"));
    match field("response_type") {
        _ if !is_openid => Some("invalid_scope"),
        Some("code") if field("code_challenge_method") != Some("S256") => Some("invalid_request"),
        Some("code") => {
            field("code_challenge").is_none_or(|text| text.len() != 43).then_some("invalid_request")
        }
        _ => Some("unsupported_response_type"),
    }
}

fn back(issuer: &Issuer, mut uri: Url, asked: &Fields, answer: (&str, &str)) -> HttpResponse {
    uri.query_pairs_mut().append_pair(answer.0, answer.1).append_pair("iss", &issuer.url);
    if let Some(state) = asked.get("state") {
        uri.query_pairs_mut().append_pair("state", state);
    }
    HttpResponse::SeeOther().insert_header((LOCATION, uri.as_str())).finish()
}

/// The page where one chooses.
pub fn choose(issuer: &Issuer, query: &str) -> HttpResponse {
    let asked = fields(query.as_bytes());
    let uri = match redirect_uri(&asked) {
        Ok(uri) => uri,
        Err(why) => return HttpResponse::BadRequest().body(why),
    };
    if let Some(error) = fault(&asked) {
        return back(issuer, uri, &asked, ("error", error));
    }
    let hidden = html! {
        @for (name, value) in &asked { input type="hidden" name=(name) value=(value); }
    };
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                link rel="icon" href="data:,";
                title { "Who are you? · runner-broker dev" }
            }
            body style="font: 1rem/1.5 system-ui; max-width: 34rem; margin: 3rem auto; padding: 0 1rem" {
                h1 { "Who are you?" }
                p { "This stands in for your identity provider. It believes everything." }
                @for (sub, claims, what) in OFFERED {
                    form method="post" action=(AUTHORIZE) style="margin: .5rem 0" {
                        (hidden)
                        input type="hidden" name="claims" value=(claims);
                        button name="sub" value=(sub) style="font: inherit; padding: .4rem .8rem" {
                            (sub) ", " (what)
                        }
                    }
                }
                h2 { "Somebody else" }
                form method="post" action=(AUTHORIZE) {
                    (hidden)
                    p { label { "sub " input name="sub" required; } }
                    p { label { "claims (JSON) " input name="claims" value="{}" size="40"; } }
                    button { "Sign in" }
                    " "
                    button name="deny" value="1" formnovalidate { "Deny" }
                }
            }
        }
    };
    HttpResponse::Ok().content_type("text/html; charset=utf-8").body(page.into_string())
}

/// Somebody has chosen: the browser goes back to where it came from, with a code.
pub fn chosen(issuer: &Issuer, body: &[u8]) -> HttpResponse {
    let asked = fields(body);
    let uri = match redirect_uri(&asked) {
        Ok(uri) => uri,
        Err(why) => return HttpResponse::BadRequest().body(why),
    };
    if let Some(error) = fault(&asked) {
        return back(issuer, uri, &asked, ("error", error));
    }
    if asked.contains_key("deny") {
        return back(issuer, uri, &asked, ("error", "access_denied"));
    }
    let claims = asked.get("claims").map_or("{}", String::as_str);
    let (Some(sub), Ok(mut claims)) = (asked.get("sub"), serde_json::from_str::<Map<String, Value>>(claims))
    else {
        return HttpResponse::BadRequest().body("sub is a text, claims a JSON object");
    };
    claims.insert("sub".into(), json!(sub));
    let code = secret();
    let made = Code {
        redirect_uri: asked.get("redirect_uri").cloned().unwrap_or_default(),
        challenge: asked.get("code_challenge").cloned().unwrap_or_default(),
        nonce: asked.get("nonce").cloned(),
        claims,
        made_at: issuer.clock.now(),
    };
    issuer.state.send_modify(|state| {
        state.issued.push(code.clone());
        state.people.codes.insert(code.clone(), made);
    });
    back(issuer, uri, &asked, ("code", &code))
}

/// Whether a POST for a token brings a code along.
pub fn is_exchange(body: &[u8]) -> bool {
    form_urlencoded::parse(body).any(|(name, value)| name == "grant_type" && value == "authorization_code")
}

fn refuse(error: &str) -> HttpResponse {
    let mut answer = match error {
        "invalid_client" => HttpResponse::Unauthorized(),
        _ => HttpResponse::BadRequest(),
    };
    answer.json(json!({ "error": error, "error_description": "as the development issuer sees it" }))
}

/// Client id and secret, from the header (RFC 6749, 2.3.1) or from the body.
fn client(request: &HttpRequest, asked: &Fields) -> Option<(String, String)> {
    let decoded = |text: &str| fields(format!("x={text}").as_bytes()).remove("x");
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    match header.and_then(|header| header.strip_prefix("Basic ")) {
        Some(basic) => {
            let text = String::from_utf8(BASE64_STANDARD.decode(basic).ok()?).ok()?;
            let (id, secret) = text.split_once(':')?;
            Some((decoded(id)?, decoded(secret)?))
        }
        None => Some((asked.get("client_id")?.clone(), asked.get("client_secret")?.clone())),
    }
}

/// A code for tokens, once.
pub fn exchange(issuer: &Issuer, request: &HttpRequest, body: &[u8]) -> HttpResponse {
    let asked = fields(body);
    if client(request, &asked) != Some((CLIENT_ID.to_owned(), CLIENT_SECRET.to_owned())) {
        return refuse("invalid_client");
    }
    let mut taken = None;
    issuer.state.send_modify(|state| {
        taken = asked.get("code").and_then(|code| state.people.codes.remove(code));
    });
    let verifier = asked.get("code_verifier").map_or("", String::as_str);
    let challenge = BASE64URL.encode(digest(&SHA256, verifier.as_bytes()));
    let Some(code) = taken
        .filter(|code| issuer.clock.now() - code.made_at < CODE_LIFE)
        .filter(|code| code.challenge == challenge && Some(&code.redirect_uri) == asked.get("redirect_uri"))
    else {
        return refuse("invalid_grant");
    };
    let access_token = secret();
    let (spoiled, forged, held_back) = {
        let people = &issuer.state.borrow().people;
        (people.spoiled.clone(), people.forged, people.held_back.clone())
    };
    let said = code.claims.iter().filter(|(name, _)| !held_back.contains(name));
    let said = said.map(|(name, value)| (name.clone(), value.clone())).collect::<Vec<_>>();
    let nonce = code.nonce.map(|nonce| ("nonce".to_owned(), Value::from(nonce)));
    let base = issuer.token().claim("aud", CLIENT_ID);
    let all = said.into_iter().chain(nonce).chain(spoiled);
    let id_token = all.fold(base, |token, (name, value)| token.claim(&name, value));
    let id_token = if forged { id_token.signed_by_a_stranger() } else { id_token }.mint();
    issuer.state.send_modify(|state| {
        state.issued.push(access_token.clone());
        state.people.shown.insert(access_token.clone(), code.claims);
    });
    HttpResponse::Ok().json(json!({ "access_token": access_token, "token_type": "Bearer", "expires_in": 300,
        "id_token": id_token }))
}

/// What an access token shows.
pub fn userinfo(issuer: &Issuer, request: &HttpRequest) -> HttpResponse {
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header.and_then(|header| header.strip_prefix("Bearer ")).unwrap_or_default();
    match issuer.state.borrow().people.shown.get(token) {
        Some(claims) => HttpResponse::Ok().json(claims),
        None => HttpResponse::Unauthorized().finish(),
    }
}
