//! The session of a request, by the cookie of the browser.

use std::pin::Pin;

use actix_web::cookie::{Cookie, SameSite};
use actix_web::dev::Payload;
use actix_web::http::header::ACCEPT;
use actix_web::web::Data;
use actix_web::{FromRequest, HttpRequest};
use secrecy::{ExposeSecret, SecretString};

use super::page::{PageError, Stranger};
use crate::broker::people::sessions::Session;
use crate::http::State;
use crate::http::caller::{hold, origin};
use crate::http::problem::Problem;

/// Somebody who is signed in. All others are redirected to the sign-in, and back afterwards.
pub struct SignedIn(pub Session);

impl FromRequest for SignedIn {
    type Error = PageError;
    type Future = Pin<Box<dyn Future<Output = Result<SignedIn, PageError>>>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        let req = req.clone();
        Box::pin(async move {
            let Some(state) = req.app_data::<Data<State>>() else {
                return Err(Problem::not_found(req.path()).into());
            };
            let Some(token) = token(&req, state.secure_cookies) else { return Err(PageError::sign_in(&req)) };
            let origin = origin(&req, &state.trusted_proxies);
            let session = match asks_by_itself(&req) {
                true => state.broker.glance(&token, origin).await?,
                false => state.broker.session(&token, origin).await?,
            };
            if let Some(session) = &session {
                hold(&req, &session.caller)?;
            }
            match session {
                // For every page. The broker refuses what they send, except signing out, which everybody may.
                Some(session) if session.caller.is_stranger() && req.method() == "GET" => {
                    Err(PageError::NoTeam(Stranger(Box::new(session))))
                }
                Some(session) => Ok(SignedIn(session)),
                None => Err(PageError::sign_in(&req)),
            }
        })
    }
}

/// Whether a script of ours sends this request without an action of the user.
fn asks_by_itself(req: &HttpRequest) -> bool {
    let accepts = req.headers().get(ACCEPT).is_some_and(|accepts| accepts == "text/event-stream");
    accepts || req.headers().contains_key("x-by-itself")
}

/// `__Host-`: a browser takes it over TLS only, for this host alone, and from no neighbour.
fn name(secure: bool) -> &'static str {
    if secure { "__Host-runner-broker" } else { "runner-broker" }
}

/// The session token in the cookie.
pub fn token(req: &HttpRequest, secure: bool) -> Option<SecretString> {
    req.cookie(name(secure)).map(|cookie| SecretString::from(cookie.value()))
}

/// The cookie with the session token. `Lax`: a link from a chat leads to the page and not to the sign-in.
pub fn cookie(token: &SecretString, secure: bool) -> Cookie<'static> {
    Cookie::build(name(secure), token.expose_secret().to_owned())
        .path("/")
        .http_only(true)
        .secure(secure)
        .same_site(SameSite::Lax)
        .finish()
}

/// The cookie that removes the session token.
pub fn forgotten(secure: bool) -> Cookie<'static> {
    let mut cookie = cookie(&SecretString::default(), secure);
    cookie.make_removal();
    cookie
}
