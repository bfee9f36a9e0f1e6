//! What `request` prints, and that whatever it cannot print is taken back.

use std::process::Stdio;

use serde_json::{Value, json};

use super::between::{Act, Between};
use super::{PATH, RunnerFolder, as_blue, assert_no_secret, command, ended, request};
use crate::support::World;

#[tokio::test(flavor = "multi_thread")]
async fn json_is_the_brokers_own_answer_on_one_line() {
    let world = World::new().await;
    let jit = as_blue(&world, &world.url, &["jit", "--name", "a1", "--label", "linux-gpu"]).await;
    assert_eq!((jit.code, jit.err.as_str(), jit.out.lines().count()), (0, "", 1));
    let made: Value = serde_json::from_str(&jit.out).unwrap();
    assert_eq!(made["runner_name"], "a1");
    assert_eq!(world.github.connect_jit(made["encoded_jit_config"].as_str().unwrap()).unwrap(), "a1");
    let labels = made["labels"].as_array().unwrap();
    assert!(labels.contains(&json!("linux-gpu")) && labels.contains(&json!("self-hosted")), "{labels:?}");

    let args = ["registration", "--name", "a2", "--repository", "octo-org/octo-repo", "--print", "json"];
    let made: Value = serde_json::from_str(&as_blue(&world, &world.url, &args).await.out).unwrap();
    assert_eq!(made["github_url"], "https://github.com/octo-org/octo-repo");
    assert_eq!(made["ephemeral"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_is_for_a_shell() {
    let world = World::new().await;
    let folder = RunnerFolder::new();
    let jit = as_blue(&world, &world.url, &["jit", "--name", "a1", "--print", "command"]).await;
    assert!(jit.out.starts_with("ACTIONS_RUNNER_INPUT_JITCONFIG="), "{}", jit.out);
    folder.end("end", 5);
    let mut shell = tokio::process::Command::new("sh");
    shell.args(["-c", &jit.out]).env_clear().env("PATH", PATH).current_dir(folder.path());
    assert_eq!(shell.status().await.unwrap().code(), Some(5));
    let config = folder.variable("run.env", "ACTIONS_RUNNER_INPUT_JITCONFIG").unwrap();
    assert_eq!(world.github.connect_jit(&config).unwrap(), "a1");

    let made = as_blue(&world, &world.url, &["registration", "--name", "a2", "--print", "command"]).await;
    let words = shlex::split(&made.out).unwrap();
    assert!(words[0] == "./config.sh" && words.contains(&"a2".to_owned()), "{words:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_option_reaches_the_broker_under_the_contracts_name() {
    let answer = || Act::problem(403, "NO_TEAM", "");
    let between = Between::start("", vec![answer(), answer(), answer(), answer()]).await;
    let base = ["--url", between.url.as_str(), "--token", "t"];
    let all = ["--team", "t", "--os", "macos", "--arch", "arm64", "--work-folder", "w"];
    let jit = ["jit", "--name-prefix", "ci", "--label", "a", "--label", "B c", "--organization", "octo-org"];
    request(
        &[&jit, &all[..], &["--runner-group", "my group", "--idempotency-key", "K"], &base].concat(),
        &[],
    )
    .await;
    let registration = ["registration", "--name", "r", "--repository", "o/r", "--runner-group", "7"];
    request(&[&registration[..], &["--no-ephemeral", "--disable-update"], &base].concat(), &[]).await;
    request(&[&["registration", "--name", "r"], &base[..]].concat(), &[]).await;
    request(&[&["jit", "--name", "r"], &base[..]].concat(), &[]).await;

    let seen = between.seen();
    assert_eq!(seen[0].path, "/api/v1/runners/jit");
    assert_eq!(seen[0].key, "K");
    assert_eq!(
        seen[0].body,
        json!({ "runner_name_prefix": "ci", "labels": ["a", "B c"], "team": "t", "runner_group": "my group",
            "organization": "octo-org", "os": "macos", "arch": "arm64", "work_folder": "w" })
    );
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    let os = if cfg!(target_os = "macos") { "macos" } else { "linux" };
    assert_eq!(seen[1].path, "/api/v1/runners/provision");
    assert_eq!(
        seen[1].body,
        json!({ "runner_name": "r", "labels": [], "repository": "o/r", "runner_group_id": 7, "os": os,
            "arch": arch, "ephemeral": false, "disable_update": true })
    );
    assert_eq!((&seen[2].body["ephemeral"], &seen[2].body["disable_update"]), (&json!(true), &json!(false)));
    assert!(seen[3].body.get("ephemeral").is_none());
    assert!(seen.iter().all(|seen| seen.authorization == "Bearer t" && !seen.key.is_empty()));
    assert_ne!(seen[2].key, seen[3].key);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_may_live_below_a_path() {
    let between = Between::start("", vec![Act::problem(403, "NO_TEAM", "")]).await;
    let url = format!("{}/tools/broker", between.url);
    request(&["jit", "--name", "r", "--url", &url, "--token", "t"], &[]).await;
    assert_eq!(between.seen()[0].path, "/tools/broker/api/v1/runners/jit");
}

#[tokio::test(flavor = "multi_thread")]
async fn github_actions_is_told_to_hide_the_credential_where_it_listens() {
    let world = World::new().await;
    let token = world.token("blue");
    let environment = [
        ("GITHUB_ACTIONS", "true"),
        ("RUNNER_BROKER_URL", world.url.as_str()),
        ("RUNNER_BROKER_TOKEN", &token),
    ];
    let asked = request(&["jit", "--name", "a1"], &environment).await;
    let made: Value = serde_json::from_str(&asked.out).unwrap();
    assert_eq!(asked.err, format!("::add-mask::{}\n", made["encoded_jit_config"].as_str().unwrap()));

    // A file is read by somebody else.
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let mut to_file = command(&["registration", "--name", "a2"], &environment);
    to_file.stderr(std::fs::File::create(&log).unwrap());
    let made = ended(to_file).await;
    assert!(made.code == 0 && made.out.contains("registration_token"));
    assert_eq!(std::fs::read_to_string(log).unwrap(), "");
    // Nor outside.
    let outside = as_blue(&world, &world.url, &["jit", "--name", "a3"]).await;
    assert_eq!((outside.code, outside.err.as_str()), (0, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_whose_credential_nobody_could_read_is_taken_back() {
    let world = World::new().await;
    let token = world.token("blue");
    let environment = [("RUNNER_BROKER_URL", world.url.as_str()), ("RUNNER_BROKER_TOKEN", &token)];
    let mut full = command(&["jit", "--name", "a1"], &environment);
    full.stdout(Stdio::from(std::fs::File::options().write(true).open("/dev/full").unwrap()));
    let full = ended(full).await;
    assert!(full.code == 1 && full.err.contains("standard output: "), "{}", full.err);
    assert!(world.on_github().is_empty());
    assert_eq!(world.status("a1").await, "deleted");
    assert_no_secret(&world, &full.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_in_somebody_elses_checkout_changes_nothing() {
    let world = World::new().await;
    let evil = Between::start(&world.url, vec![]).await;
    let folder = tempfile::tempdir().unwrap();
    let token = world.token("blue");
    for text in [format!("RUNNER_BROKER_URL={}\nHTTP_PROXY={}\n", evil.url, evil.url), "no = 'way".into()] {
        std::fs::write(folder.path().join(".env"), text).unwrap();
        let mut there = command(&["jit", "--name-prefix", "a"], &[("RUNNER_BROKER_TOKEN", &token)]);
        there.current_dir(folder.path());
        let ended = ended(there).await;
        assert!(ended.code == 2 && ended.err.contains("--url or RUNNER_BROKER_URL"), "{}", ended.err);
    }
    assert!(evil.seen().is_empty());
}
