//! What the calls for administrators answer, held against the OpenAPI document.

use reqwest::Method;
use serde_json::json;

use super::openapi::fits;
use crate::people::identities::{COMMENT, new_world};
use crate::policy::teams::{TEAMS, change, member};

#[tokio::test(flavor = "multi_thread")]
async fn answers_to_administrators_are_what_the_document_says() {
    let world = new_world().await;
    let green = member(&world, "green");
    let (team, members) = (format!("{TEAMS}/{{name}}"), format!("{TEAMS}/{{name}}/members"));
    let full =
        json!({ "name": "green", "runner_groups": ["Default", 1], "max_runners": 5, "members": [green] });
    let dry = world.post(&format!("{TEAMS}?dry_run=true"), "boss", full.clone()).await;
    fits(TEAMS, "post", "200", &dry.body);
    fits(TEAMS, "post", "201", &world.post(TEAMS, "boss", full).await.body);
    assert_eq!(world.jit("b1").await.status, 201);
    for (path, documented) in [
        (TEAMS, TEAMS),
        ("/api/v1/admin/teams/green", &team),
        ("/api/v1/admin/teams/blue", &team),
        ("/api/v1/admin/teams/green/members", &members),
        ("/api/v1/admin/teams/blue/audit", &format!("{team}/audit")),
        ("/api/v1/admin/teams/blue/security-events", &format!("{team}/security-events")),
        ("/api/v1/admin/admins", "/api/v1/admin/admins"),
        ("/api/v1/admin/auditors", "/api/v1/admin/auditors"),
        ("/api/v1/admin/denials", "/api/v1/admin/denials"),
        ("/api/v1/admin/stats", "/api/v1/admin/stats"),
    ] {
        fits(documented, "get", "200", &world.get(path, "watch").await.body);
    }
    let denials = "/api/v1/admin/denials";
    let rule = json!({ "issuer": "i", "claims": { "oid": "7" }, "comment": "left", "until": "2026-12-31T18:00:00Z" });
    let added = change(&world, Method::POST, denials, "*", Some(rule)).await;
    fits(denials, "post", "200", &added.body);
    let one = format!("{denials}/{}", added.body["denials"][0]["id"].as_str().expect("an id"));
    fits(
        &format!("{denials}/{{id}}"),
        "delete",
        "200",
        &change(&world, Method::DELETE, &one, "*", None).await.body,
    );
    let comment = json!({ "comment": COMMENT });
    for (method, more, documented, body) in [
        ("PATCH", "?dry_run=true", team.clone(), Some(json!({ "max_runners": null }))),
        ("PATCH", "", team.clone(), Some(json!({ "runner_groups": null }))),
        ("POST", "/members", members.clone(), Some(member(&world, "grey"))),
        ("POST", "/deactivate", format!("{team}/deactivate"), Some(comment.clone())),
        ("POST", "/reactivate", format!("{team}/reactivate"), Some(comment)),
    ] {
        let path = format!("{TEAMS}/green{more}");
        let answer = change(&world, method.parse::<Method>().unwrap(), &path, "*", body).await;
        fits(&documented, &method.to_lowercase(), "200", &answer.body);
    }
    let refused = change(&world, Method::PATCH, &format!("{TEAMS}/green"), "", Some(json!({}))).await;
    assert_eq!(refused.status, 428);
    fits(&team, "patch", "4XX", &refused.body);
    for (path, named, ids) in [
        ("delete-runners", "ids", json!(["b1", "missing"])),
        ("deactivate-identities", "ids", json!(["x"])),
        ("deactivate-teams", "names", json!(["green"])),
    ] {
        let path = format!("/api/v1/admin/batch/{path}");
        for dry_run in [true, false] {
            let body = json!({ named: ids, "comment": COMMENT, "dry_run": dry_run });
            fits(&path, "post", "200", &world.post(&path, "boss", body).await.body);
        }
    }
}
