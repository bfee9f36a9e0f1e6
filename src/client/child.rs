//! The runner's programs: `run.sh`, for a registration `config.sh` before it. They get the credential through
//! their environment, which other users cannot read as they can a command line, and nothing of ours beside it.
//!
//! Tokens of ours are taken out of the program's environment, and this process makes itself unreadable for others of
//! its user, since jobs run as the same. `RUNNER_MANUALLY_TRAP_SIG` makes `run.sh` pass signals on.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use secrecy::{ExposeSecret, SecretString};
use tokio::process::{Child, Command};

use super::runner::IssuedRunner;
use super::{Error, Method, print_line, variable};

/// What the runner takes for its options `--jitconfig` and `--token`.
const JIT_CONFIG: &str = "ACTIONS_RUNNER_INPUT_JITCONFIG";
const TOKEN: &str = "ACTIONS_RUNNER_INPUT_TOKEN";
/// Has `run.sh` pass signals on to the runner, and wait for its end; by itself it would leave it behind.
const TRAP: &str = "RUNNER_MANUALLY_TRAP_SIG";
/// What speaks for this process: jobs on the runner must not.
const OURS: [&str; 4] = [
    "RUNNER_BROKER_TOKEN",
    "RUNNER_BROKER_TOKEN_FILE",
    "ACTIONS_ID_TOKEN_REQUEST_URL",
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
];

/// What `--exec` names.
pub struct Program {
    run: OsString,
    args: Vec<OsString>,
    /// Beside `run`.
    config: Option<PathBuf>,
}

impl Program {
    /// Refuses what cannot be run, before anybody is asked for anything.
    pub fn new(command: Vec<OsString>, method: Method) -> Result<Program, Error> {
        let mut words = command.into_iter();
        let run = words.next().ok_or_else(|| Error::Usage("--exec wants a program".into()))?;
        let config = (method == Method::Registration).then(|| beside(&run).join("config.sh"));
        // A bare name is looked up in PATH.
        let is_path = Path::new(&run).components().count() > 1 || Path::new(&run).is_absolute();
        let named = is_path.then(|| Path::new(&run)).into_iter().chain(config.as_deref());
        for path in named {
            if !is_executable(path) {
                return Err(Error::Usage(format!(
                    "--exec: {} is not found or not executable",
                    path.display()
                )));
            }
        }
        Ok(Program { run, args: words.collect(), config })
    }

    /// As it was given.
    pub fn name(&self) -> String {
        self.run.to_string_lossy().into_owned()
    }

    /// `config.sh` with what was granted, its token taken out of the command line.
    pub fn start_config(&self, made: &IssuedRunner) -> Result<Option<Child>, Error> {
        let Some(config) = &self.config else { return Ok(None) };
        let words = shlex::split(made.command.expose_secret()).unwrap_or_default();
        let mut command = clean(config.as_os_str());
        let mut words = words.into_iter().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--token" => drop(words.next()),
                _ => drop(command.arg(word)),
            }
        }
        command.env(TOKEN, made.credential.expose_secret());
        start(command, &config.display().to_string()).map(Some)
    }

    /// `run.sh`, with a JIT configuration if there is one.
    pub fn start_run(&self, jit_config: Option<&SecretString>) -> Result<Child, Error> {
        let mut command = clean(&self.run);
        command.args(&self.args);
        if let Some(config) = jit_config {
            command.env(JIT_CONFIG, config.expose_secret());
        }
        if variable(TRAP).is_none() {
            command.env(TRAP, "1");
        }
        start(command, &self.name())
    }

    /// Takes away what `config.sh` left behind for a runner that is no more; it would refuse the next one.
    pub async fn forget(&self) {
        let Some(config) = self.config.as_ref().filter(|_| beside(&self.run).join(".runner").exists()) else {
            return;
        };
        let mut command = clean(config.as_os_str());
        command.args(["remove", "--local"]).stdout(Stdio::null());
        match command.status().await {
            Ok(status) if status.success() => {}
            Ok(status) => print_line(&format!("{} remove --local: {status}", config.display())),
            Err(err) => print_line(&format!("{}: {err}", config.display())),
        }
    }
}

/// Sends a signal to the program and all that it started in its own group.
pub fn forward(child: &Child, signal: Signal) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(Err(err)) = pid.map(|pid| kill_process_group(pid, signal)) {
        print_line(&format!("the signal was not passed on: {err}"));
    }
}

/// As a shell has it: the program's own code, or 128 and the signal that ended it.
pub fn exit_code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(u8::MAX),
        (None, signal) => super::signals::exit_code(signal.unwrap_or(0)),
    }
}

/// From now on no other process of this user, and so no job on the runner, can read our memory or environment,
/// where a token for the broker is.
pub fn hide() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        if let Err(err) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
            print_line(&format!("jobs on the runner may read this process's environment: {err}"));
        }
    }
}

fn clean(program: &std::ffi::OsStr) -> Command {
    let mut command = Command::new(program);
    // A group of its own: a terminal's Ctrl-C is for us to pass on. So there is nothing to read from, either.
    command.stdin(Stdio::null()).process_group(0);
    for name in OURS.iter().chain(&[JIT_CONFIG, TOKEN]) {
        command.env_remove(name);
    }
    if variable("GITLAB_CI").is_some() {
        command.env_remove("BROKER_TOKEN");
    }
    command
}

fn start(mut command: Command, name: &str) -> Result<Child, Error> {
    command.spawn().map_err(|err| Error::Failed(format!("{name} cannot be started: {err}")))
}

fn beside(run: &std::ffi::OsStr) -> PathBuf {
    match Path::new(run).parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}
