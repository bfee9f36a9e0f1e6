//! `request`: the client for scripts. It needs no configuration of a broker, only its options and variables.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use secrecy::SecretString;
use serde_json::{Map, Value};
use url::Url;

use super::{CommandResult, Failure};
use crate::client::{
    self, Environment, Error, Key, Method, Output, Roots, RunnerRequest, Session, Source, Token, variable,
};
use crate::model::{Arch, Label, NamePrefix, Os, RunnerName, Target};

/// Where a pod's tokens are.
const SECRETS: &str = "/var/run/secrets";

pub const HELP: &str = "Examples:
  runner-broker request jit --url https://broker.example.com --name-prefix ci --label gpu --exec ./run.sh
  runner-broker request registration --name vm-17 --token-file token.jwt --print command

The token, in this order: --token, --token-file, --token-command, RUNNER_BROKER_TOKEN,
RUNNER_BROKER_TOKEN_FILE, then the token of GitHub Actions ('permissions: id-token: write'), GitLab CI
('id_tokens: RUNNER_BROKER_TOKEN: aud: …') or Kubernetes (/var/run/secrets/broker/token).

Exit code: with --exec that of the program; otherwise 0; 1 if there is no runner; 2 for a wrong command line.";

const JIT_HELP: &str = "Examples:
  runner-broker request jit --url https://broker.example.com --name-prefix ci --label gpu --exec ./run.sh
  eval \"$(runner-broker request jit --name ci-1 --print command)\"

With --exec the runner lasts as long as this process. On SIGTERM, SIGINT or SIGHUP the runner is removed from GitHub
and stopped. A running job may finish, until --grace has passed or a second signal arrives.";

const REGISTRATION_HELP: &str = "Examples:
  runner-broker request registration --url https://broker.example.com --name vm-17 --exec ./run.sh
  runner-broker request registration --name vm-17 --token-command 'cat token.jwt' --print command

With --exec, config.sh in the folder of the program runs first, with the token in its environment.";

#[derive(Subcommand)]
pub enum Request {
    /// Request a just-in-time runner: name, labels and group are fixed before it starts, and it runs one job
    #[command(after_help = JIT_HELP)]
    Jit(Jit),
    /// Request a registration token, with which a runner registers itself
    #[command(after_help = REGISTRATION_HELP)]
    Registration(Registration),
}

#[derive(Args)]
pub struct Jit {
    #[command(flatten)]
    runner: Runner,
    #[command(flatten)]
    access: Access,
    #[command(flatten)]
    handing: Handing,
}

#[derive(Args)]
pub struct Registration {
    #[command(flatten)]
    runner: Runner,
    /// The runner is persistent: it runs more than one job
    #[arg(long)]
    no_ephemeral: bool,
    /// Disable automatic updates of the runner
    #[arg(long)]
    disable_update: bool,
    #[command(flatten)]
    access: Access,
    #[command(flatten)]
    handing: Handing,
}

/// The properties of the runner.
#[derive(Args)]
struct Runner {
    /// The runner's name
    #[arg(long, value_parser = parsed::<RunnerName>, required_unless_present = "name_prefix", conflicts_with = "name_prefix")]
    name: Option<String>,
    /// The beginning of the name; the broker adds six random characters
    #[arg(long, value_parser = parsed::<NamePrefix>)]
    name_prefix: Option<String>,
    /// A label; can be repeated
    #[arg(long = "label", value_name = "LABEL", value_parser = parsed::<Label>)]
    labels: Vec<String>,
    /// The team, for callers in several teams
    #[arg(long)]
    team: Option<String>,
    /// The runner group's name, or its id if it is a number
    #[arg(long)]
    runner_group: Option<String>,
    /// The organisation to register with; default: that of the broker
    #[arg(long, value_parser = organization, conflicts_with = "repository")]
    organization: Option<String>,
    /// The repository to register with, as owner/name
    #[arg(long, value_parser = repository)]
    repository: Option<String>,
    /// linux, macos or windows; default: that of this machine
    #[arg(long)]
    os: Option<Os>,
    /// x64, arm64 or arm; default: that of this machine
    #[arg(long)]
    arch: Option<Arch>,
    /// The work folder, relative to the folder of the runner
    #[arg(long)]
    work_folder: Option<String>,
}

