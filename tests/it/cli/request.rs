//! `runner-broker request`, as scripts and CI jobs call it: the built binary against a world, or against
//! something in front of it that fails.

mod between;
mod exec;
mod handed_over;
mod refusals;
mod registration;
mod retries;
mod signals;
mod tokens;

use std::path::Path;
use std::process::Stdio;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

use super::commands::Ended;
use crate::support::World;

/// Where `sh` and its like are.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// `request` in an environment with nothing else.
fn command(args: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runner-broker"));
    command.arg("request").args(args).env_clear().env("PATH", PATH).current_dir("/");
    command.envs(environment.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Runs it to its end.
async fn request(args: &[&str], environment: &[(&str, &str)]) -> Ended {
    ended(command(args, environment)).await
}

async fn ended(mut command: Command) -> Ended {
    // Its streams stay as they were set, which `output` would not leave them.
    let output = command.spawn().unwrap().wait_with_output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

/// `request` at this broker as one of team blue, by the environment.
async fn as_blue(world: &World, url: &str, args: &[&str]) -> Ended {
    let token = world.token("blue");
    request(args, &[("RUNNER_BROKER_URL", url), ("RUNNER_BROKER_TOKEN", &token)]).await
}

/// `request` while it runs.
struct Running {
    child: Child,
    err: BufReader<tokio::process::ChildStderr>,
    said: String,
}

impl Running {
    fn start(mut command: Command) -> Running {
        let mut child = command.spawn().unwrap();
        let err = BufReader::new(child.stderr.take().unwrap());
        Running { child, err, said: String::new() }
    }

    /// Waits until it has said this on standard error.
    async fn says(&mut self, words: &str) {
        while !self.said.contains(words) {
            let read = self.err.read_line(&mut self.said).await.unwrap();
            assert!(read > 0, "it never said '{words}': {}", self.said);
        }
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.pid()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    fn pid(&self) -> i32 {
        self.child.id().unwrap() as i32
    }

    /// Waits for its end, for as long as a slow machine may need.
    async fn end(self) -> Ended {
        let limit = std::time::Duration::from_secs(60);
        tokio::time::timeout(limit, self.ended()).await.expect("it does not end")
    }

    async fn ended(mut self) -> Ended {
        let mut out = String::new();
        self.err.read_to_string(&mut self.said).await.unwrap();
        self.child.stdout.take().unwrap().read_to_string(&mut out).await.unwrap();
        let code = self.child.wait().await.unwrap().code().unwrap_or(-1);
        Ended { code, out, err: self.said }
    }
}

/// A folder with a runner that is none: `run.sh` and `config.sh` write down what they were given, and end with
/// the code in the file `end` as soon as there is one. A SIGTERM or SIGINT ends `run.sh` with 7; as long as it has
/// had none it answers `ping` by `pong`.
struct RunnerFolder(TempDir);

const RUN: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 99
trap 'echo TERM >> told; exit 7' TERM
trap 'echo INT >> told; exit 7' INT
env > run.env
printf '%s\n' "$@" > run.args
tr '\0' '\n' < /proc/$$/cmdline > run.cmdline
: > started
while [ ! -e end ]; do [ -e ping ] && : > pong; sleep 0.02; done
exit "$(cat end)"
"#;

const CONFIG: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 99
if [ "$1" = remove ]; then printf '%s\n' "$@" > remove.args; rm .runner; exit; fi
env > config.env
printf '%s\n' "$@" > config.args
: > .runner
: > configured
while [ ! -e config.end ]; do sleep 0.02; done
exit "$(cat config.end)"
"#;

impl RunnerFolder {
    fn new() -> RunnerFolder {
        let folder = RunnerFolder(tempfile::tempdir().unwrap());
        folder.script("run.sh", RUN);
        folder.script("config.sh", CONFIG);
        folder
    }

    fn script(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.0.path().join(name);
        // Under its own name it would be open for writing while another test's fork has it open.
        let unfinished = self.0.path().join(format!("{name}.new"));
        std::fs::write(&unfinished, text).unwrap();
        std::fs::set_permissions(&unfinished, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::rename(unfinished, path).unwrap();
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// `run.sh`, as an argument.
    fn run(&self) -> String {
        self.path().join("run.sh").display().to_string()
    }

    /// What is in a file; waits for it.
    async fn wait_for(&self, name: &str) -> String {
        let path = self.path().join(name);
        crate::support::eventually(name, async || path.exists()).await;
        std::fs::read_to_string(path).unwrap()
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap_or_default()
    }

    /// A variable that a script had.
    fn variable(&self, file: &str, name: &str) -> Option<String> {
        let text = self.read(file);
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.map(str::to_owned)
    }

    /// Lets a script end with this code.
    fn end(&self, name: &str, code: u8) {
        let unfinished = self.path().join("unfinished");
        std::fs::write(&unfinished, code.to_string()).unwrap();
        std::fs::rename(unfinished, self.path().join(name)).unwrap();
    }
}

/// A runner of team blue's under `request jit --name NAME --exec run.sh`, connected.
async fn connected(world: &World, name: &str, folder: &RunnerFolder, more: &[&str]) -> Running {
    let (token, run) = (world.token("blue"), folder.run());
    let environment = [("RUNNER_BROKER_URL", world.url.as_str()), ("RUNNER_BROKER_TOKEN", &token)];
    let args = [&["jit", "--name", name], more, &["--exec", &run]].concat();
    let running = Running::start(command(&args, &environment));
    folder.wait_for("started").await;
    let config = folder.variable("run.env", "ACTIONS_RUNNER_INPUT_JITCONFIG").unwrap();
    world.github.connect_jit(&config).unwrap();
    running
}

/// No token, credential or secret that this world ever gave out.
#[track_caller]
fn assert_no_secret(world: &World, text: &str) {
    for secret in world.issuer.issued().iter().chain(&world.github.issued()) {
        assert!(!text.contains(secret.as_str()), "{text}");
    }
}
