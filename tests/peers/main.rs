//! The broker as its users run it, killed, stopped and read; and against programs that others wrote: an OpenID
//! provider, generated clients, a fuzzer. A test says that it is skipped where its program is missing; with
//! `REQUIRE_PEERS=1` that fails it.

#[path = "../it/browser.rs"]
mod browser;
#[path = "../it/database.rs"]
mod database;
#[path = "../it/markdown.rs"]
mod markdown;
#[path = "../it/support.rs"]
mod support;

/// What its sequences and its checks share with these here.
#[path = "../it/model"]
mod model {
    pub mod checks;
    pub mod steps;
    pub mod told;
}

mod browser_proof;
mod clients;
mod console;
mod crash;
mod crash_step;
mod deploy;
mod deploy_chart;
mod deploy_metrics;
mod deploy_runs;
mod doctor;
mod documents;
mod examples;
mod flood;
mod frozen;
mod fuzzer;
mod leader;
mod openid_provider;
mod pgbouncer;
mod process;
mod random;
mod reload;
mod replica;
mod secrets;
mod shutdown;
mod sign_in;
mod tools;
mod traces;
