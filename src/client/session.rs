//! One run of `request`: a runner is asked for, then printed or run; one that nobody used is removed.
//!
//! A signal removes the runner first and tells the program afterwards: a removed runner can get no job that the
//! signal would cut short. A busy one (409) may finish until `--grace` or a second signal. When the program ends by
//! itself the broker is asked to look (`refresh`, one GET), and only a runner that is still there is removed, which
//! costs five times as much. `::add-mask::` goes to standard error, only inside GitHub Actions and only into a pipe.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::time::Duration;

use rustix::process::Signal;
use secrecy::{ExposeSecret, SecretString};
use tokio::process::Child;
use tokio::time::{Instant, sleep_until, timeout};

use super::broker::{Broker, Removal};
use super::child::{self, Program};
use super::http::Roots;
use super::retry::RetryLimit;
use super::runner::IssuedRunner;
use super::signals::{Signals, exit_code};
use super::{Error, Key, Method, RunnerRequest, Token, print_line, variable};

/// How long a signal waits for the broker. Systems that stop services often allow 30 s for everything.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(8);

/// What becomes of the runner.
pub enum Output {
    /// The broker's answer, as JSON on one line.
    Json,
    /// The command for a shell.
    Command,
    /// This is run here.
    Exec(Vec<OsString>),
}

/// What one run of `request` is about.
pub struct Session {
    /// The broker's base URL.
    pub url: url::Url,
    /// Trusted beside the system's.
    pub roots: Roots,
    /// Who asks.
    pub token: Token,
    /// What is asked for.
    pub request: RunnerRequest,
    /// What the broker recognises repeats by.
    pub key: Key,
    /// What happens with the answer.
    pub output: Output,
    /// For the request.
    pub limit: Duration,
    /// How long a job may go on after the first signal; `None`: as long as it takes.
    pub grace: Option<Duration>,
}

impl Session {
    /// Does it. The exit code; why not, if it went wrong before there was anything to run.
    pub async fn run(self) -> Result<u8, Error> {
        let Session { url, roots, token, request, key, output, limit, grace } = self;
        let program = match output {
            Output::Exec(command) => Err(Program::new(command, request.method)?),
            Output::Json => Ok(false),
            Output::Command => Ok(true),
        };
        let mut broker = Broker::new(url, &roots, token)?;
        let no_signals = |err: std::io::Error| Error::Failed(format!("no signals: {err}"));
        let mut signals = Signals::listen().map_err(no_signals)?;
        let made = match ask_for(&mut broker, &request, key, limit, &mut signals).await? {
            Ok(made) => made,
            Err(code) => return Ok(code),
        };
        match program {
            Ok(is_command) => hand_over(&mut broker, &made, is_command).await,
            Err(program) => {
                Run { broker, made, request, program, signals, grace, stopped: None, is_gone: false }
                    .follow()
                    .await
            }
        }
    }
}

/// A runner, or the exit code if a signal came first.
async fn ask_for(
    broker: &mut Broker,
    request: &RunnerRequest,
    key: Key,
    limit: Duration,
    signals: &mut Signals,
) -> Result<Result<IssuedRunner, u8>, Error> {
    let retries = RetryLimit::new(limit);
    let mut asking = Box::pin(broker.provision(request, key, &retries));
    let signal = tokio::select! {
        made = &mut asking => return made.map(Ok),
        signal = signals.next() => signal,
    };
    // What is under way may make a runner all the same: that one is known a moment later, and taken back.
    retries.stop();
    let late = timeout(SHUTDOWN_LIMIT, asking).await;
    print_line(&format!("stopped by {} before a runner was handed over", name_of(signal)));
    if let Ok(Ok(made)) = late {
        remove_unused(broker, &made).await;
    }
    Ok(Err(exit_code(signal.as_raw())))
}

/// Prints what starts the runner, for somebody else to start it.
async fn hand_over(broker: &mut Broker, made: &IssuedRunner, is_command: bool) -> Result<u8, Error> {
    let text = if is_command { &made.command } else { &made.json };
    mask(&made.credential);
    let mut out = std::io::stdout().lock();
    let written = writeln!(out, "{}", text.expose_secret()).and_then(|()| out.flush());
    drop(out);
    match written {
        Ok(()) => Ok(0),
        Err(err) => {
            // Nobody has it, so nobody will start it.
            remove_unused(broker, made).await;
            Err(Error::Failed(format!("standard output: {err}")))
        }
    }
}

/// Has GitHub Actions (and those that are like it) hide a secret in a job's log. It reads commands from both of a
/// step's streams, and takes them out of the log; standard output stays what a script wants. Anything but a pipe,
/// a file for instance, is read by somebody else, and would keep the secret.
fn mask(secret: &SecretString) {
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileTypeExt;
    let kind = std::io::stderr().as_fd().try_clone_to_owned().and_then(|fd| File::from(fd).metadata());
    let is_pipe = kind.is_ok_and(|found| found.file_type().is_fifo() || found.file_type().is_socket());
    if is_pipe && variable("GITHUB_ACTIONS").as_deref() == Some("true") {
        eprintln!("::add-mask::{}", secret.expose_secret().replace('%', "%25"));
    }
}

async fn remove_unused(broker: &mut Broker, made: &IssuedRunner) {
    match broker.remove(&made.runner_id, false, &RetryLimit::new(SHUTDOWN_LIMIT)).await {
        Ok(Removal::Done(message)) => print_line(&format!("runner {}: {message}", made.runner_name)),
        Ok(Removal::Busy) => print_line(&format!("runner {} has a job; it is left alone", made.runner_name)),
        Err(err) => print_line(&left_behind(made, &err)),
    }
}

