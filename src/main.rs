//! Reads the command line, runs one command, chooses the exit code.

use std::process::ExitCode;

use clap::Parser;
use runner_broker::cli::{Cli, run};

#[tokio::main]
async fn main() -> ExitCode {
    // The one TLS stack; before anything could choose another.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        eprintln!("runner-broker: another TLS provider is installed already");
        return ExitCode::FAILURE;
    }
    // A missing file is fine; a broken one is not.
    if let Err(err) = dotenvy::dotenv()
        && !err.not_found()
    {
        eprintln!("runner-broker: .env: {err}");
        return ExitCode::from(2);
    }
    run(Cli::parse()).await
}