/// The broker, and the token for it.
#[derive(Args)]
struct Access {
    /// The URL of the broker; default: RUNNER_BROKER_URL
    #[arg(long)]
    url: Option<String>,
    /// Certificates to trust in addition to those of the system (PEM); SSL_CERT_FILE replaces those
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// The token itself. Other users of the machine can see it: prefer a file, a command or the environment
    #[arg(long, value_parser = secret)]
    token: Option<SecretString>,
    /// A file with the token, read again when the token has expired
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A command for `sh -c` that prints the token, run again when the token has expired
    #[arg(long, value_name = "COMMAND")]
    token_command: Option<String>,
    /// The audience of the token; default: RUNNER_BROKER_AUDIENCE, otherwise the URL of the broker
    #[arg(long)]
    audience: Option<String>,
    /// The idempotency key; default: random, or derived from the CI job and --name
    #[arg(long, value_name = "KEY", value_parser = key)]
    idempotency_key: Option<String>,
    /// How long to retry, for example 90s, 5m or 1h
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    timeout: Duration,
}

/// What to do with the runner.
#[derive(Args)]
struct Handing {
    /// What to print [default: json]
    #[arg(long, value_enum)]
    print: Option<Print>,
    /// Run this program, and remove the runner if it was not used; all further arguments belong to the program
    #[arg(long, value_name = "PROGRAM", num_args = 1.., allow_hyphen_values = true, conflicts_with = "print")]
    exec: Option<Vec<OsString>>,
    /// With --exec: how long a job may run after a SIGTERM; default: without limit
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "exec")]
    grace: Option<Duration>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Print {
    Json,
    Command,
}

impl Request {
    pub async fn run(self) -> CommandResult {
        match self.session().map_err(failure)?.run().await {
            Ok(0) => Ok(()),
            Ok(code) => Err(Failure::Exit(code)),
            Err(err) => Err(failure(err)),
        }
    }

    fn session(self) -> Result<Session, Error> {
        let (method, runner, access, handing, more) = match self {
            Request::Jit(jit) => (Method::Jit, jit.runner, jit.access, jit.handing, None),
            Request::Registration(it) => {
                let more = (!it.no_ephemeral, it.disable_update);
                (Method::Registration, it.runner, it.access, it.handing, Some(more))
            }
        };
        if handing.exec.is_some() && runner.os == Some(Os::Windows) {
            return Err(Error::Usage("--exec runs the runner on this machine, which is not Windows".into()));
        }
        let mut body = runner.body();
        if let Some((ephemeral, disable_update)) = more {
            body.insert("ephemeral".into(), ephemeral.into());
            body.insert("disable_update".into(), disable_update.into());
        }
        let request = RunnerRequest { method, body };
        let (url, text) = access.url()?;
        let roots = access.ca_file.as_deref().map_or_else(|| Ok(Roots::default()), Roots::read)?;
        let audience = access.audience.clone().or_else(|| variable("RUNNER_BROKER_AUDIENCE")).unwrap_or(text);
        let token = Token::new(access.source(&audience)?, audience, roots.clone());
        let key = match access.idempotency_key {
            Some(key) => Key::given(key),
            None => Key::for_request(&request, url.as_str(), variable),
        };
        let output = match (handing.exec, handing.print) {
            (Some(command), _) => Output::Exec(command),
            (None, Some(Print::Command)) => Output::Command,
            (None, _) => Output::Json,
        };
        Ok(Session { url, roots, token, request, key, output, limit: access.timeout, grace: handing.grace })
    }
}

