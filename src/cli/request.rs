//! `request`: the client for scripts. Needs no configuration of the broker's, only what stands here.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use secrecy::SecretString;
use serde_json::{Map, Value};
use url::Url;

use super::{Done, Failure};
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
RUNNER_BROKER_TOKEN_FILE, then found by itself in GitHub Actions ('permissions: id-token: write'), GitLab CI
('id_tokens: RUNNER_BROKER_TOKEN: aud: …') and Kubernetes (/var/run/secrets/broker/token).

Exit code: with --exec the program's own; else 0; 1 if there is no runner; 2 if called wrongly.";

const JIT_HELP: &str = "Examples:
  runner-broker request jit --url https://broker.example.com --name-prefix ci --label gpu --exec ./run.sh
  eval \"$(runner-broker request jit --name ci-1 --print command)\"

With --exec the runner lives as long as this process. At SIGTERM, SIGINT or SIGHUP it is removed from GitHub and
then told to stop; a job that it has may finish, until --grace is over or a second signal comes.";

const REGISTRATION_HELP: &str = "Examples:
  runner-broker request registration --url https://broker.example.com --name vm-17 --exec ./run.sh
  runner-broker request registration --name vm-17 --token-command 'cat token.jwt' --print command

With --exec config.sh beside the program is run first, with the token in its environment.";

#[derive(Subcommand)]
pub enum Request {
    /// A runner whose name, labels and group GitHub fixes before it starts; it takes one job
    #[command(after_help = JIT_HELP)]
    Jit(Jit),
    /// A token with which a runner registers itself
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
    /// The runner stays for further jobs
    #[arg(long)]
    no_ephemeral: bool,
    /// The runner does not update itself
    #[arg(long)]
    disable_update: bool,
    #[command(flatten)]
    access: Access,
    #[command(flatten)]
    handing: Handing,
}

/// What runner.
#[derive(Args)]
struct Runner {
    /// The runner's name
    #[arg(long, value_parser = parsed::<RunnerName>, required_unless_present = "name_prefix", conflicts_with = "name_prefix")]
    name: Option<String>,
    /// What its name begins with; the broker adds six random characters
    #[arg(long, value_parser = parsed::<NamePrefix>)]
    name_prefix: Option<String>,
    /// A label; may be given often
    #[arg(long = "label", value_name = "LABEL", value_parser = parsed::<Label>)]
    labels: Vec<String>,
    /// For callers of several teams
    #[arg(long)]
    team: Option<String>,
    /// The runner group's name, or its id if it is a number
    #[arg(long)]
    runner_group: Option<String>,
    /// Where it registers; default: the broker's organisation
    #[arg(long, value_parser = organization, conflicts_with = "repository")]
    organization: Option<String>,
    /// Where it registers, as owner/name
    #[arg(long, value_parser = repository)]
    repository: Option<String>,
    /// linux, macos or windows; default: this machine's
    #[arg(long)]
    os: Option<Os>,
    /// x64, arm64 or arm; default: this machine's
    #[arg(long)]
    arch: Option<Arch>,
    /// Relative to the runner's folder
    #[arg(long)]
    work_folder: Option<String>,
}

/// Whom to ask, and as whom.
#[derive(Args)]
struct Access {
    /// The broker; default: RUNNER_BROKER_URL
    #[arg(long)]
    url: Option<String>,
    /// Certificates to trust beside the system's (PEM); SSL_CERT_FILE replaces the system's
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// The token itself. Other users of the machine can see it: better use a file, a command or the environment
    #[arg(long, value_parser = secret)]
    token: Option<SecretString>,
    /// A file with the token, read anew when the last one has ended
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A command for `sh -c` that prints the token, run anew when the last one has ended
    #[arg(long, value_name = "COMMAND")]
    token_command: Option<String>,
    /// For whom a token is fetched or looked for; default: RUNNER_BROKER_AUDIENCE, else the broker's URL
    #[arg(long)]
    audience: Option<String>,
    /// What the broker knows a repeated request by; default: random, or derived from the CI job for a given --name
    #[arg(long, value_name = "KEY", value_parser = key)]
    idempotency_key: Option<String>,
    /// How long to try, as in 90s, 5m or 1h
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    timeout: Duration,
}

/// What becomes of it.
#[derive(Args)]
struct Handing {
    /// What to print [default: json]
    #[arg(long, value_enum)]
    print: Option<Print>,
    /// Runs this instead, and removes a runner that was not used; everything after it is the program's
    #[arg(long, value_name = "PROGRAM", num_args = 1.., allow_hyphen_values = true, conflicts_with = "print")]
    exec: Option<Vec<OsString>>,
    /// With --exec: how long a job may go on after a SIGTERM; default: as long as it takes
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "exec")]
    grace: Option<Duration>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Print {
    Json,
    Command,
}

impl Request {
    pub async fn run(self) -> Done {
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
            return Err(Error::Usage("--exec runs the runner here, and this is not Windows".into()));
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
    /// As the contract has it; what was not given is the broker's to choose.
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

/// This machine, in the model's words.
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

/// The text itself, if it is one of the model's words; sent as it was written.
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
        None => Err("a duration like 90s, 5m or 1h".into()),
    }
}
