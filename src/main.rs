//! Reads the command line, runs one command, chooses the exit code.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use runner_broker::cli::{self, exit_code};
use runner_broker::config;

/// One GitHub self-hosted runner for an OpenID Connect token, by policy, audited.
#[derive(Parser)]
#[command(version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(flatten)]
    Broker(cli::Command),
    /// Try everything on this machine: Postgres, an OpenID provider and a GitHub of its own
    #[cfg(feature = "dev")]
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:\n  runner-broker dev\n  runner-broker dev token --sub alice --claim team=blue"
    )]
    Dev(runner_broker::dev::command::Dev),
}

fn main() -> ExitCode {
    // The one TLS stack; before anything could choose another.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        eprintln!("runner-broker: another TLS provider is installed already");
        return ExitCode::FAILURE;
    }
    let command = Cli::parse().command;
    if command.reads_env_file()
        && let Err(err) = config::load_env_file()
    {
        eprintln!("runner-broker: .env: {}", without_value(&err));
        return ExitCode::from(2);
    }
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => exit_code(runtime.block_on(run(command))),
        Err(err) => {
            eprintln!("runner-broker: cannot start threads: {err}");
            ExitCode::FAILURE
        }
    }
}

impl Command {
    fn reads_env_file(&self) -> bool {
        match self {
            Command::Broker(command) => command.reads_env_file(),
            #[cfg(feature = "dev")]
            Command::Dev(_) => true,
        }
    }
}

async fn run(command: Command) -> cli::CommandResult {
    match command {
        Command::Broker(command) => command.run().await,
        #[cfg(feature = "dev")]
        Command::Dev(dev) => dev.run().await,
    }
}

/// The fault of `.env`. The line may hold a secret, so only the name of the variable is shown.
fn without_value(err: &dotenvy::Error) -> String {
    match err {
        dotenvy::Error::LineParse(line, at) => {
            let name = line.split_once('=').map_or("a line without '='", |(name, _)| name.trim());
            format!("{name}: syntax error at character {at}; quote a value that has blanks or #")
        }
        err => err.to_string(),
    }
}
