//! Signing in and out. The broker stores nothing until somebody comes back from the provider: a cookie in their browser
//! holds the secret of the attempt and the page that they wanted.
//!
//! Going to the provider is a link, not a form: Chromium applies `form-action 'self'` to a form's redirects. A link
//! from another site gets the page with the buttons (`Sec-Fetch-Site`), so users begin their sign-ins themselves.
//! One attempt per browser: of two tabs the later counts.

use actix_web::cookie::time::Duration;
use actix_web::cookie::{Cookie, SameSite};
use actix_web::http::header::HeaderMap;
use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse, get, post};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use maud::{Markup, html};
use secrecy::{ExposeSecret, SecretString};
use url::form_urlencoded;

use crate::auth::login::{Attempt, Back, Login};
use crate::broker::people::caller::Origin;
use crate::broker::people::sign_in_limit::Step;
use crate::http::State;
use crate::http::caller::origin;
use crate::http::console::frame::form::SubmittedForm;
use crate::http::console::frame::page::{Page, PageError, error_page, see_other};
use crate::http::console::frame::{layout, return_to, session};
use crate::http::problem::Problem;

/// How long somebody may take at the provider.
const ATTEMPT_LIFETIME: Duration = Duration::minutes(10);

/// The page with a link to each provider.
#[get("/sign-in")]
pub async fn choose(req: HttpRequest, state: Data<State>) -> Page {
    let asked = parameter(&req, "return_to");
    let back = return_to::local(asked.as_deref());
    Page(layout::bare("Sign in", provider_links(&state, back)))
}

/// Redirects to the provider. This is a link and not a form, since the content security policy of our pages forbids
/// forms that lead elsewhere, even by a redirect.
#[get("/sign-in/{id}")]
pub async fn begin(req: HttpRequest, state: Data<State>, id: Path<String>) -> HttpResponse {
    let asked = parameter(&req, "return_to");
    let back = return_to::local(asked.as_deref());
    match start_login(&req, &state, &id, back).await {
        Ok(answer) => answer,
        Err(problem) => error_page(&problem, back_to_sign_in(back)),
    }
}

/// The way back from the provider. The attempt ends here, whatever its result.
#[get("/sign-in/{id}/callback")]
pub async fn finish(req: HttpRequest, state: Data<State>, id: Path<String>) -> HttpResponse {
    let kept = AttemptCookie::read(&req, state.secure_cookies);
    let back = kept.as_ref().map_or("/", |kept| return_to::local(Some(&kept.back)));
    let mut answer = match login_callback(&req, &state, &id, kept.as_ref()).await {
        Ok(token) => with_cookie(see_other(back), &session::cookie(&token, state.secure_cookies)),
        Err(problem) => error_page(&problem, back_to_sign_in(back)),
    };
    let mut over = attempt_cookie(String::new(), state.secure_cookies);
    over.make_removal();
    answer = with_cookie(answer, &over);
    answer
}

#[post("/sign-out")]
pub async fn sign_out(
    SubmittedForm { session, .. }: SubmittedForm,
    state: Data<State>,
) -> Result<HttpResponse, PageError> {
    state.broker.end_session(&session).await?;
    let content = html! {
        h1 { "Signed out" }
        p { "You are signed out here. You may still be signed in at your identity provider." }
        p { a href="/sign-in" { "Sign in again" } }
    };
    let page = Page(layout::bare("Signed out", content)).with_status(actix_web::http::StatusCode::OK);
    Ok(with_cookie(page, &session::forgotten(state.secure_cookies)))
}

async fn start_login(
    req: &HttpRequest,
    state: &State,
    id: &str,
    back: &str,
) -> Result<HttpResponse, Problem> {
    let login = state.logins.get(id).ok_or_else(|| Problem::not_found(req.path()))?;
    // Only our own page starts a sign-in; somebody who follows a link from elsewhere sees that page first.
    if is_from_other_site(req.headers()) {
        return Ok(see_other(&return_to::with("/sign-in", back)));
    }
    let origin = origin(req, &state.trusted_proxies);
    counted(state, login, Step::Begin, &origin).await?;
    let attempt = Attempt::begin();
    let url = login.authorization_url(&attempt).await.map_err(|err| refused(state, login, err, &origin))?;
    let kept = format!("{}.{}", attempt.to_keep().expose_secret(), BASE64URL.encode(back));
    Ok(with_cookie(see_other(url.as_str()), &attempt_cookie(kept, state.secure_cookies)))
}

async fn login_callback(
    req: &HttpRequest,
    state: &State,
    id: &str,
    kept: Option<&AttemptCookie>,
) -> Result<SecretString, Problem> {
    let login = state.logins.get(id).ok_or_else(|| Problem::not_found(req.path()))?;
    let origin = origin(req, &state.trusted_proxies);
    counted(state, login, Step::Finish, &origin).await?;
    let attempt = ours(req, login, kept).map_err(|problem| noted(state, login, problem, &origin))?;
    let back = answered(req, login).map_err(|problem| noted(state, login, problem, &origin))?;
    let verified = login.user(attempt, &back).await.map_err(|err| refused(state, login, err, &origin))?;
    let replaced = session::token(req, state.secure_cookies);
    Ok(state.broker.begin_session(login.id(), verified, replaced.as_ref(), origin).await?)
}

