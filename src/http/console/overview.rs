//! The first page: how things stand.

use actix_web::get;
use maud::html;

use super::layout;
use super::page::{Page, PageError};
use super::session::SignedIn;

#[get("/")]
pub async fn overview(SignedIn(session): SignedIn) -> Result<Page, PageError> {
    let content = html! {
        h1 { "Overview" }
    };
    Ok(Page(layout::page(&session, "/", "Overview", content)))
}
