//! Pages that not everybody may see: who may, and what the others are told.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use maud::{Markup, html};

use super::page::{Page, PageError};
use super::{layout, ui};
use crate::broker::Error;
use crate::broker::people::sessions::Session;
use crate::http::State;
use crate::model::Role;

/// Whether he may see what concerns everybody.
pub fn sees_all(session: &Session) -> bool {
    session.caller.has(Role::Admin) || session.caller.has(Role::Auditor)
}

pub fn is_admin(session: &Session) -> bool {
    session.caller.has(Role::Admin)
}

/// Refuses whoever is no administrator; it is noted like any refusal.
pub fn admin(state: &State, session: &Session) -> Result<(), PageError> {
    if is_admin(session) {
        return Ok(());
    }
    state.broker.note_forbidden(&session.caller);
    Err(Error::Forbidden.into())
}

/// The page in the navigation that is not for this visitor, with what there is for him instead.
pub fn not_for(session: &Session, here: &str, title: &str, instead: Markup) -> HttpResponse {
    let content = html! {
        div.title { h1 { (title) } }
        (ui::empty("For administrators and auditors", instead))
    };
    Page(layout::page(session, here, title, content)).with_status(StatusCode::FORBIDDEN)
}