impl Runner {
    /// The body of the request; the broker chooses what is not given.
    fn body(self) -> Map<String, Value> {
        let group = self.runner_group.as_deref().map(|group| match group.parse::<i64>() {
            Ok(id) => ("runner_group_id", Value::from(id)),
            Err(_) => ("runner_group", Value::from(group)),
        });
        let texts = [
            ("runner_name", self.name),
            ("runner_name_prefix", self.name_prefix),
            ("team", self.team),
            ("organization", self.organization),
            ("repository", self.repository),
            ("os", self.os.or_else(here::os).map(|os| os.to_string())),
            ("arch", self.arch.or_else(here::arch).map(|arch| arch.to_string())),
            ("work_folder", self.work_folder),
        ];
        let texts = texts.into_iter().filter_map(|(name, text)| Some((name, Value::from(text?))));
        let labels = [("labels", Value::from(self.labels))];
        texts.chain(labels).chain(group).map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

impl Access {
    /// The URL, and how it was written, for the audience.
    fn url(&self) -> Result<(Url, String), Error> {
        let text = self.url.clone().or_else(|| variable("RUNNER_BROKER_URL"));
        let text = text.ok_or_else(|| Error::Usage("no broker: give --url or RUNNER_BROKER_URL".into()))?;
        let text = text.trim().trim_end_matches('/').to_owned();
        let url = Url::parse(&text).map_err(|err| Error::Usage(format!("the broker's URL: {err}")))?;
        Ok((url, text))
    }

    fn source(&self, audience: &str) -> Result<Source, Error> {
        if let Some(token) = &self.token {
            return Ok(Source::Given { name: "--token", token: token.clone() });
        }
        if let Some(path) = &self.token_file {
            return Ok(Source::File(path.clone()));
        }
        if let Some(command) = &self.token_command {
            return Ok(Source::Command(command.clone()));
        }
        client::find_token(&Environment { variable: &variable, secrets: Path::new(SECRETS) }, audience)
    }
}

/// The system and architecture of this machine.
mod here {
    use std::env::consts;

    use crate::model::{Arch, Os};

    pub fn os() -> Option<Os> {
        consts::OS.parse().ok()
    }

    pub fn arch() -> Option<Arch> {
        match consts::ARCH {
            "x86_64" => Some(Arch::X64),
            "aarch64" => Some(Arch::Arm64),
            "arm" => Some(Arch::Arm),
            _ => None,
        }
    }
}

fn failure(err: Error) -> Failure {
    match err {
        Error::Usage(why) => Failure::Usage(why),
        err => Failure::Failed(err.to_string()),
    }
}

/// The text as written, if it is valid.
fn parsed<T: std::str::FromStr<Err = crate::model::Invalid>>(text: &str) -> Result<String, String> {
    text.parse::<T>().map(|_| text.to_owned()).map_err(|err| err.to_string())
}

fn organization(text: &str) -> Result<String, String> {
    match text.parse::<Target>() {
        Ok(Target::Organization(_)) => Ok(text.to_owned()),
        Ok(_) => Err("the name of an organisation; a repository goes into --repository".into()),
        Err(err) => Err(err.to_string()),
    }
}

fn repository(text: &str) -> Result<String, String> {
    match text.parse::<Target>() {
        Ok(Target::Repository { .. }) => Ok(text.to_owned()),
        _ => Err("owner/name of a repository".into()),
    }
}

fn secret(text: &str) -> Result<SecretString, String> {
    Ok(text.trim().into())
}

fn key(text: &str) -> Result<String, String> {
    let fits = (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if fits { Ok(text.to_owned()) } else { Err("1 to 255 printable ASCII characters without blanks".into()) }
}

/// `90s`, `5m`, `1h`; a bare number is seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" | "s" => Some(1),
        "m" | "min" => Some(60),
        "h" => Some(3600),
        _ => None,
    };
    let seconds = factor.zip(digits.parse::<u32>().ok()).filter(|(_, number)| *number > 0);
    match seconds {
        Some((factor, number)) => Ok(Duration::from_secs(factor * u64::from(number))),
        None => Err("a duration such as 90s, 5m or 1h".into()),
    }
}
