//! A page as a response, and the error page.

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, HeaderValue, LOCATION, RETRY_AFTER};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, Responder, ResponseError};
use maud::{Markup, html};

use super::{layout, no_team, return_to, ui};
use crate::broker::people::sessions::Session;
use crate::http::problem::Problem;
use crate::visible::visible;
use crate::{broker, github};

/// A page of HTML.
pub struct Page(pub Markup);

/// A response that no cache may store: a page may hold what only this visitor may see.
fn no_store(status: StatusCode) -> HttpResponseBuilder {
    let mut answer = HttpResponse::build(status);
    answer.insert_header((CACHE_CONTROL, "no-store"));
    answer
}

impl Page {
    pub fn with_status(self, status: StatusCode) -> HttpResponse {
        no_store(status)
            .content_type("text/html; charset=utf-8")
            .body(visible(&self.0.into_string()).into_owned())
    }
}

impl Responder for Page {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        self.with_status(StatusCode::OK)
    }
}

/// 303 See Other: the browser loads `location` by GET.
pub fn see_other(location: &str) -> HttpResponse {
    no_store(StatusCode::SEE_OTHER).insert_header((LOCATION, location.to_owned())).finish()
}

/// Why there is no page to show.
#[derive(Debug)]
pub enum PageError {
    /// Nobody is signed in: sign in, then come back to this path and query.
    SignIn(String),
    /// Somebody is signed in who is in no team: the page says what to ask an administrator for.
    NoTeam(Stranger),
    /// The problem that the API would answer, for people.
    Problem(Box<Problem>),
}

/// The session of somebody without team or role. Its `Debug` shows nothing of it.
pub struct Stranger(pub Box<Session>);

impl std::fmt::Debug for Stranger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a stranger")
    }
}

impl PageError {
    /// Sign in, then come back here if this is a GET, otherwise to the overview.
    pub fn sign_in(req: &HttpRequest) -> PageError {
        let back = req.uri().path_and_query().map_or("/", |path| path.as_str());
        PageError::SignIn(if req.method() == "GET" { back.to_owned() } else { "/".to_owned() })
    }
}

impl From<Problem> for PageError {
    fn from(problem: Problem) -> PageError {
        PageError::Problem(Box::new(problem))
    }
}

impl From<broker::Error> for PageError {
    fn from(err: broker::Error) -> PageError {
        Problem::from(err).into()
    }
}

impl From<github::Error> for PageError {
    fn from(err: github::Error) -> PageError {
        broker::Error::GitHub(err).into()
    }
}

impl std::fmt::Display for PageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PageError::SignIn(_) => f.write_str("not signed in"),
            PageError::NoTeam(_) => f.write_str("no team and no role"),
            PageError::Problem(problem) => problem.fmt(f),
        }
    }
}

impl ResponseError for PageError {
    fn status_code(&self) -> StatusCode {
        match self {
            PageError::SignIn(_) => StatusCode::SEE_OTHER,
            PageError::NoTeam(_) => StatusCode::OK,
            PageError::Problem(problem) => problem.status_code(),
        }
    }

    fn error_response(&self) -> HttpResponse {
        match self {
            PageError::SignIn(back) => see_other(&return_to::with("/sign-in", back)),
            PageError::NoTeam(Stranger(session)) => Page(no_team::page(session)).with_status(StatusCode::OK),
            PageError::Problem(problem) => error_page(problem, html! { a href="/" { "Go to the overview" } }),
        }
    }
}

/// The error page: the problem, and a link that leads on.
pub fn error_page(problem: &Problem, onward: Markup) -> HttpResponse {
    let page = Page(layout::bare(
        problem.title(),
        html! {
            h1 { (problem.title()) }
            p { (sentence(problem.detail())) }
            (ui::field_errors(problem.errors()))
            p.hint { "Request " code { (problem.request_id()) } " · " code { (problem.error_code()) } }
            p { (onward) }
        },
    ));
    let mut answer = page.with_status(problem.status_code());
    if let Some(seconds) = problem.wait() {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    answer
}

/// A detail, which begins in lower case for programs, as a sentence.
fn sentence(detail: &str) -> String {
    let mut rest = detail.chars();
    let first = rest.next().map(char::to_uppercase).into_iter().flatten();
    let end = if detail.ends_with(['.', '?', '!']) { "" } else { "." };
    first.chain(rest).collect::<String>() + end
}
