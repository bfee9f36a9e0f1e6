//! One event: its record as it is sealed, and the proof. The script event.js builds the bytes of the event from
//! the text of this page, so the proof covers exactly what the page shows.
//!
//! `frame/assets/verify.js` builds the event's bytes from what the page shows (never from the proof's `record`), follows
//! the audit path, and checks the checkpoint's signature with WebCrypto: a page that shows something else fails.
//! `tests/peers/browser_proof.rs` runs the script in node with each field, hash and signature changed.

use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::{Data, Path};
use actix_web::{HttpResponse, get};
use maud::{Markup, PreEscaped, html};
use url::Url;

use super::list::PATH;
use crate::broker::audit::event::Sealed;
use crate::broker::audit::proof::EventProof;
use crate::http::State;
use crate::http::api::audit_proofs::AuditProof;
use crate::http::console::frame::filter::segment;
use crate::http::console::frame::page::{Page, PageError};
use crate::http::console::frame::session::SignedIn;
use crate::http::console::frame::{assets, layout, ui};
use crate::http::problem::Problem;
use crate::seal::record::Record;

#[get("/audit/{id}")]
pub async fn event(
    SignedIn(session): SignedIn,
    id: Path<String>,
    state: Data<State>,
) -> Result<Page, PageError> {
    let sealed = state.broker.sealed_event(&session.caller, known(&id)?).await?;
    let vkey = state.broker.verifier_key();
    let now = state.broker.clock().now();
    let title = format!("Event {}", sealed.event.id);
    let content = html! {
        p { a href=(PATH) { "Audit log" } }
        div.title {
            h1 { (title) ": " (ui::event_type(&sealed.event.event_type)) }
            span { (ui::severity(&sealed.event.severity)) " " (ui::time(sealed.event.timestamp, now)) }
        }
        (fields(&sealed.record))
        (proof(&sealed, vkey.as_deref(), &state.public_url))
        script type="module" src=(assets::url("event.js")) {}
    };
    Ok(Page(layout::page(&session, PATH, &title, content)))
}

/// The proof as the API answers it, for the page's script.
#[get("/audit/{id}/proof")]
pub async fn event_proof(
    SignedIn(session): SignedIn,
    id: Path<String>,
    state: Data<State>,
) -> Result<HttpResponse, Problem> {
    let proof = state.broker.event_proof(&session.caller, known(&id)?).await?;
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(AuditProof::from(proof)))
}

/// A text that is not a number is the id of no event: 404.
fn known(id: &str) -> Result<i64, Problem> {
    id.parse().map_err(|_| Problem::not_found(&format!("{PATH}/{id}")))
}

fn fields(record: &Record) -> Markup {
    let text = |name: &'static str, label: &'static str, value: &Option<String>| {
        row(name, label, value.as_deref(), None)
    };
    let path = |prefix: &str, value: &Option<String>| {
        value.as_ref().map(|value| format!("{prefix}{}", segment(value)))
    };
    let success = record.success.map(|success| success.to_string());
    html! {
        section.card aria-labelledby="fields" {
            h2 #fields { "Event record" }
            dl.facts {
                (row("id", "Id", Some(&record.id), None))
                (row("timestamp", "When", Some(&record.timestamp), None))
                (text("event_type", "Event type", &record.event_type))
                (text("severity", "Severity", &record.severity))
                (text("success", "Success", &success))
                (text("user_identity", "Who", &record.user_identity))
                (text("issuer", "Issuer", &record.issuer))
                (text("subject", "Subject", &record.subject))
                (row("team", "Team", record.team.as_deref(), path("/teams/", &record.team)))
                (text("runner_name", "Runner", &record.runner_name))
                (row("runner_id", "Runner id", record.runner_id.as_deref(), path("/runners/", &record.runner_id)))
                (text("target", "Target", &record.target))
                (text("policy_rule", "Matched rule", &record.policy_rule))
                (text("error_code", "Error code", &record.error_code))
                (text("error_message", "Error", &record.error_message))
                (text("request_id", "Request id", &record.request_id))
                (text("request_ip", "Address", &record.request_ip))
                (text("user_agent", "User agent", &record.user_agent))
                (row("xid", "Transaction", Some(&record.xid), None))
                (row("event_data", "Data", Some(&record.event_data), None))
            }
        }
    }
}

