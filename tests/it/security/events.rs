//! Security events: which these are, who reads them, and that each is counted once it is committed.

use chrono::TimeDelta;
use reqwest::Method;
use runner_broker::broker::Error;
use runner_broker::broker::events::Kind;
use runner_broker::broker::security::{Type, classify};
use runner_broker::store::{self, Store};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::people::identities::with_roles;
use crate::support::{Answer, World, eventually, team};

const EVENTS: &str = "/api/v1/admin/security-events";

async fn list(world: &World, query: &str) -> Answer {
    let answer = world.get(&format!("{EVENTS}?{query}"), "watch").await;
    assert_eq!(answer.status, 200, "{query}: {}", answer.text);
    answer
}

/// `type runner` of each, newest first.
async fn events(world: &World, query: &str) -> Vec<String> {
    let answer = list(world, query).await;
    let text = |event: &Value, field: &str| event[field].as_str().unwrap_or("-").to_owned();
    let events = answer.body["events"].as_array().expect("events").iter();
    events.map(|event| format!("{} {}", text(event, "type"), text(event, "runner_name"))).collect()
}

/// Puts an event into the log as another version of the broker might.
async fn append(world: &World, event_type: &str, more: &str, seconds_ago: i64) {
    let at = (world.clock.now() - TimeDelta::seconds(seconds_ago)).to_rfc3339();
    let (columns, values) =
        more.split_once(" = ").map_or(("", String::new()), |(column, value)| (column, format!(", {value}")));
    let columns = if columns.is_empty() { String::new() } else { format!(", {columns}") };
    world
        .sql(&format!(
            "INSERT INTO audit_log (timestamp, event_type, severity, success, user_identity{columns})
             VALUES ('{at}', '{event_type}', 'warning', true, 'x'{values})"
        ))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_security_event_is_says_the_program_as_the_database() {
    let world = World::new().await;
    let named = Type::ALL.iter().map(|kind| kind.as_str());
    let kinds = Kind::ALL.iter().map(|kind| kind.as_str());
    let mut types: Vec<&str> = kinds.chain(named).chain(["provision", ""]).collect();
    types.sort_unstable();
    types.dedup();
    assert!(types.len() > Kind::ALL.len(), "{types:?}");
    let codes = [
        "LABEL_POLICY_VIOLATION",
        "QUOTA_EXCEEDED",
        "METHOD_NOT_ALLOWED_BY_POLICY",
        "TARGET_NOT_ALLOWED",
        "RUNNER_GROUP_NOT_ALLOWED",
        "IDENTITY_DEACTIVATED",
        "NO_TEAM",
        "FORBIDDEN",
        "INVALID_TOKEN",
        "RATE_LIMITED",
        "",
    ];
    let mut seen = Vec::new();
    for event_type in types {
        let calls = codes.map(|code| format!("audit_security_type('{event_type}', nullif('{code}', ''))"));
        let query = format!("SELECT coalesce(t, '-') FROM unnest(ARRAY[{}]) AS t", calls.join(", "));
        let of_program = codes.map(|code| {
            let kind = classify(event_type, Some(code).filter(|code| !code.is_empty()));
            seen.extend(kind);
            kind.map_or("-", Type::as_str)
        });
        assert_eq!(world.sql(&query).await, of_program, "{event_type}");
    }
    assert!(Type::ALL.iter().all(|kind| seen.contains(kind)), "{seen:?}");
    assert!(Type::ALL.iter().all(|kind| kind.as_str().parse() == Ok(*kind)));
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_security_events_with_their_severity_and_what_was_done() {
    let world = World::new().await;
    world
        .policy(
            &[
                team("blue", "max_runners = 1"),
                "[[auditor]]\nissuer = \"ISSUER\"\nclaims = { team = \"watch\" }\n".into(),
            ]
            .concat(),
        )
        .await;
    assert_eq!(world.jit("b1").await.status, 201);
    let ask = |body: Value| world.post("/api/v1/runners/jit", "blue", body);
    assert_eq!(ask(json!({ "runner_name": "b2", "labels": ["gpu"] })).await.status, 403);
    assert_eq!(ask(json!({ "runner_name": "b3" })).await.refusal(), (403, "QUOTA_EXCEEDED"));
    assert_eq!(ask(json!({ "runner_name": "b4", "organization": "other" })).await.status, 403);
    assert_eq!(world.delete("/api/v1/runners/b1", "watch").await.refusal(), (403, "FORBIDDEN"));
    let wanted = [
        ("access_refused", "b1", "warning"),
        ("policy_violation", "b4", "warning"),
        ("quota_exceeded", "b3", "info"),
        ("label_policy_violation", "b2", "warning"),
    ];
    let answer = list(&world, "").await;
    for (event, (kind, runner, severity)) in answer.body["events"].as_array().unwrap().iter().zip(wanted) {
        for (field, value) in [
            ("type", kind),
            ("runner_name", runner),
            ("severity", severity),
            ("action_taken", "refused"),
            ("team", "blue"),
        ] {
            assert_eq!(event[field], json!(value), "{kind}: {field}");
        }
        assert!(event["user_identity"].as_str().is_some_and(|user| user.ends_with("-user")), "{event}");
    }
    assert_eq!(answer.body["events"].as_array().unwrap().len(), wanted.len());
    assert_eq!(answer.body["next_cursor"], Value::Null);
    // The log and this list are the same events.
    let in_log = world.log("event_type IN ('provision_refused', 'access_refused')").await;
    assert_eq!(
        in_log.iter().rev().map(|event| &event["id"]).collect::<Vec<_>>(),
        answer.body["events"].as_array().unwrap().iter().map(|event| &event["id"]).collect::<Vec<_>>()
    );
    assert_eq!(in_log[1]["severity"], "info");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_filter_filters_pages_visit_each_once_and_only_admins_and_auditors_read() {
    let world = World::new().await;
    with_roles(&world).await;
    let data = r#"event_data = '{"action_taken": "removed"}'"#;
    append(&world, "label_drift_detected", data, 400).await;
    append(&world, "unmanaged_runner_detected", "team = 'red'", 300).await;
    append(&world, "provisioned", "team = 'red'", 250).await;
    append(&world, "audit_log_tampered", "team = 'blue'", 200).await;
    append(&world, "quota_exceeded", "team = 'blue'", 150).await;
    append(&world, "provision_refused", "error_code = 'RATE_LIMITED'", 120).await;
    append(&world, "webhook_signature_invalid", "", 100).await;
    let (drift, unmanaged) = ("label_drift_detected -", "unmanaged_runner_detected -");
    let (tampered, webhook) = ("audit_log_tampered -", "webhook_signature_invalid -");
    let all = [webhook, tampered, unmanaged, drift];
    assert_eq!(events(&world, "").await, all);
    assert_eq!(events(&world, "type=audit_log_tampered").await, [tampered]);
    assert_eq!(events(&world, "severity=high").await, [tampered, unmanaged, drift]);
    assert_eq!(events(&world, "severity=high&team=red").await, [unmanaged]);
    assert_eq!(events(&world, "severity=warning&type=audit_log_tampered").await, [""; 0]);
    assert_eq!(events(&world, "team=blue").await, [tampered]);
    let time =
        |seconds: i64| (world.clock.now() - TimeDelta::seconds(seconds)).to_rfc3339().replace('+', "%2B");
    assert_eq!(events(&world, &format!("since={}", time(250))).await, [webhook, tampered]);
    assert_eq!(events(&world, &format!("until={}", time(250))).await, [unmanaged, drift]);
    let newest = &list(&world, "").await.body["events"][0]["timestamp"];
    let newest = newest.as_str().unwrap().replace('+', "%2B");
    assert_eq!(events(&world, &format!("since={newest}")).await, [webhook], "from then on");
    assert_eq!(events(&world, &format!("until={newest}")).await, [tampered, unmanaged, drift], "before then");
    assert_eq!(list(&world, "type=label_drift_detected").await.body["events"][0]["action_taken"], "removed");
    assert_eq!(
        list(&world, "type=unmanaged_runner_detected").await.body["events"][0]["action_taken"],
        Value::Null
    );

    let (mut visited, mut cursor) = (Vec::new(), String::new());
    loop {
        let answer = list(&world, &format!("limit=1{cursor}")).await;
        visited.push(format!("{} -", answer.body["events"][0]["type"].as_str().unwrap()));
        append(&world, "identity_activated", "", 0).await;
        match answer.body["next_cursor"].as_str() {
            Some(next) if visited.len() < 9 => cursor = format!("&cursor={next}"),
            _ => break,
        }
    }
    assert_eq!(visited, all, "what is added meanwhile is newer");
    for query in [
        "type=x",
        "severity=critical",
        "cursor=1",
        "cursor=x-1",
        "limit=0",
        "since=x",
        "who=x",
        "cursor=-1-1",
    ] {
        let answer = world.get(&format!("{EVENTS}?{query}"), "watch").await;
        assert_eq!(answer.refusal(), (422, "INVALID_REQUEST"), "{query}");
    }
    for (who, status) in [("boss", 200), ("watch", 200), ("blue", 403), ("nobody", 403)] {
        assert_eq!(world.get(EVENTS, who).await.status, status, "{who}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_the_same_moment_are_not_lost_between_two_pages() {
    let world = World::new().await;
    with_roles(&world).await;
    world
        .sql(
            "INSERT INTO audit_log (timestamp, event_type, severity, success, user_identity, runner_name)
             SELECT '2026-11-20', 'label_drift_detected', 'warning', true, 'x', n FROM generate_series(1, 7) n",
        )
        .await;
    let (mut visited, mut cursor) = (Vec::new(), String::new());
    loop {
        let answer = list(&world, &format!("limit=2{cursor}")).await;
        let page = answer.body["events"].as_array().unwrap();
        visited.extend(page.iter().map(|event| event["runner_name"].as_str().unwrap().to_owned()));
        match answer.body["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(visited, ["7", "6", "5", "4", "3", "2", "1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_reads_its_own_indexes_and_not_the_whole_log() {
    let world = World::new().await;
    with_roles(&world).await;
    world
        .sql(
            "INSERT INTO audit_log (timestamp, event_type, severity, success, user_identity, team)
             SELECT '2026-11-01'::timestamptz + n * interval '1 s',
                 CASE WHEN n % 100 = 0 THEN 'label_drift_detected' ELSE 'provisioned' END,
                 'info', true, 'x', 'team-' || n % 7 FROM generate_series(1, 30000) n; ANALYZE audit_log",
        )
        .await;
    for query in [
        "",
        "team=team-3",
        "severity=high",
        "since=2026-11-01T05:00:00Z&until=2026-11-01T06:00:00Z",
        "type=label_drift_detected",
    ] {
        list(&world, query).await;
    }
    let used = "SELECT string_agg((idx_scan > 0)::text, ' ') FROM pg_stat_user_indexes
                WHERE indexrelname LIKE 'audit_log_security%'";
    eventually("the indexes' use", async || world.sql(used).await == ["true true"]).await;
    let read = "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'audit_log'";
    let before = world.sql(read).await;
    for _ in 0..5 {
        list(&world, "team=team-3").await;
    }
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert_eq!(world.sql(read).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_rolled_back_is_neither_counted_nor_told() {
    let world = World::new().await;
    let store = Store::new(&world.config.database_url, 1).unwrap();
    let told = Arc::new(AtomicUsize::new(0));
    let tell = || {
        let told = told.clone();
        store::after_commit(move || {
            told.fetch_add(1, Ordering::SeqCst);
        });
    };
    let done: Result<(), Error> = store
        .transaction(async |conn| {
            tell();
            assert_eq!(told.load(Ordering::SeqCst), 0, "not before the commit");
            runner_broker::store::audit::raise_statement_timeout(conn).await?;
            Ok(())
        })
        .await;
    done.unwrap();
    assert_eq!(told.load(Ordering::SeqCst), 1);
    let undone: Result<(), Error> = store
        .transaction(async |conn| {
            runner_broker::store::audit::raise_statement_timeout(conn).await?;
            tell();
            Err(Error::Forbidden)
        })
        .await;
    assert!(undone.is_err());
    assert_eq!(told.load(Ordering::SeqCst), 1);
    tell();
    assert_eq!(told.load(Ordering::SeqCst), 2, "outside of a transaction there is nothing to wait for");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_security_event_is_a_metric() {
    let world = World::new().await;
    let series = r#"broker_security_events_total{type="label_policy_violation",severity="warning"} "#;
    let counted = async || {
        let metrics = world.call(Method::GET, "/metrics", "", &[], None).await.text;
        let line = metrics.lines().find_map(|line| line.strip_prefix(series).map(str::to_owned));
        line.map_or(0, |count| count.parse::<u64>().unwrap())
    };
    let before = counted().await;
    let refused = json!({ "runner_name": "b2", "labels": ["gpu"] });
    assert_eq!(world.post("/api/v1/runners/jit", "blue", refused).await.status, 403);
    assert!(counted().await > before);
}
