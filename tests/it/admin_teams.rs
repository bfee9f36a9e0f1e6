//! Teams as administrators make and change them over HTTP.

use futures_util::future::join_all;
use reqwest::Method;
use runner_broker::broker::administer;
use runner_broker::policy::Document;
use serde_json::{Value, json};

use crate::identities::{COMMENT, new_world, replica};
use crate::support::{Answer, World, team};

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

async fn etag(world: &World, path: &str) -> String {
    let answer = world.get(path, "watch").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.header("etag").to_owned()
}

async fn events(world: &World, kind: &str) -> Vec<Value> {
    world.log(&format!("event_type = '{kind}'")).await
}

/// Every member of `who`, as a body has it.
fn member(world: &World, who: &str) -> Value {
    json!({ "issuer": world.issuer.url(), "claims": { "team": who } })
}

async fn provision(world: &World, who: &str, name: &str) -> Answer {
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
    let document = administer::current(world.broker.store()).await.unwrap();
    let again = Document::parse(&document.to_toml()).unwrap();
    assert_eq!(again.team.last().unwrap().name, "green machines");
    let applied = world.broker.apply_policy(&again, "test", false).await.unwrap();
    assert_eq!(applied, administer::Applied::Unchanged);

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

#[tokio::test(flavor = "multi_thread")]
async fn a_deactivated_team_keeps_its_runners_and_comes_back_with_its_members() {
    let world = new_world().await;
    assert_eq!(world.jit("b1").await.status, 201);
    let path = format!("{TEAMS}/blue");
    let before = world.get(&path, "boss").await;
    let body = |comment: &str| Some(json!({ "comment": comment }));
    let off = |seen: String, comment: &'static str| {
        let (world, path) = (&world, &path);
        async move { change(world, Method::POST, &format!("{path}/deactivate"), &seen, body(comment)).await }
    };
    assert_eq!(off("*".into(), "too short").await.refusal(), (422, "INVALID_REQUEST"));
    let gone = off(before.header("etag").into(), COMMENT).await;
    assert_eq!((gone.status, &gone.body["active"]), (200, &json!(false)), "{}", gone.text);
    assert_eq!(gone.body["members"], before.body["members"]);
    assert_ne!(gone.header("etag"), before.header("etag"));
    assert_eq!(provision(&world, "blue", "b2").await.refusal(), (403, "NO_TEAM"));
    assert_eq!(world.sweep().await.failures, 0);
    assert_eq!((world.status("b1").await.as_str(), world.on_github().len()), ("pending", 1));
    let shown = administer::current(world.broker.store()).await.unwrap().to_toml();
    assert!(!shown.contains("\"blue\""), "{shown}");
    let event = events(&world, "team_deactivated").await.pop().expect("an event");
    assert_eq!(event["event_data"]["comment"], COMMENT);
    assert_eq!(event["event_data"]["changes"], json!(["team blue: deactivated"]));
    // Done again, it is as it was; nothing else of it can be changed.
    assert_eq!(off(gone.header("etag").into(), COMMENT).await.status, 200);
    assert_eq!(events(&world, "team_deactivated").await.len(), 1);
    let refused = patch(&world, "blue", "*", json!({ "max_runners": 1 })).await;
    assert_eq!(refused.refusal(), (409, "TEAM_DEACTIVATED"), "{}", refused.text);
    let members = format!("{path}/members");
    let refused = change(&world, Method::POST, &members, "*", Some(member(&world, "green"))).await;
    assert_eq!(refused.refusal(), (409, "TEAM_DEACTIVATED"));
    // Another change in between, and admins remove what it has.
    assert_eq!(patch(&world, "red", "*", json!({ "max_runners": 1 })).await.status, 200);
    assert_eq!(world.delete("/api/v1/runners/b1", "boss").await.status, 200);

    let on = format!("{path}/reactivate");
    let back = change(&world, Method::POST, &on, gone.header("etag"), body("they are back again")).await;
    assert_eq!((back.status, &back.body["active"]), (200, &json!(true)), "{}", back.text);
    assert_eq!(back.header("etag"), before.header("etag"), "as it was");
    assert_eq!(provision(&world, "blue", "b2").await.status, 201);
    let event = events(&world, "team_reactivated").await.pop().expect("an event");
    assert_eq!(event["event_data"]["changes"], json!(["team blue: reactivated"]));
    assert_eq!(world.sql("SELECT count(*) FROM team_members WHERE team = 'blue'").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_team_that_a_document_left_out_comes_back_by_either_way() {
    let world = new_world().await;
    let admin = "[[admin]]\nissuer = \"ISSUER\"\nclaims = { team = \"boss\" }\n";
    let without = [team("red", ""), admin.into()].concat();
    world.policy(&without).await;
    assert_eq!(world.jit("b1").await.refusal(), (403, "NO_TEAM"));
    let on = format!("{TEAMS}/blue/reactivate");
    let body = Some(json!({ "comment": COMMENT }));
    assert_eq!(change(&world, Method::POST, &on, "*", body).await.status, 200);
    assert_eq!(world.jit("b1").await.status, 201);
    world.policy(&without).await;
    // A document says all that a team is: members that it had before are not its members any more.
    let other = team("blue", "").replace("team = \"blue\"", "team = \"green\"");
    world.policy(&[other, without].concat()).await;
    assert_eq!(world.jit("b2").await.refusal(), (403, "NO_TEAM"));
    assert_eq!(provision(&world, "green", "b2").await.status, 201);
    assert_eq!(world.sql("SELECT count(*) FROM team_members WHERE team = 'blue'").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_changes_for_whom_and_changes_nothing() {
    let world = new_world().await;
    for (name, labels) in
        [("a", json!(["docker"])), ("b", json!(["linux-1"])), ("c", json!(["docker", "linux-2"]))]
    {
        let ask = json!({ "runner_name": name, "labels": labels });
        assert_eq!(world.post("/api/v1/runners/jit", "blue", ask).await.status, 201);
    }
    let dry = format!("{TEAMS}/blue?dry_run=true");
    let tell = async |body: Value| {
        let answer = change(&world, Method::PATCH, &dry, "*", Some(body)).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.body
    };
    let before = world.get(&format!("{TEAMS}/blue"), "boss").await;
    let told = tell(json!({ "allowed_labels": ["docker"], "max_runners": 3 })).await;
    assert_eq!(
        told,
        json!({
            "changes": [
                r#"team blue: allowed_labels: ["linux.*","docker"] → ["docker"]"#,
                "team blue: max_runners: unset → 3",
            ],
            "live_runners": 3, "runners_outside": 2, "runners_outside_names": ["c", "b"], "quota_used_up": true,
        })
    );
    let told = tell(json!({ "targets": ["octo-org/*"], "max_runners": 4 })).await;
    assert_eq!((&told["runners_outside"], &told["quota_used_up"]), (&json!(3), &json!(false)));
    assert_eq!(tell(json!({ "methods": ["registration_token"] })).await["runners_outside"], 3);
    assert_eq!(
        tell(json!({ "required_labels": ["linux-1", "linux-2"], "allowed_labels": ["docker"] })).await["runners_outside"],
        0
    );
    assert_eq!(tell(json!({})).await["changes"], json!([]));
    let refused = change(&world, Method::PATCH, &dry, "*", Some(json!({ "targets": [] }))).await;
    assert_eq!(refused.refusal(), (422, "INVALID_REQUEST"));
    assert_eq!(change(&world, Method::PATCH, &dry, "\"x\"", Some(json!({}))).await.status, 412);

    let made = world
        .post(&format!("{TEAMS}?dry_run=true"), "boss", json!({ "name": "new", "max_runners": 0 }))
        .await;
    assert_eq!((made.status, &made.body["changes"]), (200, &json!(["team new: added"])), "{}", made.text);
    assert_eq!(made.body["quota_used_up"], true);
    assert_eq!(world.get(&format!("{TEAMS}/new"), "boss").await.status, 404);
    let after = world.get(&format!("{TEAMS}/blue"), "boss").await;
    assert_eq!((after.header("etag"), &after.body), (before.header("etag"), &before.body));
    assert!(world.log("event_type LIKE 'team_%'").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn members_come_and_go_by_ids_that_stay() {
    let world = new_world().await;
    let path = format!("{TEAMS}/red/members");
    let green = json!({ "issuer": world.issuer.url(), "claims": { "team": "green", "/a/b": "[0-9]+" } });
    let added = change(&world, Method::POST, &path, "*", Some(green.clone())).await;
    assert_eq!(added.body["members"].as_array().map(Vec::len), Some(2), "{}", added.text);
    let id = added.body["members"][1]["id"].as_str().expect("an id").to_owned();
    let again = change(&world, Method::POST, &path, added.header("etag"), Some(green)).await;
    assert_eq!((again.status, again.header("etag")), (200, added.header("etag")), "it is in already");
    let listed = world.get(&path, "watch").await;
    assert_eq!(
        (&listed.body, listed.header("etag")),
        (&again.body, etag(&world, &format!("{TEAMS}/red")).await.as_str())
    );
    assert_eq!(listed.body["managed_by_file"], false);

    let one = format!("{path}/{id}");
    let first = listed.body["members"][0]["id"].as_str().unwrap();
    let gone = change(&world, Method::DELETE, &format!("{path}/{first}"), listed.header("etag"), None).await;
    assert_eq!(gone.body["members"][0]["id"], json!(id), "{}", gone.text);
    assert_eq!(provision(&world, "red", "r1").await.refusal(), (403, "NO_TEAM"));
    assert_eq!(
        change(&world, Method::DELETE, &one, gone.header("etag"), None).await.body["members"],
        json!([])
    );
    for id in [id.as_str(), "x", "%00"] {
        let missing = change(&world, Method::DELETE, &format!("{path}/{id}"), "*", None).await;
        assert_eq!(missing.refusal(), (404, "NOT_FOUND"), "{}", missing.text);
    }
    let bad = json!({ "issuer": world.issuer.url(), "claims": { "team": "(" } });
    let refused = change(&world, Method::POST, &path, "*", Some(bad)).await;
    assert_eq!(refused.body["errors"][0]["field"], "claims.team", "{}", refused.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_policy_is_a_file_it_is_only_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("policy.toml");
    std::fs::write(&path, team("of-file", "").replace("ISSUER", "https://issuer.example")).expect("a file");
    let world = World::with(|config| config.policy_file = Some(path.clone())).await;
    crate::identities::with_roles(&world).await;
    crate::identities::seen(&world, &["red", "boss"]).await;
    let comment = json!({ "comment": COMMENT });
    let member = member(&world, "green");
    let path = format!("{TEAMS}/red");
    let id = world.get(&format!("{path}/members"), "boss").await.body["members"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let batch = json!({ "names": ["red"], "comment": COMMENT });
    for (method, path, seen, body) in [
        (Method::POST, TEAMS.to_owned(), "", Some(json!({ "name": "green" }))),
        (Method::POST, format!("{TEAMS}?dry_run=true"), "", Some(json!({ "name": "green" }))),
        // The file first: nobody should be sent for an ETag that is of no use.
        (Method::PATCH, path.clone(), "", Some(json!({ "max_runners": 1 }))),
        (Method::PATCH, path.clone(), "*", Some(json!({ "max_runners": 1 }))),
        (Method::POST, format!("{path}/deactivate"), "*", Some(comment.clone())),
        (Method::POST, format!("{path}/reactivate"), "*", Some(comment)),
        (Method::POST, format!("{path}/members"), "*", Some(member.clone())),
        (Method::DELETE, format!("{path}/members/{id}"), "*", None),
        (Method::POST, "/api/v1/admin/admins".into(), "*", Some(member.clone())),
        (Method::DELETE, format!("/api/v1/admin/auditors/{id}"), "*", None),
        (Method::POST, "/api/v1/admin/batch/deactivate-teams".into(), "", Some(batch)),
    ] {
        let refused = change(&world, method.clone(), &path, seen, body).await;
        assert_eq!(refused.refusal(), (409, "POLICY_IS_MANAGED_BY_FILE"), "{method} {path} {}", refused.text);
    }
    for path in [path.as_str(), "/api/v1/admin/admins"] {
        assert_eq!(world.get(path, "watch").await.body["managed_by_file"], true);
    }
    assert_eq!(
        crate::identities::set(&world, "deactivate", "red", "boss").await.status,
        200,
        "identities stay ours"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_goes_by_name_and_filters_and_pages() {
    let world = new_world().await;
    for name in ["Zeta", "alpha", "Beta 2"] {
        let made =
            world.post(TEAMS, "boss", json!({ "name": name, "description": format!("about {name}") })).await;
        assert_eq!(made.status, 201, "{}", made.text);
    }
    let off = format!("{TEAMS}/Zeta/deactivate");
    change(&world, Method::POST, &off, "*", Some(json!({ "comment": COMMENT }))).await;
    assert_eq!(world.jit("b1").await.status, 201);
    let names = async |query: &str| {
        let answer = world.get(&format!("{TEAMS}?{query}"), "watch").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let teams = answer.body["teams"].as_array().unwrap().clone();
        let names: Vec<String> = teams.iter().map(|team| team["name"].as_str().unwrap().to_owned()).collect();
        (names.join(" "), answer)
    };
    let (all, answer) = names("").await;
    assert_eq!(all, "alpha Beta 2 blue red Zeta");
    let blue = &answer.body["teams"][2];
    assert_eq!(
        (&blue["live_runners"], &blue["members"][0]["claims"]),
        (&json!(1), &json!({ "team": "blue" }))
    );
    assert_eq!(names("active=true").await.0, "alpha Beta 2 blue red");
    assert_eq!(names("active=false").await.0, "Zeta");
    assert_eq!(names("q=BOUT%20B").await.0, "Beta 2");
    assert_eq!(names("q=%25").await.0, "");
    let (mut visited, mut cursor) = (Vec::new(), String::new());
    loop {
        let (page, answer) = names(&format!("limit=2{cursor}")).await;
        visited.push(page);
        match answer.body["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={}", next.replace(' ', "%20")),
            None => break,
        }
    }
    assert_eq!(visited, ["alpha Beta 2", "blue red", "Zeta"]);
    for query in ["limit=0", "cursor=%00", "active=x", "who=x", "q=%00"] {
        let answer = world.get(&format!("{TEAMS}?{query}"), "watch").await;
        assert_eq!(answer.refusal(), (422, "INVALID_REQUEST"), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_teams_log_is_its_own() {
    let world = new_world().await;
    assert_eq!(world.jit("b1").await.status, 201);
    assert_eq!(provision(&world, "red", "r1").await.status, 201);
    let gpu = json!({ "runner_name": "b2", "labels": ["gpu"] });
    assert_eq!(world.post("/api/v1/runners/jit", "blue", gpu).await.status, 403);
    let list = async |path: &str| {
        let answer = world.get(&format!("{TEAMS}/Blue/{path}"), "watch").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let of = |one: &Value, field: &str| one[field].as_str().unwrap_or_default().to_owned();
        let logs = answer.body["logs"].as_array().or(answer.body["events"].as_array()).unwrap().clone();
        logs.iter().map(|one| format!("{} {}", of(one, "event_type"), of(one, "team"))).collect::<Vec<_>>()
    };
    let whole = ["provision_refused blue", "provisioned blue", "provision_requested blue"];
    assert_eq!(list("audit").await, whole);
    assert_eq!(list("audit?event_type=provisioned&success=true").await, [whole[1]]);
    assert_eq!(list("security-events").await, [whole[0]]);
    assert!(list("security-events?severity=high").await.is_empty());
    for path in ["audit?team=red", "security-events?team=red", "audit?limit=0"] {
        let answer = world.get(&format!("{TEAMS}/blue/{path}"), "watch").await;
        assert_eq!(answer.refusal(), (422, "INVALID_REQUEST"), "{path}");
    }
    assert_eq!(world.get(&format!("{TEAMS}/nobody/audit"), "watch").await.refusal(), (404, "NOT_FOUND"));
}
