//! The commands: each reads its part of the configuration, calls one verb of the broker's, and prints.

mod audit;
mod audit_verify;
mod doctor;
mod policy;
mod reload;
mod request;
mod runners;
pub mod serve;

use std::process::ExitCode;

use clap::Subcommand;

use crate::config::Faults;
use crate::{broker, store};

/// What the broker does on the command line.
#[derive(Subcommand)]
pub enum Command {
    /// Serve the API
    #[command(after_help = "Example:\n  runner-broker migrate && runner-broker serve")]
    Serve,
    /// Bring the database's schema up to date
    #[command(
        visible_alias = "init-db",
        after_help = "Examples:\n  DATABASE_URL=postgres://… runner-broker migrate\n  DATABASE_URL=postgres://owner@… runner-broker migrate --service-role broker"
    )]
    Migrate(serve::Migrate),
    /// List runners, newest first
    #[command(after_help = "Example:\n  runner-broker list-runners --status active --team ml")]
    ListRunners(runners::List),
    /// Remove runners that have been offline for long
    #[command(after_help = "Example:\n  runner-broker cleanup-stale-runners --hours 24 --dry-run")]
    CleanupStaleRunners(runners::Cleanup),
    /// Write the audit log to a file
    #[command(
        after_help = "Example:\n  runner-broker export-audit-log --since 2026-01-01 --output audit.json"
    )]
    ExportAuditLog(audit::Export),
    /// Check that the audit log is what was sealed
    #[command(
        after_help = "Examples:\n  runner-broker verify-audit-log --key audit.vkey --previous yesterday.txt\n  runner-broker verify-audit-log --file audit.jsonl --checkpoint checkpoint.txt --key audit.vkey\n\nExit code 1: it is not. Writes nothing."
    )]
    VerifyAuditLog(audit_verify::Verify),
    /// Make or show the key that signs the audit log's checkpoints
    #[command(
        subcommand,
        after_help = "Example:\n  runner-broker audit-key generate --output audit.key > audit.vkey"
    )]
    AuditKey(audit_verify::AuditKey),
    /// Check, apply or show the policy, or print its JSON Schema
    #[command(subcommand, after_help = "Example:\n  runner-broker policy apply policy.toml --dry-run")]
    Policy(policy::Policy),
    /// Check all that the broker needs, and say what to do about what is wrong
    #[command(
        after_help = "Examples:\n  runner-broker doctor\n  runner-broker doctor --json | jq '.checks[] | select(.state == \"fault\")'\n\nAsks Postgres, the identity providers and GitHub; changes nothing, and needs no serve that runs. Exit code 1: something does not work; 2: the configuration is wrong."
    )]
    Doctor(doctor::Doctor),
    /// Ask a broker for a runner, with a token that is found here, and start it: for scripts and CI
    #[command(subcommand, after_help = request::HELP)]
    Request(Box<request::Request>),
    /// Print the OpenAPI document
    #[command(after_help = "Example:\n  runner-broker openapi > openapi.json")]
    Openapi,
}

/// Why a command did not do what it should; the exit code follows from it.
#[derive(Debug)]
pub enum Failure {
    /// 2: called or configured wrongly.
    Usage(String),
    /// 1: tried, and failed.
    Failed(String),
    /// What was run here ended with this; there is nothing to add.
    Exit(u8),
}

impl From<Faults> for Failure {
    fn from(faults: Faults) -> Failure {
        Failure::Usage(faults.to_string())
    }
}

impl From<store::Error> for Failure {
    fn from(err: store::Error) -> Failure {
        match err {
            store::Error::Url(why) => Failure::Usage(format!("DATABASE_URL: {why}")),
            err => Failure::Failed(with_causes(&err)),
        }
    }
}

impl From<broker::Error> for Failure {
    fn from(err: broker::Error) -> Failure {
        match err {
            broker::Error::Store(err) => err.into(),
            err => Failure::Failed(with_causes(&err)),
        }
    }
}

/// An error with its causes, none of them twice.
pub fn with_causes(err: &dyn std::error::Error) -> String {
    let mut text = err.to_string();
    let mut source = err.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

pub type Done = Result<(), Failure>;

impl Command {
    /// Runs this command.
    pub async fn run(self) -> Done {
        match self {
            Command::Serve => serve::serve().await,
            Command::Migrate(migrate) => migrate.run().await,
            Command::ListRunners(list) => list.run().await,
            Command::CleanupStaleRunners(cleanup) => cleanup.run().await,
            Command::ExportAuditLog(export) => export.run().await,
            Command::VerifyAuditLog(verify) => verify.run().await,
            Command::AuditKey(key) => key.run().await,
            Command::Policy(policy) => policy.run().await,
            Command::Doctor(doctor) => doctor.run().await,
            Command::Request(request) => request.run().await,
            Command::Openapi => print_openapi(),
        }
    }

    /// Whether this command wants the broker's configuration, of which `.env` in the working folder is a part.
    /// Who asks for a runner may stand in a checkout of somebody else's, where that file is his, and could name
    /// another broker to send the token to.
    pub fn reads_env_file(&self) -> bool {
        !matches!(self, Command::Request(_))
    }
}

/// The exit code of what was done, with the reason on standard error.
pub fn exit_code(done: Done) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(why)) => {
            eprintln!("runner-broker: {why}");
            ExitCode::from(2)
        }
        Err(Failure::Failed(why)) => {
            eprintln!("runner-broker: {why}");
            ExitCode::FAILURE
        }
        Err(Failure::Exit(code)) => ExitCode::from(code),
    }
}

fn print_openapi() -> Done {
    let text = crate::http::openapi().to_pretty_json().map_err(|err| Failure::Failed(err.to_string()))?;
    print(&format!("{text}\n"))
}

/// Prints to standard output; a reader that has gone (`… | head`) is no failure.
fn print(text: &str) -> Done {
    use std::io::Write;
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(err) if err.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::Failed(err.to_string())),
        _ => Ok(()),
    }
}
