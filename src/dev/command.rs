//! `runner-broker dev`: everything that the broker needs, on this machine, and what to paste next.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};
use url::Url;

use super::config::{AUDIENCE, ORG, REPO, WEBHOOK_SECRET, config_for};
use super::github::{self, GitHub, Limits};
use super::issuer::{self, Issuer};
use super::postgres::{Options, Postgres};
use crate::broker::policy::{apply, refresh};
use crate::cli::serve::{start, stop_on_signal};
use crate::cli::{CommandResult, Failure};
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::model::with_causes;
use crate::policy::Document;
use crate::store::Store;
use crate::telemetry;

/// Whence the sample policy comes, as the database remembers it.
const SOURCE: &str = "dev";

#[derive(Args)]
pub struct Dev {
    #[command(subcommand)]
    command: Option<Command>,
    /// Where the broker listens; its OpenID provider and its GitHub take the two ports above
    #[arg(long, default_value_t = 8000, value_parser = clap::value_parser!(u16).range(1..65_534))]
    port: u16,
    /// Keep the database here; without it nothing is left behind
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// GitHub without rate limits, for benchmarks
    #[arg(long)]
    no_limits: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Print a token of the running `dev`'s provider
    #[command(
        after_help = "Example:\n  runner-broker dev token --sub alice --claim team=blue --claim groups='[\"ops\"]'"
    )]
    Token(Token),
}

#[derive(Args)]
struct Token {
    /// Whose token
    #[arg(long)]
    sub: String,
    /// A claim; a value that is JSON is taken as such, any other as text
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = claim)]
    claims: Vec<(String, Value)>,
    /// The port that `dev` was given
    #[arg(long, default_value_t = 8000, value_parser = clap::value_parser!(u16).range(1..65_534))]
    port: u16,
}

fn claim(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("a claim is NAME=VALUE")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
    Ok((name.to_owned(), value))
}

impl Dev {
    pub async fn run(self) -> CommandResult {
        match self.command {
            Some(Command::Token(token)) => token.print().await,
            None => self.serve().await,
        }
    }

    async fn serve(self) -> CommandResult {
        let failed = |what: &str, err: &dyn std::error::Error| {
            Failure::Failed(format!("{what}: {}", with_causes(err)))
        };
        telemetry::logs(&config::log()?);
        let clock = Clock::default();
        let issuer = Issuer::start(issuer::Settings {
            port: self.port + 1,
            audience: AUDIENCE.into(),
            clock: clock.clone(),
        })
        .map_err(|err| {
            failed(&format!("the OpenID provider cannot listen on port {}", self.port + 1), &err)
        })?;
        let github = GitHub::start(github::Settings {
            port: self.port + 2,
            clock: clock.clone(),
            limits: (!self.no_limits).then(Limits::generous),
            record_calls: !self.no_limits,
            ..github::Settings::default()
        })
        .map_err(|err| failed(&format!("GitHub cannot listen on port {}", self.port + 2), &err))?;
        github.add_org(ORG);
        github.add_repo(REPO);
        github::Person::some().into_iter().for_each(|person| github.add_person(person));

        let (postgres, database_url) = self.postgres().await?;
        // Until here a signal simply ends the process, and Postgres with it: nobody waits for a download.
        let stop = stop_on_signal()?;
        let config = self.config(&database_url, &issuer, &github)?;
        let store = Store::new(&config.database_url, 1)?;
        refuse_other_peoples(&store).await?;
        store.migrate().await?;
        drop(store);
        let started = tokio::select! {
            started = start(config, clock) => started?,
            () = stop.cancelled() => return Ok(()),
        };
        let document = Document::parse(&sample_policy(issuer.url(), github.url()))
            .map_err(|faults| Failure::Failed(refresh::listed(&faults)))?;
        started.broker.apply_policy(&document, SOURCE, true).await?;
        let webhook = format!("http://127.0.0.1:{}/api/v1/webhooks/github", self.port);
        github.set_webhook(&webhook, WEBHOOK_SECRET);
        eprintln!("{}", welcome(self.port, &issuer, &github, self.data_dir.is_some()));
        let done = started.run(stop).await;
        // Servers first, so that nobody asks a Postgres that is stopping.
        drop((issuer, github));
        if let Some(postgres) = postgres {
            let stopped = tokio::task::spawn_blocking(move || drop(postgres)).await;
            stopped.map_err(|err| failed("stopping Postgres", &err))?;
        }
        done
    }

    /// With the port that people were told, and a sweep that they see at work.
    fn config(&self, database: &SecretString, issuer: &Issuer, github: &GitHub) -> Result<Config, Failure> {
        let public_url = format!("http://127.0.0.1:{}", self.port);
        let mut config = config_for(database.expose_secret(), issuer.url(), github.url(), github.app_id());
        config.http.port = self.port;
        config.http.public_url =
            Url::parse(&public_url).map_err(|err| Failure::Failed(format!("{public_url}: {err}")))?;
        config.broker.sync_interval = Duration::from_secs(10);
        Ok(config)
    }

