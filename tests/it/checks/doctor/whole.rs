//! The whole report: of a healthy installation, of one that hangs, for people and for programs.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use regex::Regex;
use runner_broker::broker::checks::{Area, Code};
use runner_broker::dev::issuer::{DISCOVERY, Fault};
use serde_json::json;

use super::Patient;
use crate::cli::commands::runner_broker;

#[tokio::test(flavor = "multi_thread")]
async fn where_all_is_well_every_line_says_so_and_nothing_is_changed() {
    let patient = Patient::new().await;
    let world = &patient.world;
    let tables = world.sql("SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 1").await;
    let contents = async || {
        let mut contents = Vec::new();
        for table in &tables {
            let rows =
                world.sql(&format!("SELECT xmin || ' ' || t::text FROM \"{table}\" t ORDER BY 1")).await;
            contents.push((table.clone(), rows));
        }
        contents
    };
    let before = contents().await;
    world.github.clear_calls();
    let seen = patient.seen();
    seen.is_well();
    assert_eq!(contents().await, before);
    let calls = world.github.calls();
    assert!(calls.len() >= 6, "{calls:?}");
    for call in calls {
        assert!(call.method == "GET" || call.path.ends_with("/access_tokens"), "{call:?}");
    }
    // One line at least about each thing.
    let areas: BTreeSet<&str> = seen.checks().iter().map(|check| check["area"].as_str().unwrap()).collect();
    let all: BTreeSet<&str> =
        Area::ALL.iter().filter(|area| **area != Area::Configuration).map(|area| area.key()).collect();
    assert_eq!(areas, all);
    for (area, what) in [
        ("postgres", "Postgres"),
        ("postgres", "Schema"),
        ("postgres", "Privileges"),
        ("issuers", world.issuer.url()),
        ("issuers", &format!("Clock of {}", world.issuer.url())),
        ("github", "The App"),
        ("github", "Clock"),
        ("targets", "octo-org"),
        ("webhooks", "Address"),
        ("webhooks", "Secret"),
        ("webhooks", "What GitHub sent"),
        ("certificate", "Certificate"),
        ("sweep", "Leader"),
    ] {
        let is_it = |check: &&serde_json::Value| check["area"] == area && check["what"] == what;
        assert_eq!(seen.checks().iter().filter(is_it).count(), 1, "{area} {what}: {:#}", seen.report);
    }
    let secret = seen.checks().iter().find(|check| check["what"] == "Secret").unwrap();
    assert!(secret["detail"].as_str().unwrap().starts_with("agreed on"), "{secret}");
    patient.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_get_a_shape_that_stays_and_people_get_lines() {
    let mut patient = Patient::new().await;
    let seen = patient.seen();
    let names = |of: &serde_json::Value| of.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(&seen.report), ["checked_at", "checks", "state", "version"].map(String::from).into());
    let fields = ["advice", "area", "code", "detail", "state", "what"].map(String::from);
    seen.checks().iter().for_each(|check| assert_eq!(names(check), fields.clone().into()));
    assert_eq!(seen.report["version"], json!(env!("CARGO_PKG_VERSION")));

    let ended = runner_broker(&["doctor"], &patient.environment);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
    assert!(!ended.out.contains('\x1b') && ended.out.contains("\n  ok       "), "{}", ended.out);
    assert!(ended.out.starts_with("Postgres\n"), "{}", ended.out);
    let last = ended.out.lines().last().unwrap();
    assert_eq!(last, format!("0 fault(s), 0 warning(s), {} ok", seen.checks().len()));

    patient.set("GITHUB_APP_ID", "7");
    let ended = runner_broker(&["doctor"], &patient.environment);
    assert_eq!((ended.code, ended.err.as_str()), (1, "runner-broker: 1 fault(s)\n"));
    let lines: Vec<&str> = ended.out.lines().collect();
    let at = lines.iter().position(|line| line.starts_with("  fault    The App  ")).unwrap();
    assert!(lines[at + 1].starts_with("           → GITHUB_APP_ID is 7: "), "{}", ended.out);
    patient.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_may_hang_and_there_is_a_report_all_the_same() {
    let mut patient = Patient::new().await;
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let database = format!("postgres://broker:hunter2@{}/broker", mute.local_addr().unwrap());
    patient.set("DATABASE_URL", &database);
    patient.world.github.set_latency(Duration::from_secs(60));
    patient.world.issuer.fail(DISCOVERY, Fault::Hang);
    let begun = Instant::now();
    let seen = patient.seen();
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let codes: BTreeSet<&str> = seen.findings().iter().map(|check| check["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["database_unavailable", "github_unreachable", "issuer_unreachable"].into());
    assert_eq!(seen.code, 1);
    patient.world.issuer.fail(DISCOVERY, None);
    patient.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_serve_there_is_a_warning_and_the_rest_is_looked_at() {
    let patient = Patient::new().await;
    patient.world.sql("UPDATE leases SET expires_at = now()").await;
    patient.world.sql("UPDATE sync_targets SET completed_at = now() - interval '1 day'").await;
    let seen = patient.seen();
    assert_eq!((seen.code, seen.not_checked()), (0, 0), "{:#}", seen.report);
    let codes: Vec<&str> = seen.findings().iter().map(|check| check["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["no_leader", "sweep_fails"]);
    patient.leave().await;
}

#[test]
fn every_code_has_its_row_in_the_document_and_no_other_has() {
    let document = include_str!("../../../../docs/DOCTOR.md");
    let rows = |pattern: &str| -> BTreeSet<String> {
        Regex::new(pattern).unwrap().captures_iter(document).map(|found| found[1].to_owned()).collect()
    };
    let codes: BTreeSet<String> = Code::ALL.iter().map(|code| code.as_str().to_owned()).collect();
    assert_eq!(rows(r"(?m)^\| `([a-z_]+)` \| (?:fault|warning)"), codes);
    let areas: BTreeSet<String> = Area::ALL.iter().map(|area| area.key().to_owned()).collect();
    assert_eq!(rows(r"(?m)^\| `([a-z_]+)` \| [A-Z]"), areas);
}
