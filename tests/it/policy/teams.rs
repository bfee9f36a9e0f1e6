//! Teams as administrators make and change them over HTTP.

use futures_util::future::join_all;
use reqwest::Method;
use runner_broker::broker::policy::apply;
use runner_broker::policy::Document;
use serde_json::{Value, json};

use crate::people::identities::{COMMENT, new_world, replica};
use crate::support::{Answer, World};

pub const TEAMS: &str = "/api/v1/admin/teams";

/// A call of the admin boss's with `If-Match`, if it is not empty.
pub async fn change(world: &World, method: Method, path: &str, seen: &str, body: Option<Value>) -> Answer {
    let headers = [("if-match", seen)];
    let headers = if seen.is_empty() { &headers[..0] } else { &headers[..] };
    world.call(method, path, &world.token("boss"), headers, body).await
}

pub async fn patch(world: &World, name: &str, seen: &str, body: Value) -> Answer {
    change(world, Method::PATCH, &format!("{TEAMS}/{name}"), seen, Some(body)).await
}

pub async fn etag(world: &World, path: &str) -> String {
    let answer = world.get(path, "watch").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.header("etag").to_owned()
}

pub async fn events(world: &World, kind: &str) -> Vec<Value> {
    world.log(&format!("event_type = '{kind}'")).await
}

/// Every member of `who`, as a body has it.
pub fn member(world: &World, who: &str) -> Value {
    json!({ "issuer": world.issuer.url(), "claims": { "team": who } })
}

