//! Who may see and change what, and the page for those who may not.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use maud::{Markup, html};

use super::page::{Page, PageError};
use super::{layout, ui};
use crate::broker::Error;
use crate::broker::people::caller::Caller;
use crate::broker::people::sessions::Session;
use crate::http::State;
use crate::model::Role;
use crate::store::runners::Runner;

/// Whether the visitor sees everything: an administrator or an auditor.
pub fn sees_all(session: &Session) -> bool {
    session.caller.has(Role::Admin) || session.caller.has(Role::Auditor)
}

pub fn is_admin(session: &Session) -> bool {
    session.caller.has(Role::Admin)
}

/// Whether the caller may remove and refresh this runner. The broker checks again.
pub fn may_change(caller: &Caller, runner: &Runner) -> bool {
    caller.has(Role::Admin) || caller.teams().any(|team| team == runner.team)
}

/// Refuses everybody but administrators, and records the refusal.
pub fn admin(state: &State, session: &Session) -> Result<(), PageError> {
    if is_admin(session) {
        return Ok(());
    }
    state.broker.note_forbidden(&session.caller);
    Err(Error::Forbidden.into())
}

/// The answer to a visitor who may not see this page, with what they can see instead.
pub fn not_for(session: &Session, here: &str, title: &str, instead: Markup) -> HttpResponse {
    let content = html! {
        div.title { h1 { (title) } }
        (ui::empty("For administrators and auditors", instead))
    };
    Page(layout::page(session, here, title, content)).with_status(StatusCode::FORBIDDEN)
}
