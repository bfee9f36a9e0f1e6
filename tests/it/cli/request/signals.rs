//! What a signal does: before there is a runner, to an idle one, and to one with a job.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use super::between::{Act, Between};
use super::{RunnerFolder, Running, command, connected};
use crate::support::{ORG, World, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_runner_is_removed_before_its_program_is_told_to_stop() {
    for signal in [Signal::TERM, Signal::INT] {
        let world = World::new().await;
        let folder = RunnerFolder::new();
        let running = connected(&world, "a1", &folder, &[]).await;
        running.signal(signal);
        let ended = running.end().await;
        assert_eq!(ended.code, 7, "{}", ended.err);
        let told = if signal == Signal::TERM { "TERM\n" } else { "INT\n" };
        assert_eq!(folder.read("told"), told);
        assert!(ended.err.contains("runner a1: removed from GitHub"), "{}", ended.err);
        assert!(world.on_github().is_empty());
        assert_eq!(world.status("a1").await, "deleted");
        // Once is enough.
        let asked = world.log("event_type LIKE 'deprovision%' AND runner_name = 'a1'").await;
        assert_eq!(asked.len(), 2, "{asked:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_has_not_connected_yet_is_removed_likewise() {
    let world = World::new().await;
    let folder = RunnerFolder::new();
    let (token, run) = (world.token("blue"), folder.run());
    let environment = [("RUNNER_BROKER_URL", world.url.as_str()), ("RUNNER_BROKER_TOKEN", &token)];
    let running = Running::start(command(&["jit", "--name", "a1", "--exec", &run], &environment));
    folder.wait_for("started").await;
    running.signal(Signal::TERM);
    assert_eq!(running.end().await.code, 7);
    assert!(world.on_github().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_left_to_finish() {
    let world = World::new().await;
    let folder = RunnerFolder::new();
    let mut running = connected(&world, "a1", &folder, &[]).await;
    world.github.start_job(ORG, "a1").unwrap();
    running.signal(Signal::TERM);
    running.says("runner a1 has a job, which may finish").await;
    assert_eq!(folder.read("told"), "");
    assert_eq!(world.on_github(), ["a1"]);
    world.github.finish_job(ORG, "a1").unwrap();
    folder.end("end", 0);
    let ended = running.end().await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!((folder.read("told").as_str(), world.status("a1").await.as_str()), ("", "deleted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_or_the_end_of_its_grace_stops_a_job() {
    let world = World::new().await;
    let folder = RunnerFolder::new();
    let mut running = connected(&world, "a1", &folder, &[]).await;
    world.github.start_job(ORG, "a1").unwrap();
    running.signal(Signal::TERM);
    running.says("which may finish").await;
    running.signal(Signal::INT);
    assert_eq!(running.end().await.code, 7);
    assert_eq!(folder.read("told"), "INT\n");

    let other = RunnerFolder::new();
    let running = connected(&world, "a2", &other, &["--grace", "1s"]).await;
    world.github.start_job(ORG, "a2").unwrap();
    running.signal(Signal::TERM);
    let ended = running.end().await;
    assert!(ended.code == 7 && ended.err.contains("its time is over"), "{}", ended.err);
    assert_eq!(other.read("told"), "TERM\n");
    // Busy by GitHub's word, as long as that lasts.
    assert_eq!(world.on_github(), ["a1", "a2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_keeps_no_signal_from_the_program() {
    let world = World::new().await;
    let folder = RunnerFolder::new();
    let between = Between::start(&world.url, vec![Act::Pass, Act::Hang, Act::Drop]).await;
    let (token, run) = (world.token("blue"), folder.run());
    let environment = [("RUNNER_BROKER_URL", between.url.as_str()), ("RUNNER_BROKER_TOKEN", &token)];
    let mut running = Running::start(command(&["jit", "--name", "a1", "--exec", &run], &environment));
    folder.wait_for("started").await;
    running.signal(Signal::TERM);
    eventually("the broker was asked", async || between.seen().len() == 2).await;
    running.says("SIGTERM: removing").await;
    // While it is asked for its removal nobody has told the program.
    folder.end("ping", 0);
    folder.wait_for("pong").await;
    // Whoever cannot wait for it says so by a second one.
    running.signal(Signal::TERM);
    let ended = running.end().await;
    assert_eq!((ended.code, folder.read("told").as_str()), (7, "TERM\n"), "{}", ended.err);
    // The broker was back by then.
    assert!(ended.err.contains("had no job: removed from GitHub"), "{}", ended.err);
    assert!(world.on_github().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_while_the_broker_is_at_it_takes_back_what_comes_of_it() {
    let world = World::new().await;
    world.github.set_latency(Duration::from_millis(300));
    let folder = RunnerFolder::new();
    let (token, run) = (world.token("blue"), folder.run());
    let environment = [("RUNNER_BROKER_URL", world.url.as_str()), ("RUNNER_BROKER_TOKEN", &token)];
    for (number, args) in [vec!["--exec", &run], vec![]].into_iter().enumerate() {
        let name = format!("a{number}");
        let running = Running::start(command(&[vec!["jit", "--name", &name], args].concat(), &environment));
        eventually("it is asked for", async || !world.status(&name).await.is_empty()).await;
        running.signal(Signal::TERM);
        let ended = running.end().await;
        assert_eq!((ended.code, ended.out.as_str()), (143, ""), "{}", ended.err);
        assert!(ended.err.contains("stopped by SIGTERM before a runner was handed over"), "{}", ended.err);
        assert_eq!(world.status(&name).await, "deleted");
    }
    assert!(world.on_github().is_empty() && !folder.path().join("started").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_waiting() {
    let away = (0..9).map(|_| Act::problem(503, "GITHUB_UNAVAILABLE", "retry-after: 30\r\n")).collect();
    let between = Between::start("", away).await;
    let args = ["jit", "--name", "a1", "--url", &between.url, "--token", "t"];
    let mut running = Running::start(command(&args, &[]));
    running.says("trying again in").await;
    running.signal(Signal::INT);
    assert_eq!(running.end().await.code, 130);
    assert_eq!(between.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_for_many_jobs_goes_once_it_is_idle() {
    let world = World::new().await;
    let folder = RunnerFolder::new();
    let (token, run) = (world.token("blue"), folder.run());
    let environment = [("RUNNER_BROKER_URL", world.url.as_str()), ("RUNNER_BROKER_TOKEN", &token)];
    let args = ["registration", "--name", "a1", "--no-ephemeral", "--exec", &run];
    let mut running = Running::start(command(&args, &environment));
    folder.wait_for("configured").await;
    let token = folder.variable("config.env", "ACTIONS_RUNNER_INPUT_TOKEN").unwrap();
    world.github.register(ORG, "a1", &[], false, &token).unwrap();
    folder.end("config.end", 0);
    folder.wait_for("started").await;
    world.github.connect(ORG, "a1").unwrap();
    world.github.start_job(ORG, "a1").unwrap();
    running.signal(Signal::TERM);
    running.says("which may finish").await;
    assert_eq!(world.status("a1").await, "deleting");
    world.github.finish_job(ORG, "a1").unwrap();
    let removed = world.delete("/api/v1/runners/a1", "blue").await;
    assert_eq!(removed.body["status"], json!("deleted"));
    folder.end("end", 0);
    assert_eq!(running.end().await.code, 0);
    assert!(world.on_github().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_that_closes_stops_it_unless_it_was_started_to_outlive_it() {
    let world = World::new().await;
    // The tests may have been started to outlive their terminal, and every process of theirs inherits that.
    if !ignores_hangup() {
        let folder = RunnerFolder::new();
        let running = connected(&world, "a1", &folder, &[]).await;
        running.signal(Signal::HUP);
        // What the program does not handle ends it as it ends any.
        assert_eq!(running.end().await.code, 129);
        assert!(world.on_github().is_empty());
    }

    let other = RunnerFolder::new();
    let (token, run) = (world.token("blue"), other.run());
    let mut nohup = tokio::process::Command::new("sh");
    let ignoring = "trap '' HUP; exec \"$0\" \"$@\"";
    nohup.args([
        "-c",
        ignoring,
        env!("CARGO_BIN_EXE_runner-broker"),
        "request",
        "jit",
        "--name",
        "a2",
        "--exec",
        &run,
    ]);
    nohup.env_clear().env("PATH", super::PATH).stdin(Stdio::null()).kill_on_drop(true);
    nohup.env("RUNNER_BROKER_URL", &world.url).env("RUNNER_BROKER_TOKEN", token);
    nohup.stdout(Stdio::piped()).stderr(Stdio::piped());
    let running = Running::start(nohup);
    other.wait_for("started").await;
    running.signal(Signal::HUP);
    other.end("end", 0);
    let ended = running.end().await;
    assert!(ended.code == 0 && !ended.err.contains("SIGHUP"), "{}", ended.err);
}

fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or_default().trim();
    u64::from_str_radix(mask, 16).is_ok_and(|mask| mask & 1 == 1)
}