pub async fn provision(world: &World, who: &str, name: &str) -> Answer {
    world.post("/api/v1/runners/jit", who, json!({ "runner_name": name })).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_team_that_was_created_gets_runners_at_once_and_is_in_the_document() {
    let world = new_world().await;
    let other = replica(&world, 2);
    let ask = json!({
        "name": "green machines", "description": "GPU\nrunners", "allowed_labels": ["gpu", "cuda-[0-9]+"],
        "methods": ["jit", "registration_token"], "targets": ["octo-org"], "runner_groups": ["Default", 1],
        "max_runners": 2, "members": [member(&world, "green")],
    });
    let made = world.post(TEAMS, "boss", ask).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(made.header("location"), format!("{TEAMS}/green%20machines"));
    let got = world.get(made.header("location"), "watch").await;
    assert_eq!((got.header("etag"), &got.body), (made.header("etag"), &made.body));
    assert_eq!(got.body["runner_groups"], json!(["Default", 1]));
    assert_eq!((&got.body["requests_per_minute"], &got.body["active"]), (&Value::Null, &json!(true)));
    assert_eq!(got.body["members"][0]["claims"], json!({ "team": "green" }));
    assert_eq!(provision(&world, "green", "g1").await.status, 201);
    assert_eq!(world.get(made.header("location"), "watch").await.body["live_runners"], 1);
    assert_eq!(world.get(made.header("location"), "watch").await.header("etag"), made.header("etag"));

    let event = events(&world, "team_created").await.pop().expect("an event");
    assert_eq!((&event["user_identity"], &event["team"]), (&json!("boss-user"), &json!("green machines")));
    assert_eq!(event["event_data"]["changes"], json!(["team green machines: added"]));
    assert_eq!(event["event_data"]["source"], "api");

    // The whole policy as a document, which says what is in force already.
    let document = apply::current(world.broker.store()).await.unwrap();
    let again = Document::parse(&document.to_toml()).unwrap();
    assert_eq!(again.team.last().unwrap().name, "green machines");
    let applied = world.broker.apply_policy(&again, "test", false).await.unwrap();
    assert_eq!(applied, apply::Applied::Unchanged);

    other.refresh_policy().await.unwrap();
    let verified = world.verifier.verify(&world.token("green")).await.unwrap();
    let admitted = other.admit(verified, Default::default()).unwrap();
    assert_eq!(admitted.teams().collect::<Vec<_>>(), ["green machines"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_taken_once_whatever_its_case_and_state() {
    let world = new_world().await;
    let create = |name: &str| world.post(TEAMS, "boss", json!({ "name": name }));
    let taken = create("Blue").await;
    assert_eq!(taken.refusal(), (409, "TEAM_EXISTS"), "{}", taken.text);
    let off = format!("{TEAMS}/blue/deactivate");
    assert_eq!(
        change(&world, Method::POST, &off, "*", Some(json!({ "comment": COMMENT }))).await.status,
        200
    );
    let taken = create("BLUE").await;
    assert_eq!(taken.refusal(), (409, "TEAM_EXISTS"));
    assert!(taken.str("detail").contains("reactivate"), "{}", taken.text);
    for name in ["", " x", "a/b", "ü", &"x".repeat(65)] {
        let refused = create(name).await;
        assert_eq!(refused.refusal(), (422, "INVALID_REQUEST"), "{name:?}");
        assert_eq!(refused.body["errors"][0]["field"], "name", "{}", refused.text);
    }
    for path in ["nobody", "%00", "%C3%BC", "a%2Fb"] {
        assert_eq!(
            world.get(&format!("{TEAMS}/{path}"), "boss").await.refusal(),
            (404, "NOT_FOUND"),
            "{path}"
        );
    }
    assert_eq!(world.get(&format!("{TEAMS}/RED"), "boss").await.body["name"], "red");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_patch_leaves_what_is_absent_and_null_clears() {
    let world = new_world().await;
    let path = format!("{TEAMS}/red");
    let seen = etag(&world, &path).await;
    let set =
        json!({ "max_runners": 1, "requests_per_minute": 9, "targets": ["octo-org"], "description": "d" });
    let first = patch(&world, "red", &seen, set).await;
    assert_eq!((first.status, &first.body["max_runners"]), (200, &json!(1)), "{}", first.text);
    assert_ne!(first.header("etag"), seen);
    assert_eq!(provision(&world, "red", "r1").await.status, 201);
    assert_eq!(provision(&world, "red", "r2").await.refusal(), (403, "QUOTA_EXCEEDED"));

    let cleared = json!({ "max_runners": null, "targets": null, "methods": null });
    let second = patch(&world, "red", first.header("etag"), cleared).await;
    assert_eq!(second.status, 200, "{}", second.text);
    let body = &second.body;
    assert_eq!((&body["max_runners"], &body["targets"]), (&Value::Null, &Value::Null));
    assert_eq!((&body["methods"], &body["requests_per_minute"]), (&json!(["jit"]), &json!(9)));
    assert_eq!((&body["description"], &body["allowed_labels"]), (&json!("d"), &json!(["linux.*", "docker"])));
    assert_eq!(provision(&world, "red", "r2").await.status, 201, "no limit any more");

    let told = events(&world, "team_updated").await;
    assert_eq!(
        told[1]["event_data"]["changes"],
        json!([
            "team red: max_runners: 1 → unset",
            r#"team red: methods: ["jit","registration_token"] → ["jit"]"#,
            r#"team red: targets: ["octo-org"] → unset"#,
        ])
    );
    let versions = world.sql("SELECT id FROM policy_versions").await.len();
    let same = patch(&world, "red", second.header("etag"), json!({ "description": "d" })).await;
    assert_eq!((same.status, same.header("etag")), (200, second.header("etag")));
    assert_eq!(world.sql("SELECT id FROM policy_versions").await.len(), versions, "nothing changed");
    assert_eq!(events(&world, "team_updated").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_change_is_named_by_its_field() {
    let world = new_world().await;
    let issuer = world.issuer.url();
    for (body, field) in [
        (json!({ "allowed_labels": ["ok", "("] }), "allowed_labels[1]"),
        (json!({ "required_labels": ["a,b"] }), "required_labels[0]"),
        (json!({ "max_runners": -1 }), "max_runners"),
        (json!({ "max_runners": "1" }), "max_runners"),
        (json!({ "methods": [] }), "methods"),
        (json!({ "methods": ["x"] }), "methods[0]"),
        (json!({ "targets": [] }), "targets"),
        (json!({ "targets": ["*"] }), "targets[0]"),
        (json!({ "runner_groups": [0] }), "runner_groups[0]"),
        (json!({ "runner_groups": ["a\u{0}"] }), "runner_groups[0]"),
        (json!({ "description": "\u{0}" }), "description"),
        (json!({ "description": "x".repeat(4001) }), "description"),
        (json!({ "allowed_labels": ["\u{0}"] }), "allowed_labels[0]"),
        (json!({ "members": [{ "issuer": issuer, "claims": {} }] }), "members[0].claims"),
        (json!({ "members": [{ "issuer": issuer, "claims": { "a.b": "(" } }] }), "members[0].claims.a.b"),
        (json!({ "members": [{ "issuer": issuer, "claims": { "a": "\u{0}" } }] }), "members[0].claims.a"),
        (json!({ "members": [{ "issuer": "\u{0}", "claims": { "a": "b" } }] }), "members[0].issuer"),
        (json!({ "name": "other" }), "name"),
        (json!({ "active": false }), "active"),
    ] {
        let refused = patch(&world, "red", "*", body.clone()).await;
        assert_eq!(refused.refusal(), (422, "INVALID_REQUEST"), "{body} {}", refused.text);
        assert_eq!(refused.body["errors"][0]["field"], field, "{body} {}", refused.text);
    }
    assert!(events(&world, "team_updated").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_overwrites_what_he_has_not_seen() {
    let world = new_world().await;
    let path = format!("{TEAMS}/red");
    let member = member(&world, "green");
    let comment = json!({ "comment": COMMENT });
    let writes = [
        (Method::PATCH, path.clone(), Some(json!({ "max_runners": 3 }))),
        (Method::POST, format!("{path}/members"), Some(member)),
        (Method::DELETE, format!("{path}/members/0123456789abcdef"), None),
        (Method::POST, format!("{path}/deactivate"), Some(comment.clone())),
        (Method::POST, format!("{path}/reactivate"), Some(comment)),
    ];
    for (method, path, body) in writes {
        let call = |seen: &'static str| change(&world, method.clone(), &path, seen, body.clone());
        assert_eq!(call("").await.refusal(), (428, "PRECONDITION_REQUIRED"), "{method} {path}");
        for stale in ["\"0123456789abcdef0123456789abcdef\"", "W/\"x\"", "x", "\"a\", \"b\""] {
            assert_eq!(call(stale).await.refusal(), (412, "PRECONDITION_FAILED"), "{method} {path} {stale}");
        }
    }
    let seen = etag(&world, &path).await;
    let several = format!("\"other\", {seen}");
    assert_eq!(patch(&world, "red", &several, json!({ "max_runners": 3 })).await.status, 200);
    assert_eq!(patch(&world, "red", "*", json!({ "max_runners": 4 })).await.status, 200);

    // Of many who saw the same, one writes.
    let seen = etag(&world, &path).await;
    let race = (10..20).map(|most| patch(&world, "red", &seen, json!({ "max_runners": most })));
    let mut statuses: Vec<u16> = join_all(race).await.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [&[200][..], &[412; 9]].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_different_teams_at_once_are_all_kept() {
    let world = new_world().await;
    let create = |n: usize| world.post(TEAMS, "boss", json!({ "name": format!("t{n}") }));
    assert!(join_all((0..12).map(create)).await.iter().all(|made| made.status == 201));
    let limit =
        async |n: usize| patch(&world, &format!("t{n}"), "*", json!({ "max_runners": n })).await.status;
    assert!(join_all((0..12).map(limit)).await.iter().all(|status| *status == 200));
    let kept = world.sql("SELECT max_runners FROM teams WHERE name LIKE 't%' ORDER BY max_runners").await;
    assert_eq!(kept, (0..12).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(events(&world, "team_updated").await.len(), 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_changed_is_newer() {
    let world = new_world().await;
    let updated = async |name: &str| {
        world.sql(&format!("SELECT updated_at FROM teams WHERE name = '{name}'")).await.remove(0)
    };
    let (blue, red) = (updated("blue").await, updated("red").await);
    let seen = etag(&world, &format!("{TEAMS}/blue")).await;
    patch(&world, "red", "*", json!({ "max_runners": 3 })).await;
    assert_eq!(updated("blue").await, blue);
    let second = updated("red").await;
    assert_ne!(second, red);
    let members = format!("{TEAMS}/red/members");
    change(&world, Method::POST, &members, "*", Some(member(&world, "green"))).await;
    assert_ne!(updated("red").await, second, "its members are a part of it");
    // Blue stood before it; its own place changes nothing of red.
    let third = updated("red").await;
    let off = format!("{TEAMS}/blue/deactivate");
    change(&world, Method::POST, &off, &seen, Some(json!({ "comment": COMMENT }))).await;
    assert_eq!(updated("red").await, third);
    assert_eq!(world.sql("SELECT position FROM teams WHERE name = 'red'").await, ["0"]);
}
