//! `--exec` for a registration: `config.sh` first, then the program.

use rustix::process::Signal;

use super::{RunnerFolder, Running, assert_no_secret, command};
use crate::support::{ORG, World};

fn start(world: &World, folder: &RunnerFolder, more: &[&str]) -> Running {
    let (token, run) = (world.token("blue"), folder.run());
    let environment = [("RUNNER_BROKER_URL", world.url.as_str()), ("RUNNER_BROKER_TOKEN", &token)];
    let args = [&["registration", "--name", "a1"], more, &["--exec", &run, "--once"]].concat();
    Running::start(command(&args, &environment))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_is_configured_as_it_was_granted_and_run() {
    let world = World::new().await;
    let folder = RunnerFolder::new();
    let more = ["--label", "linux-a", "--label", "docker", "--disable-update", "--work-folder", "a b"];
    let running = start(&world, &folder, &more);
    folder.wait_for("configured").await;
    let token = folder.variable("config.env", "ACTIONS_RUNNER_INPUT_TOKEN").unwrap();
    let given = folder.read("config.args");
    assert!(!given.contains(&token) && !given.contains("--token"), "{given}");
    for words in [
        "--unattended\n--url\nhttps://github.com/octo-org\n",
        "--name\na1\n",
        "--labels\ndocker,linux-a\n",
        "--work\na b\n",
        "--ephemeral\n--disableupdate\n",
    ] {
        assert!(given.contains(words), "{words}: {given}");
    }
    world.github.register(ORG, "a1", &["docker", "linux-a"], true, &token).unwrap();
    folder.end("config.end", 0);
    folder.wait_for("started").await;
    assert_eq!(folder.read("run.args"), "--once\n");
    for name in ["ACTIONS_RUNNER_INPUT_TOKEN", "ACTIONS_RUNNER_INPUT_JITCONFIG", "RUNNER_BROKER_TOKEN"] {
        assert_eq!(folder.variable("run.env", name), None);
    }
    world.github.connect(ORG, "a1").unwrap();
    world.github.start_job(ORG, "a1").unwrap();
    world.github.finish_job(ORG, "a1").unwrap();
    folder.end("end", 0);
    let ended = running.end().await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(world.status("a1").await, "deleted");
    assert_no_secret(&world, &ended.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_fails_is_taken_back_and_its_code_handed_on() {
    let world = World::new().await;
    let folder = RunnerFolder::new();
    folder.end("config.end", 9);
    let ended = start(&world, &folder, &[]).end().await;
    assert_eq!(ended.code, 9, "{}", ended.err);
    assert!(!folder.path().join("started").exists());
    assert_eq!(world.status("a1").await, "deleted");
    // What it left behind would refuse the next one.
    assert_eq!(folder.read("remove.args"), "remove\n--local\n");
    assert!(!folder.path().join(".runner").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_registered_runner_is_removed_at_a_signal_here_and_on_github() {
    let world = World::new().await;
    let folder = RunnerFolder::new();
    let running = start(&world, &folder, &[]);
    folder.wait_for("configured").await;
    let token = folder.variable("config.env", "ACTIONS_RUNNER_INPUT_TOKEN").unwrap();
    world.github.register(ORG, "a1", &[], true, &token).unwrap();
    folder.end("config.end", 0);
    folder.wait_for("started").await;
    world.github.connect(ORG, "a1").unwrap();
    running.signal(Signal::TERM);
    let ended = running.end().await;
    assert_eq!(ended.code, 7, "{}", ended.err);
    assert!(world.on_github().is_empty());
    assert_eq!(world.status("a1").await, "deleted");
    assert_eq!(folder.read("remove.args"), "remove\n--local\n");
}
