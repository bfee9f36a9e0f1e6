//! Teams that come and go, what a change would do to whom, and where all of it is only shown.

use reqwest::Method;
use runner_broker::broker::policy::apply;
use serde_json::{Value, json};

use super::teams::{TEAMS, change, etag, events, member, patch, provision};
use crate::people::identities::{COMMENT, new_world};
use crate::support::{World, team};

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
    let shown = apply::current(world.broker.store()).await.unwrap().to_toml();
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
    let warned = tell(json!({ "allowed_labels": ["ubuntu-.*"] })).await;
    assert_eq!(warned["warnings"].as_array().map(Vec::len), Some(1), "{warned}");
    assert!(warned["warnings"][0].as_str().unwrap().contains("'ubuntu-.*' can never match"), "{warned}");
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
    crate::people::identities::with_roles(&world).await;
    crate::people::identities::seen(&world, &["red", "boss"]).await;
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
        (Method::POST, "/api/v1/admin/denials".into(), "*", Some(member.clone())),
        (Method::DELETE, format!("/api/v1/admin/denials/{id}"), "*", None),
        (Method::POST, "/api/v1/admin/batch/deactivate-teams".into(), "", Some(batch)),
    ] {
        let refused = change(&world, method.clone(), &path, seen, body).await;
        assert_eq!(refused.refusal(), (409, "POLICY_IS_MANAGED_BY_FILE"), "{method} {path} {}", refused.text);
    }
    for path in [path.as_str(), "/api/v1/admin/admins", "/api/v1/admin/denials"] {
        assert_eq!(world.get(path, "watch").await.body["managed_by_file"], true);
    }
    assert_eq!(
        crate::people::identities::set(&world, "deactivate", "red", "boss").await.status,
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