/// One field; the element with `data-field` holds exactly its value.
fn row(name: &str, label: &str, value: Option<&str>, link: Option<String>) -> Markup {
    html! {
        div {
            dt { (label) }
            @match (value, link) {
                (None, _) => dd.none data-field=(name) data-null { "–" },
                (Some(value), Some(link)) => dd.exact data-field=(name) { a href=(link) { (exact(value)) } },
                (Some(value), None) => dd.exact data-field=(name) { (exact(value)) },
            }
        }
    }
}

/// Escaped. Carriage returns are written as a reference, since a browser would turn them into line feeds.
fn exact(text: &str) -> Markup {
    PreEscaped(html! { (text) }.into_string().replace('\r', "&#13;"))
}

fn proof(sealed: &Sealed, vkey: Option<&str>, public_url: &Url) -> Markup {
    let Some(proof) = &sealed.proof else {
        return html! {
            section.card aria-labelledby="proof" {
                h2 #proof { "Proof" }
                p { "This event is not sealed yet. Reload this page in a few seconds." }
            }
        };
    };
    html! {
        section.card aria-labelledby="proof" {
            h2 #proof { "Proof" }
            p {
                "The event is leaf " (ui::number(proof.leaf_index as i64)) " of a Merkle tree with "
                (ui::number(proof.tree_size as i64)) " leaves. The checkpoint names its root."
            }
            p {
                label.field.long {
                    span { "Verifier key: compare it with your copy, or paste yours" }
                    textarea #vkey spellcheck="false" { (vkey.unwrap_or_default()) }
                }
            }
            p { button #verify type="button" hidden data-proof={ (PATH) "/" (proof.event_id) "/proof" } {
                "Verify this event in your browser"
            } }
            ol #steps aria-live="polite" hidden {}
            div #verdict role="status" hidden {}
            details { summary { "Proof" } (proof_facts(proof)) }
            details { summary { "Verify on the command line" } (commands(sealed, public_url)) }
        }
    }
}

fn proof_facts(proof: &EventProof) -> Markup {
    html! {
        (ui::facts([
            ("Leaf", html! { (proof.leaf_index) }),
            ("Leaf hash", html! { code { (proof.leaf_hash) } }),
            ("Tree size", html! { (proof.tree_size) }),
        ]))
        h3 { "Hashes, from the sibling of the leaf to the child of the root" }
        ol { @for hash in &proof.hashes { li { code { (hash) } } } }
        h3 { "Checkpoint" }
        (ui::copyable("checkpoint-note", &proof.checkpoint))
        h3 { "Hashed bytes" }
        (ui::copyable("record", &proof.record))
    }
}

fn commands(sealed: &Sealed, public_url: &Url) -> Markup {
    let day = sealed.event.timestamp.date_naive();
    let next = day.succ_opt().unwrap_or(day);
    let api = public_url.as_str().trim_end_matches('/');
    let lines = format!(
        "curl -H \"Authorization: Bearer $TOKEN\" {api}/api/v1/audit/checkpoint > checkpoint-of-today.txt\n\
         runner-broker export-audit-log --since {day} --until {next} --format jsonl --output audit.jsonl \
         --checkpoint checkpoint.txt\n\
         runner-broker verify-audit-log --file audit.jsonl --checkpoint checkpoint.txt --key audit.vkey\n"
    );
    html! {
        p { "Export the events of that day with their seal (needs access to the database); anybody can verify the files. "
            code { "audit.vkey" } " is your copy of the verifier key." }
        (ui::copyable("commands", &lines))
    }
}
