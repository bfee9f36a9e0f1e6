//! A runner that was just made: its credential, shown this once, and how to start it.

use maud::{Markup, html};

use super::recipes::recipes;
use crate::broker::Broker;
use crate::broker::provision::Provisioned;
use crate::http::console::frame::ui;
use crate::model::{Method, Os};

pub fn ready(broker: &Broker, made: &Provisioned, os: Os) -> Markup {
    let now = broker.clock().now();
    let until = match made.grant.method() {
        Method::Jit => "It has to start by then, or it is removed",
        Method::RegistrationToken => "Its token ends then",
    };
    html! {
        h1 { (made.runner.name) " is ready to start" }
        (ui::notice(ui::Notice::Warning, html! {
            p {
                "What follows holds its credential, is shown this once and kept nowhere. Loading this page again would "
                "replace it by another."
            }
        }))
        section.card {
            (ui::facts([
                ("Runner", html! { a href={ "/runners/" (made.runner.id) } { (made.runner.name) } }),
                ("Team", html! { (made.grant.team()) }),
                ("Target", html! { (made.grant.target()) }),
                ("Labels", ui::labels(&made.runner.labels)),
                (until, ui::time(made.expires_at, now)),
            ]))
        }
        @for recipe in recipes(made, os, &broker.url_of(made.grant.target())) {
            section.card {
                h2 { (recipe.title) }
                p { (recipe.explanation) }
                (ui::copyable(recipe.id, &recipe.text))
            }
        }
        div.actions {
            a.button href={ "/runners/" (made.runner.id) } { "See how it does" }
            a.button.quiet href="/runners/new" { "Another one" }
        }
    }
}
