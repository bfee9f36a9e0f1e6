//! `--exec` for a JIT runner: what it is given, and what becomes of it when it ends by itself.

use std::process::Stdio;

use super::between::{Act, Between};
use super::{RunnerFolder, Running, as_blue, assert_no_secret, command, connected};
use crate::support::{ORG, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_gets_its_configuration_by_the_environment_takes_its_job_and_ends_with_its_own_code() {
    let world = World::new().await;
    let folder = RunnerFolder::new();
    let (token, run) = (world.token("blue"), folder.run());
    let environment = [
        ("RUNNER_BROKER_URL", world.url.as_str()),
        ("RUNNER_BROKER_TOKEN", &token),
        ("RUNNER_BROKER_TOKEN_FILE", "/nowhere"),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "of-the-job"),
        ("ACTIONS_ID_TOKEN_REQUEST_URL", "https://of-the-job"),
        ("ACTIONS_RUNNER_INPUT_TOKEN", "somebody-elses"),
        ("MINE", "stays"),
    ];
    let args = ["jit", "--name", "a1", "--exec", &run, "--once", "two words", "--print", "json"];
    let running = Running::start(command(&args, &environment));
    folder.wait_for("started").await;

    let config = folder.variable("run.env", "ACTIONS_RUNNER_INPUT_JITCONFIG").unwrap();
    assert_eq!(world.github.connect_jit(&config).unwrap(), "a1");
    assert_eq!(folder.read("run.args"), "--once\ntwo words\n--print\njson\n");
    assert!(!folder.read("run.cmdline").contains(&config) && !folder.read("run.cmdline").is_empty());
    for name in environment[1..6].iter().map(|(name, _)| name) {
        assert_eq!(folder.variable("run.env", name), None, "{name}");
    }
    assert_eq!(folder.variable("run.env", "MINE").as_deref(), Some("stays"));
    // Without it run.sh dies of a signal and leaves its runner behind.
    assert_eq!(folder.variable("run.env", "RUNNER_MANUALLY_TRAP_SIG").as_deref(), Some("1"));

    world.github.start_job(ORG, "a1").unwrap();
    world.github.finish_job(ORG, "a1").unwrap();
    world.github.clear_calls();
    folder.end("end", 3);
    let ended = running.end().await;
    assert_eq!((ended.code, ended.out.as_str()), (3, ""), "{}", ended.err);
    // The row is done with, for one GET; a DELETE would cost five times as much.
    assert_eq!(world.status("a1").await, "deleted");
    let methods: Vec<String> = world.github.calls().iter().map(|call| call.method.clone()).collect();
    assert!(!methods.contains(&"DELETE".to_owned()), "{methods:?}");
    assert_no_secret(&world, &ended.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_ends_without_a_job_is_taken_back() {
    let world = World::new().await;
    let folder = RunnerFolder::new();
    folder.end("end", 0);
    let never_connected =
        as_blue(&world, &world.url, &["jit", "--name", "a1", "--exec", &folder.run()]).await;
    assert_eq!(never_connected.code, 0, "{}", never_connected.err);
    assert!(
        never_connected.err.contains("runner a1 had no job: removed from GitHub"),
        "{}",
        never_connected.err
    );

    let other = RunnerFolder::new();
    let idle = connected(&world, "a2", &other, &[]).await;
    other.end("end", 1);
    assert_eq!(idle.end().await.code, 1);
    assert!(world.on_github().is_empty());
    assert_eq!((world.status("a1").await, world.status("a2").await), ("deleted".into(), "deleted".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_github_calls_busy_after_its_program_has_ended_is_left_alone() {
    let world = World::new().await;
    let folder = RunnerFolder::new();
    let running = connected(&world, "a1", &folder, &[]).await;
    world.github.start_job(ORG, "a1").unwrap();
    folder.end("end", 0);
    let ended = running.end().await;
    assert!(ended.code == 0 && ended.err.contains("is left alone"), "{}", ended.err);
    assert_eq!(world.on_github(), ["a1"]);
    assert_eq!(world.status("a1").await, "active");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_cannot_be_started_leaves_no_runner() {
    let world = World::new().await;
    let folder = RunnerFolder::new();
    folder.script("run.sh", "#!/nowhere/interpreter\n");
    let ended = as_blue(&world, &world.url, &["jit", "--name", "a1", "--exec", &folder.run()]).await;
    assert!(ended.code == 1 && ended.err.contains("cannot be started: No such file"), "{}", ended.err);
    let by_name = as_blue(&world, &world.url, &["jit", "--name", "a2", "--exec", "no-such-program"]).await;
    assert!(
        by_name.code == 1 && by_name.err.contains("no-such-program cannot be started"),
        "{}",
        by_name.err
    );
    assert!(world.on_github().is_empty());
    assert_eq!((world.status("a1").await, world.status("a2").await), ("deleted".into(), "deleted".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_a_signal_ends_ends_as_a_shell_says_it() {
    let world = World::new().await;
    let folder = RunnerFolder::new();
    folder.script("run.sh", "#!/bin/sh\nkill -KILL $$\n");
    let ended = as_blue(&world, &world.url, &["jit", "--name", "a1", "--exec", &folder.run()]).await;
    assert_eq!(ended.code, 137, "{}", ended.err);
    assert!(world.on_github().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runner_is_taken_back_by_a_new_token_when_the_first_has_ended() {
    let world = World::new().await;
    let folder = RunnerFolder::new();
    let file = folder.path().join("token");
    std::fs::write(&file, world.token("blue")).unwrap();
    let (file, run) = (file.display().to_string(), folder.run());
    let prints = format!("cat {file}");
    let args = ["jit", "--name", "a1", "--url", &world.url, "--token-command", &prints, "--exec", &run];
    let running = Running::start(command(&args, &[]));
    folder.wait_for("started").await;
    world.pass(7200);
    std::fs::write(&file, world.token("blue")).unwrap();
    folder.end("end", 0);
    let ended = running.end().await;
    assert!(ended.code == 0 && ended.err.contains("had no job"), "{}", ended.err);
    assert!(world.on_github().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_at_the_end_changes_no_exit_code() {
    let world = World::new().await;
    let folder = RunnerFolder::new();
    folder.end("end", 4);
    let away = || Act::problem(503, "DATABASE_UNAVAILABLE", "retry-after: 60\r\n");
    let between = Between::start(&world.url, vec![Act::Pass, away(), away()]).await;
    let ended = as_blue(&world, &between.url, &["jit", "--name", "a1", "--exec", &folder.run()]).await;
    assert_eq!(ended.code, 4, "{}", ended.err);
    assert!(ended.err.contains("runner a1 could not be removed, the broker will do it"), "{}", ended.err);
    assert_no_secret(&world, &ended.err);
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_job_cannot_read_the_clients_token_out_of_its_environment() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    let world = World::new().await;
    let folder = RunnerFolder::new();
    let (token, run) = (world.token("blue"), folder.run());
    let environment = [("RUNNER_BROKER_URL", world.url.as_str()), ("RUNNER_BROKER_TOKEN", &token)];
    let mut client = command(&["jit", "--name", "a1", "--exec", &run], &environment);
    // Root may read everything, so as root this uses another user, in a folder that this user may enter.
    const NOBODY: u32 = 65_534;
    if rustix::process::getuid().is_root() {
        let binary = folder.path().join("runner-broker");
        std::fs::copy(env!("CARGO_BIN_EXE_runner-broker"), &binary).unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        client = tokio::process::Command::new(binary);
        client.args(["request", "jit", "--name", "a1", "--exec", &run]).env_clear().env("PATH", super::PATH);
        client.envs(environment).uid(NOBODY).gid(NOBODY).current_dir("/").kill_on_drop(true);
        client.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    }
    let running = Running::start(client);
    folder.wait_for("started").await;
    // What belongs to root there is for root alone.
    let environ = std::fs::metadata(format!("/proc/{}/environ", running.pid())).unwrap();
    assert_eq!(environ.uid(), 0);
    folder.end("end", 0);
    assert_eq!(running.end().await.code, 0);
    assert!(world.on_github().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_runner_starts_nothing() {
    let world = World::new().await;
    let folder = RunnerFolder::new();
    let args = ["jit", "--name", "a1", "--label", "gpu", "--exec", &folder.run()];
    let ended = as_blue(&world, &world.url, &args).await;
    assert_eq!(ended.code, 1, "{}", ended.err);
    assert!(!folder.path().join("started").exists());
}