fn left_behind(made: &IssuedRunner, err: &Error) -> String {
    let name = &made.runner_name;
    format!("runner {name} could not be removed, the broker will do it once its time is over: {err}")
}

fn name_of(signal: Signal) -> &'static str {
    match signal {
        Signal::TERM => "SIGTERM",
        Signal::INT => "SIGINT",
        _ => "SIGHUP",
    }
}

/// A runner that runs here. It lives as long as this process.
struct Run {
    broker: Broker,
    made: IssuedRunner,
    request: RunnerRequest,
    program: Program,
    signals: Signals,
    grace: Option<Duration>,
    /// The first signal that came.
    stopped: Option<Signal>,
    /// GitHub has it no more.
    is_gone: bool,
}

impl Run {
    /// The exit code of what was run.
    async fn follow(mut self) -> Result<u8, Error> {
        child::hide();
        let ended = self.programs().await;
        if !self.is_gone {
            self.settle().await;
        }
        if self.is_gone {
            self.program.forget().await;
        }
        ended
    }

    async fn programs(&mut self) -> Result<u8, Error> {
        if let Some(config) = self.program.start_config(&self.made)? {
            match (self.watch(config).await?, self.stopped) {
                (0, None) => {}
                (0, Some(signal)) => return Ok(exit_code(signal.as_raw())),
                (code, _) => return Ok(code),
            }
            // So that the broker knows it by GitHub's id before its only job takes it away again.
            if let Err(err) =
                self.broker.refresh(&self.made.runner_id, &RetryLimit::new(SHUTDOWN_LIMIT)).await
            {
                print_line(&format!("the broker has not seen runner {} yet: {err}", self.made.runner_name));
            }
        }
        print_line(&format!("runner {}: starting {}", self.made.runner_name, self.program.name()));
        let jit_config = (self.request.method == Method::Jit).then_some(&self.made.credential);
        let run = self.program.start_run(jit_config)?;
        self.watch(run).await
    }

    /// Waits for a program's end. At the first signal the runner is removed, and only then told: as soon as GitHub
    /// has it no more, it can get no job that would be cut short. A job that it has is left to finish, until
    /// `grace` is over or a second signal comes.
    async fn watch(&mut self, mut program: Child) -> Result<u8, Error> {
        let failed = |err: std::io::Error| Error::Failed(err.to_string());
        let mut cut_short: Option<(Instant, Signal)> = None;
        loop {
            let until = cut_short.map_or_else(Instant::now, |(until, _)| until);
            let signal = tokio::select! {
                status = program.wait() => return status.map(child::exit_code).map_err(failed),
                signal = self.signals.next() => signal,
                () = sleep_until(until), if cut_short.is_some() => {
                    if let Some((_, signal)) = cut_short.take() {
                        print_line("its time is over");
                        child::forward(&program, signal);
                    }
                    continue;
                }
            };
            let is_first = self.stopped.is_none();
            self.stopped.get_or_insert(signal);
            if is_first && self.is_left_to_finish(signal).await {
                cut_short = self.grace.map(|grace| (Instant::now() + grace, signal));
            } else {
                child::forward(&program, signal);
            }
        }
    }

    /// Whether it has a job; if not, it is gone. A second signal ends the question.
    async fn is_left_to_finish(&mut self, signal: Signal) -> bool {
        let name = &self.made.runner_name;
        print_line(&format!("{}: removing runner {name}", name_of(signal)));
        let retries = RetryLimit::new(SHUTDOWN_LIMIT);
        // A runner for many jobs would take the next one: the broker removes it as soon as it is idle.
        let when_idle = !self.request.ephemeral();
        let removed = tokio::select! {
            removed = self.broker.remove(&self.made.runner_id, when_idle, &retries) => removed,
            _ = self.signals.next() => return false,
        };
        match removed {
            Ok(Removal::Done(message)) => {
                print_line(&format!("runner {name}: {message}"));
                self.is_gone = true;
                false
            }
            Ok(Removal::Busy) => {
                print_line(&format!("runner {name} has a job, which may finish; a second signal stops it"));
                true
            }
            Err(err) => {
                print_line(&format!("runner {name} could not be removed yet: {err}"));
                false
            }
        }
    }

    /// The program has ended. A runner that had its job is gone from GitHub, which the broker is told to look at;
    /// one that is still there never had one, unless it is busy.
    async fn settle(&mut self) {
        let retries = RetryLimit::new(SHUTDOWN_LIMIT);
        match self.broker.refresh(&self.made.runner_id, &retries).await {
            Ok(seen) if matches!(seen.status.as_str(), "deleted" | "failed") => self.is_gone = true,
            Ok(seen) if seen.busy => {
                print_line(&format!(
                    "runner {} is busy by GitHub's word; it is left alone",
                    self.made.runner_name
                ));
            }
            // Not knowing, it is right to try: a busy one is refused.
            Ok(_) | Err(_) => match self.broker.remove(&self.made.runner_id, false, &retries).await {
                Ok(Removal::Done(message)) => {
                    print_line(&format!("runner {} had no job: {message}", self.made.runner_name));
                    self.is_gone = true;
                }
                Ok(Removal::Busy) => {}
                Err(err) => print_line(&left_behind(&self.made, &err)),
            },
        }
    }
}
