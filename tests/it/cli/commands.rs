//! The commands, as the built binary in a clean environment.

use std::io::Read;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::database::TestDatabase;
use crate::support::World;

/// How a command ended.
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

pub type Environment = Vec<(&'static str, String)>;

/// All that `serve` needs; nothing answers at these addresses.
pub fn environment() -> Environment {
    let key = runner_broker::dev::github::private_key_pem();
    [
        ("DATABASE_URL", "postgres://broker:hunter2@127.0.0.1:1/broker"),
        ("HTTPS_ENABLED", "false"),
        ("GITHUB_APP_ID", "1"),
        ("GITHUB_APP_PRIVATE_KEY", key),
        ("GITHUB_ORG", "octo-org"),
        ("OIDC_ISSUER", "http://127.0.0.1:1"),
        ("OIDC_AUDIENCE", "runner-broker"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .to_vec()
}

pub fn command(args: &[&str], environment: &[(&'static str, String)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runner-broker"));
    // Nowhere near a `.env`.
    command.args(args).env_clear().current_dir("/").stdin(Stdio::null());
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command
}

/// Runs it to its end.
pub fn runner_broker(args: &[&str], environment: &[(&'static str, String)]) -> Ended {
    ended(command(args, environment))
}

fn ended(mut command: Command) -> Ended {
    let output = command.output().expect("the binary");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Ended { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

pub fn on(url: &str) -> Environment {
    vec![("DATABASE_URL", url.to_owned())]
}

pub fn folder_with(name: &str, text: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    let path = path.display().to_string();
    (folder, path)
}

const POLICY: &str = r#"[[team]]
name = "ml"
description = "GPU runners"
required_labels = ["ml"]
allowed_labels = ["gpu", "cuda-[0-9]+"]
max_runners = 50

[[team.member]]
issuer = "https://token.actions.githubusercontent.com"
claims = { repository = "octo-org/ml-.*", ref = "refs/heads/main" }

[[admin]]
issuer = "https://login.example.com"
claims = { groups = "platform-admins" }
"#;

#[test]
fn every_command_helps_with_an_example() {
    let commands: &[&[&str]] = &[
        &["serve"],
        &["migrate"],
        &["init-db"],
        &["dev"],
        &["dev", "token"],
        &["list-runners"],
        &["cleanup-stale-runners"],
        &["export-audit-log"],
        &["verify-audit-log"],
        &["audit-key"],
        &["audit-key", "generate"],
        &["audit-key", "show"],
        &["policy"],
        &["policy", "check"],
        &["policy", "test"],
        &["policy", "apply"],
        &["policy", "show"],
        &["doctor"],
        &["request"],
        &["request", "jit"],
        &["request", "registration"],
        &["openapi"],
    ];
    for command in commands {
        let ended = runner_broker(&[*command, &["--help"]].concat(), &[]);
        assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{command:?}");
        let example = ended.out.lines().skip_while(|line| !line.starts_with("Example")).nth(1);
        assert!(example.is_some_and(|line| line.contains("runner-broker ")), "{command:?}:\n{}", ended.out);
    }
    assert_eq!(
        runner_broker(&["--version"], &[]).out,
        concat!("runner-broker ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[test]
fn what_is_called_wrongly_exits_with_2() {
    let calls: &[&[&str]] = &[
        &[],
        &["nothing"],
        &["serve", "--nothing"],
        &["cleanup-stale-runners"],
        &["cleanup-stale-runners", "--hours", "0"],
        &["list-runners", "--status", "asleep"],
        &["export-audit-log", "--since", "yesterday", "--output", "x"],
        &["verify-audit-log", "--file", "x"],
        &["audit-key", "generate"],
        &["doctor", "--yaml"],
        &["policy", "check", "/nowhere/policy.toml"],
        &["policy", "check", "/nowhere/policy.toml", "--token", "a.b.c", "--claims", "claims.json"],
        &["policy", "test", "/nowhere/policy.toml"],
        &["policy", "apply"],
        &["request", "jit"],
        &["dev", "--port", "65535"],
    ];
    for call in calls {
        let ended = runner_broker(call, &[]);
        assert_eq!(ended.code, 2, "{call:?}: {}", ended.err);
        assert!(!ended.err.is_empty() && ended.out.is_empty(), "{call:?}");
    }
}

#[test]
fn the_openapi_document_is_printed() {
    let ended = runner_broker(&["openapi"], &[]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(ended.out == include_str!("../../../openapi/openapi.json"), "see tests/it/http/openapi.rs");
}

#[test]
fn a_reader_that_has_gone_is_no_failure() {
    let mut child = command(&["openapi"], &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!((child.wait().unwrap().code(), err.as_str()), (Some(0), ""));
}

#[test]
fn a_policy_is_checked_without_any_configuration() {
    let (_folder, path) = folder_with("policy.toml", POLICY);
    let ended = runner_broker(&["policy", "check", &path], &[]);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
    assert!(ended.out.contains("1 team(s), 1 member rule(s), 1 role rule(s)"), "{}", ended.out);
}

#[test]
fn the_faults_of_a_policy_are_listed_with_their_lines() {
    let bad = POLICY.replace("cuda-[0-9]+", "cuda-[").replace("max_runners", "most_runners");
    let (_folder, path) = folder_with("policy.toml", &bad);
    for command in ["check", "apply"] {
        let ended = runner_broker(&["policy", command, &path], &on("postgres://127.0.0.1:1/x"));
        assert_eq!(ended.code, 1, "{}", ended.err);
        assert!(ended.err.contains(&path) && ended.out.is_empty());
        assert!(ended.err.contains("line 5") || ended.err.contains("line 6"), "{}", ended.err);
    }
    let both = POLICY
        .replace("cuda-[0-9]+", "cuda-[")
        .replace(r#"claims = { groups = "platform-admins" }"#, "claims = {}");
    let (_folder, path) = folder_with("policy.toml", &both);
    let ended = runner_broker(&["policy", "check", &path], &[]);
    assert!(
        ended.err.contains("2 fault(s)") && ended.err.contains("line 5") && ended.err.contains("line 14"),
        "{}",
        ended.err
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_applied_shown_and_applied_again_unchanged() {
    let database = crate::support::migrated().await;
    let environment = on(database.url());
    let (folder, path) = folder_with("policy.toml", POLICY);
    let dry = runner_broker(&["policy", "apply", &path, "--dry-run"], &environment);
    assert_eq!(dry.code, 0, "{}", dry.err);
    assert!(dry.out.contains("would change") && dry.out.contains("ml"), "{}", dry.out);
    assert!(!runner_broker(&["policy", "show"], &environment).out.contains("ml"));

    let applied = runner_broker(&["policy", "apply", &path], &environment);
    assert!(applied.code == 0 && applied.out.contains("changed: "), "{}{}", applied.out, applied.err);
    let shown = runner_broker(&["policy", "show"], &environment);
    assert!(shown.code == 0 && shown.out.contains("cuda-[0-9]+"), "{}", shown.err);

    let again = folder.path().join("shown.toml").display().to_string();
    std::fs::write(&again, &shown.out).unwrap();
    for path in [&path, &again] {
        let again = runner_broker(&["policy", "apply", path], &environment);
        assert_eq!((again.code, again.out.as_str()), (0, "the policy is unchanged\n"));
    }
    assert_eq!(runner_broker(&["policy", "show"], &environment).out, shown.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_database_is_migrated_once_and_named_by_whatever_needs_it() {
    let database = TestDatabase::create("empty", async |_: &str| {}).await;
    let environment = on(database.url());
    let all = [self::environment().split_off(1), environment.clone()].concat();
    for command in
        [&["serve"][..], &["list-runners"], &["policy", "show"], &["cleanup-stale-runners", "--hours", "1"]]
    {
        let ended = runner_broker(command, &all);
        assert_eq!(ended.code, 1, "{command:?}: {}", ended.err);
        assert!(ended.err.contains("run 'runner-broker migrate'"), "{command:?}: {}", ended.err);
    }
    let migrated = runner_broker(&["migrate"], &environment);
    assert!(migrated.code == 0 && migrated.out.starts_with("migrated "), "{}{}", migrated.out, migrated.err);
    let again = runner_broker(&["init-db"], &environment);
    assert_eq!((again.code, again.out.as_str()), (0, "the schema is up to date\n"));
    assert_eq!(runner_broker(&["list-runners"], &environment).code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn runners_are_listed_as_a_table_and_as_the_api_shows_them() {
    let world = World::new().await;
    world.jit("b1").await;
    world.jit("b2").await;
    let environment = on(world.database_url());
    let table = runner_broker(&["list-runners"], &environment).out;
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines.len() == 3 && lines[0].starts_with("ID") && lines[1].contains(" b2 "), "{table}");
    assert!(lines[2].contains(" b1 ") && lines[2].contains("pending") && lines[2].contains("octo-org"));

    let json =
        runner_broker(&["list-runners", "--json", "--status", "pending", "--team", "blue"], &environment).out;
    let listed: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let api = world.get("/api/v1/runners", "blue").await.body;
    assert_eq!(Value::from(listed), api["runners"]);
    let none = runner_broker(&["list-runners", "--json", "--status", "failed"], &environment);
    assert_eq!((none.code, none.out.as_str()), (0, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_is_exported_whole_in_three_formats() {
    let world = World::new().await;
    let hostile = json!({ "runner_name": "b1", "labels": ["=cmd|'/c calc'!a1"] });
    assert_eq!(world.post("/api/v1/runners/jit", "blue", hostile).await.status, 403);
    world.jit("b1").await;
    let (folder, _) = folder_with("x", "");
    let export = |format: &str| {
        let file = folder.path().join(format);
        let path = file.display().to_string();
        let args = ["export-audit-log", "--since", "2026-01-01", "--format", format, "--output", &path];
        let ended = runner_broker(&args, &on(world.database_url()));
        assert_eq!(ended.code, 0, "{}", ended.err);
        assert!(ended.out.starts_with("4 event(s) in "), "{}", ended.out);
        assert!(!folder.path().join(format!("{format}.partial")).exists());
        std::fs::read_to_string(file).unwrap()
    };
    let json: Vec<Value> = serde_json::from_str(&export("json")).unwrap();
    let lines: Vec<Value> = export("jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(json, lines);
    let kinds: Vec<&str> = json.iter().map(|event| event["event_type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["policy_applied", "provision_refused", "provision_requested", "provisioned"]);
    let api = world.get("/api/v1/audit?runner=b1&event_type=provisioned", "blue").await.body;
    assert_eq!(json[3], api["logs"][0]);
    let mut csv = csv_rows(&export("csv"));
    let head = csv.remove(0);
    assert_eq!(csv.len(), 4);
    for (name, event) in
        head.iter().enumerate().flat_map(|(column, name)| csv.iter().map(move |row| (name, &row[column])))
    {
        assert!(json[0].get(name).is_some(), "{name}");
        assert!(!event.starts_with(['=', '+', '@']), "{event}");
    }
}

fn csv_rows(text: &str) -> Vec<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
    reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_fails_leaves_no_half_a_file() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    // A folder is in the way of the last step.
    let taken = folder.path().join("audit.json");
    std::fs::create_dir(&taken).unwrap();
    std::fs::write(taken.join("x"), "").unwrap();
    let path = taken.display().to_string();
    let args = ["export-audit-log", "--since", "2026-01-01", "--output", &path];
    let ended = runner_broker(&args, &on(world.database_url()));
    assert!(ended.code == 1 && ended.err.contains(&path), "{}", ended.err);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let nowhere = ["export-audit-log", "--since", "2026-01-01", "--output", "/nowhere/audit.json"];
    assert_eq!(runner_broker(&nowhere, &on(world.database_url())).code, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_runners_are_named_and_then_removed() {
    let world = World::new().await;
    let made = world.jit("b1").await;
    world.github.connect_jit(made.str("encoded_jit_config")).unwrap();
    world.github.disconnect("octo-org", "b1").unwrap();
    world.sweep().await;
    world
        .sql(
            "UPDATE runners SET status = 'offline', last_seen_at = now() - interval '30 hours', \
               updated_at = now() - interval '30 hours', created_at = now() - interval '31 hours'",
        )
        .await;
    let mut environment = environment();
    environment[0].1 = world.database_url().to_owned();
    environment.retain(|(name, _)| *name != "GITHUB_APP_ID");
    environment.push(("GITHUB_APP_ID", world.github.app_id().to_string()));
    environment.push(("GITHUB_API_URL", world.github.url().to_owned()));
    let cleanup = |args: &[&str]| {
        runner_broker(&[&["cleanup-stale-runners", "--hours", "24"], args].concat(), &environment)
    };
    let dry = cleanup(&["--dry-run"]);
    assert!(
        dry.code == 0 && dry.out.starts_with("would remove b1 (") && dry.out.contains("1 stale"),
        "{}{}",
        dry.out,
        dry.err
    );
    assert!(world.github.runner("octo-org", "b1").is_some());
    let done = cleanup(&[]);
    assert_eq!((done.code, done.out.as_str()), (0, "removed 1 stale runner(s), 0 failed\n"), "{}", done.err);
    assert!(world.github.runner("octo-org", "b1").is_none());
    assert_eq!(world.status("b1").await, "deleted");
    let by = world.sql("SELECT user_identity FROM audit_log WHERE event_type = 'deprovisioned'").await;
    assert_eq!(by, ["system:cleanup"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_without_its_database_says_so() {
    let ended = runner_broker(&["list-runners"], &on("postgres://broker:hunter2@127.0.0.1:1/broker"));
    assert_eq!(ended.code, 1);
    assert!(
        ended.err.contains("the database is not available") && !ended.err.contains("hunter2"),
        "{}",
        ended.err
    );
}
