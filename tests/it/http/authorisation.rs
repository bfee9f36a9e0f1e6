//! Who may call what: a committed table of every call and every kind of caller, held against the calls that there are
//! and against what they answer.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::{Value, json};

use crate::audit::sealer::{Signed, seal};
use crate::people::identities::{COMMENT, id_of, seen, set, with_roles};
use crate::support::World;

const TABLE: &str = include_str!("authorisation.txt");

/// The columns, and the claim `team` of whom each is: `None` sends no token, or a bad one.
pub const CALLERS: [(&str, Option<&str>); 7] = [
    ("nobody", None),
    ("bad-token", None),
    ("other", Some("red")),
    ("member", Some("blue")),
    ("auditor", Some("watch")),
    ("admin", Some("boss")),
    ("deactivated", Some("blue")),
];

/// Status by caller.
pub type Row = [u16; CALLERS.len()];

/// The rows of a section (`[calls]`, …) by `METHOD /path`.
pub fn rows(section: &str) -> BTreeMap<String, Row> {
    let mut rows = BTreeMap::new();
    let mut here = "";
    for line in TABLE.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[') {
            here = name.trim_end_matches(']');
        } else if here == section && !line.is_empty() && !line.starts_with('#') {
            let words: Vec<&str> = line.split_whitespace().collect();
            let statuses: Vec<u16> = words[2..].iter().map(|status| status.parse().expect(line)).collect();
            let row = statuses.try_into().unwrap_or_else(|_| panic!("a status for each caller: {line}"));
            let twice = rows.insert(format!("{} {}", words[0], words[1]), row);
            assert!(twice.is_none(), "{line}");
        }
    }
    rows
}

/// The token of a caller; `None`: the request has none.
pub fn token(world: &World, caller: &str) -> Option<String> {
    let (_, team) = CALLERS.into_iter().find(|(name, _)| *name == caller).expect("a caller");
    match (caller, team) {
        ("bad-token", _) => {
            let good = world.token("blue");
            Some(format!("{}AAAA", &good[..good.len() - 4]))
        }
        ("deactivated", Some(team)) => Some(world.issuer.mint(json!({ "sub": "gone-user", "team": team }))),
        (_, team) => team.map(|team| world.token(team)),
    }
}

/// All callers of the table, what they may see, and a sealed log.
pub async fn peopled() -> Signed {
    let signed = Signed::new().await;
    let world = &signed.world;
    with_roles(world).await;
    let gone = token(world, "deactivated").unwrap();
    world.call(Method::GET, "/api/v1/auth/me", &gone, &[], None).await;
    seen(world, &["boss"]).await;
    assert_eq!(set(world, "deactivate", "gone", "boss").await.status, 200);
    assert_eq!(world.jit("first").await.status, 201);
    seal(world).await;
    signed
}

/// What a call is made with: fresh things for whatever it changes.
struct Arguments {
    path: String,
    body: Option<Value>,
}

