//! The fields that a form sends, accepted only from our own pages.
//!
//! `Sent` wants the session's CSRF token (a hash of its secret), and refuses what the browser says another site
//! sends. `Origin: null` proves nothing: our own forms have it under `Referrer-Policy: no-referrer`.

use std::future::{Ready, ready};
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::http::header::HOST;
use actix_web::web::Data;
use actix_web::{FromRequest, HttpRequest};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::page::PageError;
use super::session::SignedIn;
use crate::broker::people::sessions::Session;
use crate::http::State;
use crate::http::body::{BODY_TIMEOUT, read_body, too_slow};
use crate::http::problem::{FieldError, Problem};
use crate::model::Comment;

/// The most runners that a form may select; a page of the list has no more.
const MAX_SELECTED: usize = 200;

/// The largest form, in bytes: a page of a policy with all its members.
const MAX_FORM: usize = 256 * 1024;

/// The fields in the order of the form; a name may come often.
#[derive(Default)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// The fields of a form, without a request.
    pub fn of(fields: Vec<(String, String)>) -> Fields {
        Fields(fields)
    }

    /// Only the fields of this name.
    pub fn keep(&self, name: &str) -> Fields {
        Fields(self.0.iter().filter(|(field, _)| field == name).cloned().collect())
    }

    /// The trimmed text of a field; nothing if it is missing or empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.iter().find(|(field, _)| field == name).map(|(_, value)| value.trim())?;
        (!value.is_empty()).then_some(value)
    }

    /// All values of a name that are not empty.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self.0.iter().filter(move |(field, _)| field == name);
        named.map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
    }

    /// Whether a checkbox is ticked, or a button was pressed.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(field, _)| field == name)
    }
}

impl Fields {
    /// Reads the fields as a query of the API; empty fields count as absent.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let filled: Vec<_> = self.0.iter().filter(|(_, value)| !value.trim().is_empty()).collect();
        let query = serde_urlencoded::to_string(filled).map_err(|err| unreadable("query", &err))?;
        serde_urlencoded::from_str(&query).map_err(|err| unreadable("query", &err))
    }

    /// The comment for the audit log, which is required.
    pub fn comment(&self) -> Result<Comment, Problem> {
        let text = self.get("comment").unwrap_or_default();
        text.parse().map_err(|err| Problem::invalid(vec![FieldError::new("comment", err)]))
    }

    /// The ids of the selected runners.
    pub fn runner_ids(&self) -> Result<Vec<Uuid>, Problem> {
        let ids: Result<Vec<Uuid>, _> = self.all("id").map(str::parse).collect();
        match ids {
            Ok(ids) if (1..=MAX_SELECTED).contains(&ids.len()) => Ok(ids),
            _ => {
                let message = format!("select 1 to {MAX_SELECTED} runners");
                Err(Problem::invalid(vec![FieldError::new("id", message)]))
            }
        }
    }

    /// All fields but those of this name.
    pub fn without(self, name: &str) -> Fields {
        Fields(self.0.into_iter().filter(|(field, _)| field != name).collect())
    }

    /// The address of the same page with one field set and the fields in `without` left out.
    pub fn link(&self, path: &str, without: &[&str], with: (&str, &str)) -> String {
        let stays = |name: &str| name != with.0 && !without.contains(&name);
        let kept = self.0.iter().filter(|(name, value)| stays(name) && !value.trim().is_empty());
        let kept = kept.map(|(name, value)| (name.as_str(), value.as_str()));
        let query = serde_urlencoded::to_string(kept.chain([with]).collect::<Vec<_>>());
        format!("{path}?{}", query.unwrap_or_default())
    }
}

fn unreadable(what: &str, why: &dyn std::fmt::Display) -> Problem {
    Problem::invalid(vec![FieldError::new(what, why)])
}

/// The query of a page.
pub struct PageQuery(pub Fields);

impl FromRequest for PageQuery {
    type Error = PageError;
    type Future = Ready<Result<PageQuery, PageError>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        let fields = serde_urlencoded::from_str(req.query_string());
        ready(fields.map(|fields| PageQuery(Fields(fields))).map_err(|err| unreadable("query", &err).into()))
    }
}

/// A change that somebody who is signed in sends by a form of ours, which holds the CSRF token of the session.
pub struct SubmittedForm {
    pub session: Session,
    pub fields: Fields,
}

impl FromRequest for SubmittedForm {
    type Error = PageError;
    type Future = Pin<Box<dyn Future<Output = Result<SubmittedForm, PageError>>>>;

    fn from_request(req: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let foreign = is_foreign(req);
        let signed_in = SignedIn::from_request(req, payload);
        let payload = payload.take();
        Box::pin(async move {
            if foreign {
                return Err(Problem::foreign_form().into());
            }
            let SignedIn(session) = signed_in.await?;
            let read = read_body(payload, 0, MAX_FORM);
            let body = tokio::time::timeout(BODY_TIMEOUT, read).await.map_err(|_| too_slow())??;
            let fields = Fields(serde_urlencoded::from_bytes(&body).map_err(|err| unreadable("body", &err))?);
            let token = fields.get("csrf_token").unwrap_or_default();
            match verify_slices_are_equal(token.as_bytes(), session.csrf_token.as_bytes()) {
                Ok(()) => Ok(SubmittedForm { session, fields }),
                Err(_) => Err(Problem::foreign_form().into()),
            }
        })
    }
}

/// Whether the browser says that another site sends this form. The CSRF token is required in any case.
///
/// An `Origin` of `null` says nothing: browsers send it for our own forms, because of `Referrer-Policy: no-referrer`.
fn is_foreign(req: &HttpRequest) -> bool {
    let header = |name: &str| req.headers().get(name).map(|value| value.to_str().unwrap_or("?"));
    let is_ours = |origin: &str| {
        let public =
            req.app_data::<Data<State>>().map(|state| state.public_url.origin().ascii_serialization());
        let host = origin.split_once("://").map(|(_, host)| host);
        public.as_deref() == Some(origin) || (host.is_some() && host == header(HOST.as_str()))
    };
    let from_elsewhere = header("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none"));
    from_elsewhere || header("origin").is_some_and(|origin| origin != "null" && !is_ours(origin))
}
