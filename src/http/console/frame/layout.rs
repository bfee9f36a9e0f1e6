//! The frame around every page.

use maud::{DOCTYPE, Markup, html};

use super::assets;
use crate::broker::people::sessions::Session;

/// The pages in the navigation: path, name.
const PAGES: &[(&str, &str)] = &[
    ("/", "Overview"),
    ("/runners", "Runners"),
    ("/jobs", "Jobs"),
    ("/teams", "Teams"),
    ("/audit", "Audit"),
    ("/security", "Security"),
    ("/system", "System"),
];

/// A page for somebody who is signed in; `here` is the path of its entry in the navigation.
pub fn page(session: &Session, here: &str, title: &str, content: Markup) -> Markup {
    document(
        title,
        html! {
            a.skip href="#main" { "Skip to content" }
            header.top {
                a.brand href="/" { "runner-broker" }
                nav aria-label="Pages" {
                    ul {
                        @for (path, name) in PAGES {
                            li { a href=(path) aria-current=[(*path == here).then_some("page")] { (name) } }
                        }
                    }
                }
                div.who {
                    span.name title=(session.caller.identity.subject) { (session.caller.identity.display_name) }
                    form method="post" action="/sign-out" {
                        (csrf(session))
                        button.quiet { "Sign out" }
                    }
                }
            }
            main #main tabindex="-1" { (content) }
        },
    )
}

/// A page without navigation: sign-in, errors.
pub fn bare(title: &str, content: Markup) -> Markup {
    document(
        title,
        html! {
            header.top { a.brand href="/" { "runner-broker" } }
            main #main tabindex="-1" { (content) }
        },
    )
}

/// The hidden field that every form with a change must have.
pub fn csrf(session: &Session) -> Markup {
    html! { input type="hidden" name="csrf_token" value=(session.csrf_token); }
}

fn document(title: &str, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · runner-broker" }
                link rel="icon" type="image/svg+xml" href=(assets::url("icon.svg"));
                link rel="stylesheet" href=(assets::url("console.css"));
                script type="module" src=(assets::url("console.js")) {}
            }
            body { (body) }
        }
    }
}