async fn arguments(world: &World, path: &str, method: &str, n: usize) -> Arguments {
    let fresh = format!("fresh-{n}");
    let member = json!({ "issuer": world.issuer.url(), "claims": { "x": fresh } });
    let comment = json!({ "comment": COMMENT });
    let mut filled = path.to_owned();
    let mut body = None;
    if path.contains("{id_or_name}") {
        // A token to remove it by is for the other flow.
        let flow = if path.ends_with("remove-token") { "provision" } else { "jit" };
        let made =
            world.post(&format!("/api/v1/runners/{flow}"), "blue", json!({ "runner_name": fresh })).await;
        assert_eq!(made.status, 201, "{}", made.text);
        filled = path.replace("{id_or_name}", &fresh);
    } else if path.starts_with("/api/v1/runners") && method == "POST" {
        body = Some(json!({ "runner_name": fresh }));
    } else if path.ends_with("/explain") {
        body = Some(json!({ "runner_name": fresh, "method": "jit" }));
    } else if path.ends_with("/proof") {
        let event = "SELECT min(id) FROM audit_log WHERE team = 'blue'";
        filled = path.replace("{id}", &world.sql(event).await[0]);
    } else if path.ends_with("/consistency") {
        filled = format!("{path}?from=1&to=2");
    } else if path.contains("/identities/{id}") {
        let token = world.issuer.mint(json!({ "sub": format!("{fresh}-user"), "team": "blue" }));
        world.call(Method::GET, "/api/v1/auth/me", &token, &[], None).await;
        world.broker.flush_identities().await.unwrap();
        filled = path.replace("{id}", &id_of(world, &fresh).await);
        body = Some(comment);
    } else if path.contains("/admin/teams/{name}") {
        let team = json!({ "name": fresh, "members": [member] });
        let made = world.post("/api/v1/admin/teams", "boss", team).await;
        assert_eq!(made.status, 201, "{}", made.text);
        filled =
            path.replace("{name}", &fresh).replace("{id}", made.body["members"][0]["id"].as_str().unwrap());
        body = match path.rsplit('/').next() {
            Some("deactivate" | "reactivate") => Some(comment),
            Some("members") if method == "POST" => Some(json!({ "issuer": "i", "claims": { "a": "b" } })),
            _ if method == "PATCH" => Some(json!({ "max_runners": 1 })),
            _ => None,
        };
    } else if path == "/api/v1/admin/teams" && method == "POST" {
        body = Some(json!({ "name": fresh }));
    } else if ["/admins/{id}", "/auditors/{id}", "/denials/{id}"].iter().any(|end| path.ends_with(end)) {
        let list = path.trim_end_matches("/{id}");
        let headers = [("if-match", "*")];
        let added = world.call(Method::POST, list, &world.token("boss"), &headers, Some(member)).await;
        let named = if list.ends_with("denials") { "denials" } else { "members" };
        let members = added.body[named].as_array().expect("rules");
        filled = path.replace("{id}", members.last().unwrap()["id"].as_str().unwrap());
    } else if ["/admins", "/auditors", "/denials"].iter().any(|end| path.ends_with(end)) && method == "POST" {
        body = Some(member);
    } else if path.contains("/batch/") {
        let named = if path.ends_with("teams") { "names" } else { "ids" };
        body = Some(json!({ named: [fresh], "comment": COMMENT }));
    } else if path.contains("webhook") {
        body = Some(json!({}));
    }
    assert!(!filled.contains('{'), "{method} {path}: tell what to call it with");
    Arguments { path: filled, body }
}

/// `METHOD /path` of every call in the document as it is served.
async fn calls(world: &World) -> BTreeSet<String> {
    let served = world.call(Method::GET, "/openapi.json", "", &[], None).await;
    let paths = served.body["paths"].as_object().expect("paths").iter();
    let methods = |item: &Value| item.as_object().expect("an item").keys().cloned().collect::<Vec<_>>();
    paths
        .flat_map(|(path, item)| {
            methods(item).into_iter().map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_has_a_row_and_every_row_a_call() {
    let world = World::new().await;
    let (calls, rows) = (calls(&world).await, rows("calls"));
    let without_row: Vec<_> = calls.iter().filter(|call| !rows.contains_key(*call)).collect();
    assert!(without_row.is_empty(), "say in tests/it/http/authorisation.txt who may: {without_row:?}");
    let without_call: Vec<_> = rows.keys().filter(|row| !calls.contains(*row)).collect();
    assert!(without_call.is_empty(), "there is no such call any more: {without_call:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_caller_gets_from_every_call_what_the_table_says() {
    let signed = peopled().await;
    let world = &signed.world;
    let mut wrong = Vec::new();
    let mut n = 0;
    for (call, wanted) in rows("calls") {
        let (method, path) = call.split_once(' ').expect("a method and a path");
        for ((caller, _), wanted) in CALLERS.into_iter().zip(wanted) {
            n += 1;
            let Arguments { path, body } = arguments(world, path, method, n).await;
            let token = token(world, caller).unwrap_or_default();
            let method: Method = method.parse().expect("a method");
            let answer = world.call(method, &path, &token, &[("if-match", "*")], body).await;
            if answer.status != wanted {
                wrong.push(format!(
                    "{call} as {caller}: {} instead of {wanted}: {}",
                    answer.status, answer.text
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
