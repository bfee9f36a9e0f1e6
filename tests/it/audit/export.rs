//! The commands for operators, as the built program runs them.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::{ORG, World};

/// The program with the environment that it needs and no other.
fn program(world: &World, arguments: &[&str]) -> Output {
    let github = &world.github;
    Command::new(env!("CARGO_BIN_EXE_runner-broker"))
        .args(arguments)
        .env_clear()
        .current_dir(std::env::temp_dir())
        .env("DATABASE_URL", world.database_url())
        .env("GITHUB_APP_ID", github.app_id().to_string())
        .env("GITHUB_APP_PRIVATE_KEY", github.private_key_pem())
        .env("GITHUB_ORG", ORG)
        .env("GITHUB_API_URL", github.url())
        .output()
        .expect("the program")
}

fn said(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    (output.status.code().expect("an end of its own"), text(&output.stdout), text(&output.stderr))
}

/// Exports to a file of this name; its content.
fn export(world: &World, folder: &Path, arguments: &[&str]) -> String {
    let file = folder.join("audit.out");
    let fixed = ["export-audit-log", "--output", file.to_str().unwrap()];
    let (code, out, err) = said(&program(world, &[&fixed, arguments].concat()));
    assert_eq!(code, 0, "{out}{err}");
    std::fs::read_to_string(&file).expect("an export")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_exported_in_three_formats_oldest_first() {
    let world = World::new().await;
    world.jit("b1").await;
    world.delete("/api/v1/runners/b1", "blue").await;
    let folder = tempfile::tempdir().unwrap();
    let types = world.sql("SELECT event_type FROM audit_log ORDER BY id").await;
    let of = |events: &[Value]| -> Vec<String> {
        events.iter().map(|event| event["event_type"].as_str().unwrap().to_owned()).collect()
    };

    let array = export(&world, folder.path(), &["--since", "2020-01-01"]);
    let array: Vec<Value> = serde_json::from_str(&array).expect("an array");
    assert_eq!(of(&array), types);
    let lines = export(&world, folder.path(), &["--since", "2020-01-01", "--format", "jsonl"]);
    let lines: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    assert_eq!(lines, array);
    let shown = world.get("/api/v1/audit?event_type=provisioned", "blue").await;
    let exported = array.iter().find(|event| event["event_type"] == json!("provisioned"));
    assert_eq!(exported, Some(&shown.body["logs"][0]), "as the API has it");

    let csv = export(&world, folder.path(), &["--since", "2020-01-01", "--format", "csv"]);
    let mut csv = csv::Reader::from_reader(csv.as_bytes());
    assert_eq!(csv.headers().unwrap().len(), 19);
    let records: Vec<csv::StringRecord> = csv.records().collect::<Result<_, _>>().unwrap();
    assert_eq!(records.iter().map(|record| record[2].to_owned()).collect::<Vec<_>>(), types);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing but the export");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_has_what_is_between_since_and_until_however_much() {
    let world = World::new().await;
    world
        .sql(
            "INSERT INTO audit_log (timestamp, event_type, severity, success, user_identity)
             SELECT '2025-01-01T00:00:00Z'::timestamptz + i * interval '1 s', 'e' || i, 'info', true, 'u'
             FROM generate_series(0, 2499) i",
        )
        .await;
    let folder = tempfile::tempdir().unwrap();
    let count = |text: &str| text.lines().count();
    let whole = export(
        &world,
        folder.path(),
        &["--since", "2025-01-01", "--until", "2025-02-01", "--format", "jsonl"],
    );
    assert_eq!(count(&whole), 2_500);
    let part = ["--since", "2025-01-01T00:00:10Z", "--until", "2025-01-01T00:00:20Z", "--format", "jsonl"];
    assert_eq!(count(&export(&world, folder.path(), &part)), 10);
    let none = ["--since", "2024-01-01", "--until", "2024-01-02"];
    assert_eq!(export(&world, folder.path(), &none), "[]\n");
    let none = [none.as_slice(), &["--format", "csv"]].concat();
    assert_eq!(count(&export(&world, folder.path(), &none)), 1, "the header");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_spreadsheet_would_calculate_is_text() {
    let world = World::new().await;
    let name = "=HYPERLINK(\"http://evil\",\"a,b\")";
    let token = world.issuer.mint(json!({ "sub": "+1", "preferred_username": name, "team": "blue" }));
    let body = Some(json!({ "runner_name": "b1" }));
    let path = "/api/v1/runners/jit";
    assert_eq!(world.call(reqwest::Method::POST, path, &token, &[], body).await.status, 201);
    let folder = tempfile::tempdir().unwrap();
    let csv = export(&world, folder.path(), &["--since", "2020-01-01", "--format", "csv"]);
    let mut csv = csv::Reader::from_reader(csv.as_bytes());
    let last = csv.records().last().unwrap().unwrap();
    assert_eq!((&last[5], &last[7]), (format!("'{name}").as_str(), "'+1"));
    for record in csv.records() {
        assert!(record.unwrap().iter().all(|field| !field.starts_with(['=', '+', '-', '@', '\t', '\r'])));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_wrongly_ends_with_2_and_what_fails_with_1() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("no/such/folder/x.json");
    for (arguments, code) in [
        (vec!["export-audit-log", "--output", "x"], 2),
        (vec!["export-audit-log", "--since", "yesterday", "--output", "x"], 2),
        (vec!["export-audit-log", "--since", "2026-01-01", "--output", missing.to_str().unwrap()], 1),
        (vec!["list-runners", "--status", "alive"], 2),
        (vec!["cleanup-stale-runners"], 2),
        (vec!["cleanup-stale-runners", "--hours", "0"], 2),
        (vec!["list-runners", "--team", "nonesuch"], 0),
    ] {
        let (got, out, err) = said(&program(&world, &arguments));
        assert_eq!(got, code, "{arguments:?}: {out}{err}");
        assert!(!err.contains("panicked"), "{err}");
    }
    let unset = Command::new(env!("CARGO_BIN_EXE_runner-broker"))
        .arg("list-runners")
        .env_clear()
        .current_dir(folder.path())
        .output();
    let (code, _, err) = said(&unset.unwrap());
    assert_eq!(code, 2);
    assert!(err.contains("DATABASE_URL"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn runners_are_listed_for_people_and_for_programs() {
    let world = World::new().await;
    world.connected("b1").await;
    world.jit("b2").await;
    world.sweep().await;
    let (code, out, err) = said(&program(&world, &["list-runners"]));
    assert_eq!(code, 0, "{err}");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[0].starts_with("ID") && lines[1].contains("b2") && lines[2].contains("active"), "{out}");

    let (_, out, _) = said(&program(&world, &["list-runners", "--json", "--status", "active"]));
    let runner: Value = serde_json::from_str(out.trim()).expect("one object");
    let shown = world.get("/api/v1/runners/b1", "blue").await.body;
    for (field, value) in runner.as_object().unwrap() {
        assert_eq!(value, &shown[field], "{field}");
    }
    let (_, out, _) = said(&program(&world, &["list-runners", "--json", "--team", "red"]));
    assert_eq!(out, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_runners_are_named_and_then_removed_however_many() {
    let world = World::new().await;
    world.connected("fresh").await;
    world.connected("b1").await;
    world.sweep().await;
    world.github.disconnect(ORG, "b1").unwrap();
    world.sweep().await;
    let long_ago =
        "UPDATE runners SET last_seen_at = now() - interval '30 h', updated_at = now() - interval '30 h'
                    WHERE name = 'b1'";
    world.sql(long_ago).await;
    // More than a sweep takes at once, gone from GitHub long since.
    world
        .sql(
            "INSERT INTO runners (id, name, target, team, status, method, labels, ephemeral, runner_group_id,
                 github_runner_id, issuer, subject, provisioned_by, created_at, updated_at, requested_at)
             SELECT gen_random_uuid(), 'old-' || i, 'octo-org', 'blue', 'offline', 'jit', '{linux}', true, 1,
                 i, 'i', 's', 'p', now(), now() - interval '30 h', now() FROM generate_series(1, 520) i",
        )
        .await;
    let (code, out, _) = said(&program(&world, &["cleanup-stale-runners", "--hours", "31", "--dry-run"]));
    assert_eq!((code, out.as_str()), (0, "0 stale runner(s)\n"));
    let (code, out, _) = said(&program(&world, &["cleanup-stale-runners", "--hours", "24", "--dry-run"]));
    assert_eq!(code, 0);
    assert!(out.contains("would remove b1 (") && out.ends_with("521 stale runner(s)\n"), "{out}");
    assert!(world.github.runner(ORG, "b1").is_some());
    assert_eq!(world.status("b1").await, "offline");

    let (code, out, err) = said(&program(&world, &["cleanup-stale-runners", "--hours", "24"]));
    assert_eq!((code, out.as_str()), (0, "removed 521 stale runner(s), 0 failed\n"), "{err}");
    assert!(world.github.runner(ORG, "b1").is_none());
    assert_eq!((world.status("b1").await, world.status("fresh").await), ("deleted".into(), "active".into()));
    assert_eq!(world.events("b1").await.last().unwrap(), "deprovisioned");
    let who = "SELECT DISTINCT user_identity FROM audit_log WHERE event_type = 'deprovisioned'";
    assert_eq!(world.sql(who).await, ["system:cleanup"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cleanup_that_github_does_not_allow_fails_and_says_which() {
    use runner_broker::dev::github::{Action, Fault};
    let world = World::new().await;
    world.connected("b1").await;
    world.github.disconnect(ORG, "b1").unwrap();
    world.sql("UPDATE runners SET status = 'offline', updated_at = now() - interval '30 h'").await;
    world.github.fail(Fault::new("DELETE", "", Action::PermissionMissing).always());
    let (code, out, err) = said(&program(&world, &["cleanup-stale-runners", "--hours", "24"]));
    assert_eq!((code, out.as_str()), (1, "removed 0 stale runner(s), 1 failed\n"));
    assert!(err.contains("b1 (") && err.contains("organization_self_hosted_runners"), "{err}");
}