    /// `DATABASE_URL`, or a private Postgres.
    async fn postgres(&self) -> Result<(Option<Postgres>, SecretString), Failure> {
        if std::env::var("DATABASE_URL").is_ok_and(|url| !url.is_empty()) {
            return Ok((None, config::database_url()?));
        }
        let options = match &self.data_dir {
            Some(folder) => Options::kept(folder),
            None => Options::temporary(),
        };
        let started = tokio::task::spawn_blocking(move || Postgres::start(&options)).await;
        let postgres = started
            .map_err(|err| Failure::Failed(err.to_string()))?
            .map_err(|err| Failure::Failed(with_causes(&err)))?;
        let url = postgres.url("postgres").into();
        Ok((Some(postgres), url))
    }
}

/// Keeps `dev` from applying its sample policy to a database that somebody works with.
async fn refuse_other_peoples(store: &Store) -> CommandResult {
    if !store.pending_migrations().await?.is_empty() {
        return Ok(());
    }
    let sources = apply::sources(store).await?;
    let has = |wanted: &str| sources.iter().any(|source| source == wanted);
    // Somebody who tries out the calls for administrators changes our policy, and it stays ours.
    let is_ours = |source: &String| source == SOURCE || (source == apply::BY_API && has(SOURCE));
    if sources.iter().all(is_ours) {
        return Ok(());
    }
    let why =
        "DATABASE_URL names a database whose policy did not come from 'dev'; give it another, or unset it";
    Err(Failure::Usage(why.into()))
}

/// Two teams, an admin and an auditor.
fn sample_policy(issuer: &str, github: &str) -> String {
    format!(
        r#"[[team]]
name = "blue"
description = "Anything on Linux, in small numbers"
required_labels = ["blue"]
allowed_labels = ["linux-.*", "docker"]
methods = ["jit", "registration_token"]
targets = ["{ORG}", "{ORG}/*"]
max_runners = 10

[[team.member]]
issuer = "{issuer}"
claims = {{ team = "blue" }}

[[team.member]]
issuer = "{github}"
claims = {{ teams = "{ORG}/blue" }}

[[team]]
name = "ml"
description = "GPU runners"
required_labels = ["ml"]
allowed_labels = ["gpu", "cuda-[0-9]+"]
requests_per_minute = 60

[[team.member]]
issuer = "{issuer}"
claims = {{ team = "ml" }}

[[admin]]
issuer = "{issuer}"
claims = {{ groups = "admins" }}

[[admin]]
issuer = "{github}"
claims = {{ teams = "{ORG}/admins" }}

[[auditor]]
issuer = "{issuer}"
claims = {{ groups = "auditors" }}
"#
    )
}

fn welcome(port: u16, issuer: &Issuer, github: &GitHub, kept: bool) -> String {
    let token = issuer.mint(json!({ "sub": "alice", "team": "blue" }));
    let me = std::env::args().next().unwrap_or_else(|| "runner-broker".into());
    let port_flag = if port == 8000 { String::new() } else { format!(" --port {port}") };
    let fate = if kept { "the database stays where you said" } else { "nothing is left behind" };
    format!(
        r#"
runner-broker is up. Ctrl-C ends it; {fate}.

  console  http://127.0.0.1:{port}/       sign in as alice of team blue, or as carol, an admin
  broker   http://127.0.0.1:{port}        API page: http://127.0.0.1:{port}/docs/
  issuer   {issuer_url}
  GitHub   {github_url}        its runners: curl {github_url}/_dev/runners?target={ORG}

Paste this into another terminal. Alice of team blue, for an hour:

  TOKEN='{token}'

A JIT runner:

  curl -sS http://127.0.0.1:{port}/api/v1/runners/jit -H "Authorization: Bearer $TOKEN" \
    -H 'Content-Type: application/json' -d '{{"runner_name_prefix": "ci", "labels": ["docker"]}}'

The team's runners:

  curl -sS http://127.0.0.1:{port}/api/v1/runners -H "Authorization: Bearer $TOKEN"

One that the policy refuses:

  curl -sS http://127.0.0.1:{port}/api/v1/runners/jit -H "Authorization: Bearer $TOKEN" \
    -H 'Content-Type: application/json' -d '{{"runner_name_prefix": "ci", "labels": ["gpu"]}}'

Tokens for other people (team ml may have gpu; groups admins and auditors see everything):

  TOKEN=$({me} dev token{port_flag} --sub bob --claim team=ml)
  TOKEN=$({me} dev token{port_flag} --sub carol --claim 'groups=["admins"]')
"#,
        issuer_url = issuer.url(),
        github_url = github.url(),
    )
}

impl Token {
    async fn print(self) -> CommandResult {
        let url = format!("http://127.0.0.1:{}{}", self.port + 1, issuer::TOKEN);
        let claims: Map<String, Value> = self.claims.into_iter().collect();
        let asked = reqwest::Client::new()
            .post(&url)
            .json(&json!({ "sub": self.sub, "claims": claims }))
            .send()
            .await;
        let answer = asked.map_err(|err| {
            Failure::Failed(format!(
                "no 'runner-broker dev' answers at {url} ({err}); start it, or give its --port"
            ))
        })?;
        let answer: Value = answer.json().await.map_err(|err| Failure::Failed(err.to_string()))?;
        match answer["access_token"].as_str() {
            Some(token) => {
                println!("{token}");
                Ok(())
            }
            None => Err(Failure::Failed(format!("the provider refused: {answer}"))),
        }
    }
}
