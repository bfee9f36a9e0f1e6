//! The commands: each reads its part of the configuration, calls the broker, and prints the result.

mod audit;
mod audit_verify;
mod doctor;
mod policy;
mod policy_cases;
mod policy_file;
mod reload;
mod request;
mod runners;
pub mod serve;

use std::process::ExitCode;

use clap::Subcommand;

use crate::config::Faults;
use crate::model::with_causes;
use crate::{broker, store};

/// What the broker does on the command line.
#[derive(Subcommand)]
pub enum Command {
    /// Serve the API
    #[command(after_help = "Example:\n  runner-broker migrate && runner-broker serve")]
    Serve,
    /// Update the schema of the database
    #[command(
        visible_alias = "init-db",
        after_help = "Examples:\n  DATABASE_URL=postgres://… runner-broker migrate\n  DATABASE_URL=postgres://owner@… runner-broker migrate --service-role broker"
    )]
    Migrate(serve::Migrate),
    /// List runners, newest first
    #[command(after_help = "Example:\n  runner-broker list-runners --status active --team ml")]
    ListRunners(runners::List),
    /// Remove runners that have been offline for a long time
    #[command(after_help = "Example:\n  runner-broker cleanup-stale-runners --hours 24 --dry-run")]
    CleanupStaleRunners(runners::Cleanup),
    /// Write the audit log to a file
    #[command(
        after_help = "Example:\n  runner-broker export-audit-log --since 2026-01-01 --output audit.json"
    )]
    ExportAuditLog(audit::Export),
    /// Verify that the audit log was not changed since it was sealed
    #[command(
        after_help = "Examples:\n  runner-broker verify-audit-log --key audit.vkey --previous yesterday.txt\n  runner-broker verify-audit-log --file audit.jsonl --checkpoint checkpoint.txt --key audit.vkey\n\nExit code 1: the verification failed. Changes nothing."
    )]
    VerifyAuditLog(audit_verify::Verify),
    /// Generate or show the key that signs the checkpoints of the audit log
    #[command(
        subcommand,
        after_help = "Example:\n  runner-broker audit-key generate --output audit.key > audit.vkey"
    )]
    AuditKey(audit_verify::AuditKey),
    /// Check, test, apply or show the policy, or print its JSON Schema
    #[command(subcommand, after_help = "Example:\n  runner-broker policy apply policy.toml --dry-run")]
    Policy(policy::Policy),
    /// Check everything that the broker needs, with advice for every fault
    #[command(
        after_help = "Examples:\n  runner-broker doctor\n  runner-broker doctor --json | jq '.checks[] | select(.state == \"fault\")'\n\nConnects to Postgres, the identity providers and GitHub, and changes nothing; serve need not run. Exit code 1: a check failed; 2: the configuration is invalid."
    )]
    Doctor(doctor::Doctor),
    /// Request a runner from a broker and start it, for scripts and CI; finds a token by itself
    #[command(subcommand, after_help = request::HELP)]
    Request(Box<request::Request>),
    /// Print the OpenAPI document
    #[command(after_help = "Example:\n  runner-broker openapi > openapi.json")]
    Openapi,
}

/// Why a command failed, with its exit code.
#[derive(Debug)]
pub enum Failure {
    /// Exit code 2: a wrong command line or configuration.
    Usage(String),
    /// Exit code 1: the command failed.
    Failed(String),
    /// The exit code of the program that was run; no message.
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

/// The result of a command.
pub type CommandResult = Result<(), Failure>;

impl Command {
    /// Runs this command.
    pub async fn run(self) -> CommandResult {
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

    /// Whether this command reads `.env` in the working folder, which is part of the configuration of a broker. `request`
    /// does not: it may run in a checkout of somebody else, whose `.env` could name another broker to send the token to.
    pub fn reads_env_file(&self) -> bool {
        !matches!(self, Command::Request(_))
    }
}

/// The exit code of a result; the reason of a failure goes to standard error.
pub fn exit_code(result: CommandResult) -> ExitCode {
    match result {
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

fn print_openapi() -> CommandResult {
    let text = crate::http::openapi().to_pretty_json().map_err(|err| Failure::Failed(err.to_string()))?;
    print(&format!("{text}\n"))
}

/// Prints to standard output. A closed pipe (`… | head`) is not a failure.
fn print(text: &str) -> CommandResult {
    use std::io::Write;
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(err) if err.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::Failed(err.to_string())),
        _ => Ok(()),
    }
}