/// The attempt that this browser started, if the answer of the provider belongs to it.
fn ours<'a>(
    req: &HttpRequest,
    login: &Login,
    kept: Option<&'a AttemptCookie>,
) -> Result<&'a Attempt, Problem> {
    let attempt = &kept.ok_or_else(Problem::sign_in_not_started)?.attempt;
    let (given, expected) = (parameter(req, "state").unwrap_or_default(), login.state(attempt));
    match verify_slices_are_equal(given.as_bytes(), expected.as_bytes()) {
        Ok(()) => Ok(attempt),
        Err(_) => Err(Problem::sign_in_not_started()),
    }
}

/// The answer of the provider, for an attempt that is known to be ours.
fn answered(req: &HttpRequest, login: &Login) -> Result<Back, Problem> {
    if let Some(error) = parameter(req, "error") {
        return Err(Problem::from_provider(login.name(), &login.code_of(&error)));
    }
    let code = parameter(req, "code").filter(|code| !code.is_empty());
    let code = code.ok_or_else(|| Problem::from_provider(login.name(), "nothing"))?;
    Ok(Back { code, issuer: parameter(req, "iss") })
}

async fn counted(state: &State, login: &Login, step: Step, origin: &Origin) -> Result<(), Problem> {
    let counted = state.broker.count_attempt(step, origin).await;
    counted.map_err(|err| noted(state, login, err.into(), origin))
}

fn refused(state: &State, login: &Login, err: crate::auth::login::Error, origin: &Origin) -> Problem {
    noted(state, login, err.into(), origin)
}

/// A refusal that goes to the audit log.
fn noted(state: &State, login: &Login, problem: Problem, origin: &Origin) -> Problem {
    let (code, why) = (problem.error_code(), problem.detail().to_owned());
    state.broker.note_refused_sign_in(login.id(), login.issuer(), code, why, origin);
    problem
}

/// The content of the cookie while somebody is at the provider.
struct AttemptCookie {
    attempt: Attempt,
    back: String,
}

impl AttemptCookie {
    fn read(req: &HttpRequest, secure: bool) -> Option<AttemptCookie> {
        let cookie = req.cookie(attempt_name(secure))?;
        let (secret, back) = cookie.value().split_once('.')?;
        let back = String::from_utf8(BASE64URL.decode(back).ok()?).ok()?;
        Some(AttemptCookie { attempt: Attempt::from_kept(secret)?, back })
    }
}

fn attempt_name(secure: bool) -> &'static str {
    if secure { "__Host-runner-broker-sign-in" } else { "runner-broker-sign-in" }
}

/// `Lax`, since the browser has to send it when the provider redirects back to us.
fn attempt_cookie(value: String, secure: bool) -> Cookie<'static> {
    Cookie::build(attempt_name(secure), value)
        .path("/")
        .http_only(true)
        .secure(secure)
        .same_site(SameSite::Lax)
        .max_age(ATTEMPT_LIFETIME)
        .finish()
}

fn with_cookie(mut answer: HttpResponse, cookie: &Cookie<'_>) -> HttpResponse {
    if let Err(err) = answer.add_cookie(cookie) {
        tracing::error!(error = %err, "could not set a cookie");
    }
    answer
}

/// Whether the browser says that another site leads here. Old browsers say nothing, and are trusted.
fn is_from_other_site(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").and_then(|site| site.to_str().ok());
    site.is_some_and(|site| !matches!(site, "same-origin" | "none"))
}

/// The first parameter of this name.
fn parameter(req: &HttpRequest, name: &str) -> Option<String> {
    let mut all = form_urlencoded::parse(req.query_string().as_bytes());
    all.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

fn back_to_sign_in(back: &str) -> Markup {
    html! { a href=(return_to::with("/sign-in", back)) { "Back to sign-in" } }
}

fn provider_links(state: &State, back: &str) -> Markup {
    html! {
        h1 { "Sign in" }
        @if state.logins.iter().next().is_none() {
            p { "Sign-in is not set up: no identity provider is configured." }
            p {
                "The operator sets " code { "LOGIN_PROVIDERS" } " and " code { "PUBLIC_URL" } ", for example:"
            }
            pre { code {
                "PUBLIC_URL=https://broker.example.com\n"
                "LOGIN_PROVIDERS='[{\"id\": \"sso\", \"kind\": \"openid\", \"issuer\": \"https://idp.example.com\", "
                "\"client_id\": \"…\", \"client_secret_file\": \"…\"}]'"
            } }
            p { "The API works without sign-in: see " a href="/docs/" { "the API documentation" } "." }
        } @else {
            ul.ways {
                @for login in state.logins.iter() {
                    li {
                        a.button href=(return_to::with(&format!("/sign-in/{}", login.id()), back)) {
                            "Continue with " (login.name())
                        }
                    }
                }
            }
        }
    }
}
