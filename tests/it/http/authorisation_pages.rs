//! Who may see and send which page: the same table, held against the console's sources and what it answers.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use regex::Regex;
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use super::authorisation::{CALLERS, peopled, rows};
use crate::browser::Browser;
use crate::people::identities::{COMMENT, id_of};
use crate::project::sources::files;
use crate::support::World;

/// `METHOD /path` of every page's handler.
fn pages() -> BTreeSet<String> {
    let route = Regex::new(r#"#\[(get|post|put|patch|delete)\("([^"]+)"\)\]"#).unwrap();
    let files = files(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/console")));
    let texts = files.into_iter().map(|path| fs::read_to_string(path).expect("a text"));
    texts
        .flat_map(|text| {
            let found = route.captures_iter(&text);
            found.map(|route| format!("{} {}", route[1].to_uppercase(), &route[2])).collect::<Vec<_>>()
        })
        .collect()
}

/// His browser. Who was deactivated signed in before that.
async fn browser<'a>(world: &'a World, caller: &str) -> Browser<'a> {
    let (_, team) = CALLERS.into_iter().find(|(name, _)| *name == caller).expect("a caller");
    match (caller, team) {
        ("deactivated", Some(team)) => {
            let sub = format!("late-{}", Uuid::now_v7());
            let browser = world.signed_in_as(json!({ "sub": sub, "team": team })).await;
            let seen = browser.get("/").await;
            assert_eq!(seen.status, 200, "{}", seen.text);
            world.broker.flush_identities().await.unwrap();
            let body = json!({ "comment": COMMENT });
            let id = world.sql(&format!("SELECT id FROM identities WHERE subject = '{sub}'")).await.remove(0);
            let done = world.post(&format!("/api/v1/admin/identities/{id}/deactivate"), "boss", body).await;
            assert_eq!(done.status, 200, "{}", done.text);
            browser
        }
        ("bad-token", _) => Browser::with(world, "runner-broker=guessed"),
        (_, Some(team)) => world.signed_in(team).await,
        (_, None) => Browser::with(world, ""),
    }
}

/// What a page is asked for, with the least that it accepts: fresh things for whatever it changes.
async fn arguments(world: &World, path: &str, n: usize) -> (String, Vec<(&'static str, String)>) {
    let fresh = format!("fresh-{n}");
    let comment = ("comment", COMMENT.to_owned());
    let is_removal = path == "/runners/remove" || path == "/runners/remove/check" || path == "/runners/rows";
    if is_removal || path.contains("{id}/remove") || path.contains("{id_or_name}") {
        let flow = if path.ends_with("remove-token") { "provision" } else { "jit" };
        let ask = json!({ "runner_name": fresh });
        let made = world.post(&format!("/api/v1/runners/{flow}"), "blue", ask).await;
        let id = made.str("runner_id").to_owned();
        let query = if path == "/runners/rows" { format!("?id={id}") } else { String::new() };
        let filled = path.replace("{id_or_name}", &fresh).replace("{id}", &id) + &query;
        return (filled, vec![("id", id), comment]);
    }
    if path.starts_with("/identities/{id}") {
        let token = world.issuer.mint(json!({ "sub": format!("{fresh}-user"), "team": "blue" }));
        world.call(Method::GET, "/api/v1/auth/me", &token, &[], None).await;
        world.broker.flush_identities().await.unwrap();
        let id = id_of(world, &fresh).await;
        return (format!("/identities/{id}/deactivate"), vec![comment]);
    }
    if path.starts_with("/teams/{name}") {
        let filled = path.replace("{name}", "blue").replace("{verb:deactivate|reactivate}", "reactivate");
        let tag = world.get("/api/v1/admin/teams/blue", "boss").await.header("etag").replace('"', "");
        return (filled, vec![("version", tag), ("methods", "jit".to_owned()), comment]);
    }
    let event = "SELECT min(id) FROM audit_log WHERE team = 'blue'";
    let filled = path
        .replace("/audit/{id}", &format!("/audit/{}", world.sql(event).await[0]))
        .replace("{version}/{name}", "1/console.css")
        .replace("/sign-in/{id}", "/sign-in/nowhere")
        .replace("{role}", "auditor")
        .replace("{verb:add|remove}", "add");
    assert!(!filled.contains('{'), "{path}: tell what to ask it for");
    let filled = if path == "/audit/export" { format!("{filled}?format=csv") } else { filled };
    let list = if path.starts_with("/denials") { "denials" } else { "auditors" };
    let tag = world.get(&format!("/api/v1/admin/{list}"), "boss").await.header("etag").replace('"', "");
    let member = format!("{} {{\"x\": \"{fresh}\"}}", world.issuer.url());
    let name = ("name", fresh);
    (filled, vec![name, ("version", tag), ("member", member), ("methods", "jit".to_owned())])
}

#[test]
fn every_page_has_a_row_and_every_row_a_page() {
    let (pages, rows) = (pages(), rows("pages"));
    let without_row: Vec<_> = pages.iter().filter(|page| !rows.contains_key(*page)).collect();
    assert!(without_row.is_empty(), "say in tests/it/http/authorisation.txt who may: {without_row:?}");
    let without_page: Vec<_> = rows.keys().filter(|row| !pages.contains(*row)).collect();
    assert!(without_page.is_empty(), "there is no such page any more: {without_page:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_gets_from_every_page_what_the_table_says() {
    let signed = peopled().await;
    let world = &signed.world;
    let mut wrong = Vec::new();
    let mut n = 0;
    for (page, wanted) in rows("pages") {
        let (method, path) = page.split_once(' ').expect("a method and a path");
        for ((caller, _), wanted) in CALLERS.into_iter().zip(wanted) {
            n += 1;
            let (path, mut fields) = arguments(world, path, n).await;
            let browser = browser(world, caller).await;
            let url = format!("{}{path}", world.url);
            let request = match method {
                "GET" => browser.client().get(url),
                _ => {
                    fields.push(("csrf_token", browser.csrf_token("/teams").await));
                    browser.client().post(url).form(&fields)
                }
            };
            let status = browser.status_of(request).await;
            if status != wanted {
                wrong.push(format!("{page} as {caller}: {status} instead of {wanted}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
