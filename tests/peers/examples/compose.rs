//! `compose/`: what Compose would start, one after another: Postgres as the image sets it up, the migration, the
//! broker.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use runner_broker::dev::postgres::{Options, Postgres};
use serde_json::{Value, json};
use tokio::process::Command;

use super::read;
use super::schemas::{documents, text};
use super::stage::{Stage, ended, spawn};
use crate::process::until;
use crate::support::ORG;
use crate::tools::{free_port, or_skip, run};

const LIMIT: Duration = Duration::from_secs(60);

/// `.env.example` with the places filled in that are empty in it and needed.
fn dot_env(filled: &[(&str, &str)]) -> HashMap<String, String> {
    let text = read("compose/.env.example");
    let pairs = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    let mut all: HashMap<String, String> = pairs.map(|(name, value)| (name.into(), value.into())).collect();
    for (name, value) in filled {
        assert!(
            all.insert((*name).to_owned(), (*value).to_owned()).is_some(),
            "{name} is not in .env.example"
        );
    }
    all
}

/// `${NAME}`, `${NAME:?why}` and `${NAME:-otherwise}`, as Compose has them.
fn interpolated(text: &str, env: &HashMap<String, String>) -> String {
    let Some((before, rest)) = text.split_once("${") else { return text.to_owned() };
    let (inside, after) = rest.split_once('}').expect("an end");
    let (name, otherwise) = match inside.split_once(':') {
        Some((name, rule)) => (name, rule.strip_prefix('-')),
        None => (inside, None),
    };
    let value = env.get(name).filter(|value| !value.is_empty());
    let value = match (value, otherwise) {
        (Some(value), _) => value.clone(),
        (None, Some(otherwise)) => {
            otherwise.strip_prefix('$').map_or(otherwise.to_owned(), |name| env[name].clone())
        }
        (None, None) => panic!("{name} is not set"),
    };
    format!("{before}{value}{}", interpolated(after, env))
}

/// What a service of the file is started with, here.
struct Compose {
    services: Value,
    env: HashMap<String, String>,
    folder: PathBuf,
    postgres: u16,
}

impl Compose {
    fn environment(&self, service: &str) -> Vec<(String, String)> {
        let variables = self.services[service]["environment"].as_object().expect("an environment");
        let volumes = self.services[service]["volumes"].as_array().into_iter().flatten();
        let mounts: Vec<(&str, &str)> =
            volumes.filter_map(|volume| text(volume).strip_suffix(":ro")?.split_once(':')).collect();
        let here = |value: &Value| {
            let value = interpolated(text(value), &self.env);
            // The service's name is its address, a mounted folder what is mounted.
            let value = value.replace("@postgres/", &format!("@127.0.0.1:{}/", self.postgres));
            mounts.iter().fold(value, |value, (from, to)| match value.strip_prefix(to) {
                Some(rest) => format!("{}{rest}", self.folder.join(from.trim_start_matches("./")).display()),
                None => value,
            })
        };
        variables.iter().map(|(name, value)| (name.clone(), here(value))).collect()
    }

    /// The service's command with the built binary, which is the image's entry point.
    fn command(&self, service: &str) -> Command {
        let arguments: Vec<&str> =
            self.services[service]["command"].as_array().expect("a command").iter().map(text).collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_runner-broker"));
        command.args(arguments).env_clear().envs(self.environment(service)).current_dir(&self.folder);
        command.kill_on_drop(true);
        command
    }
}

/// psql of this machine's newest Postgres; 15 or later knows `\getenv`.
fn psql() -> Option<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|version| {
            Some((version.file_name().to_str()?.parse().ok()?, version.path().join("bin/psql")))
        })
        .filter(|(version, program)| *version >= 15 && program.is_file())
        .collect();
    found.sort();
    or_skip(found.pop().map(|(_, program)| program), "psql 15 or later")
}

/// Postgres with passwords, and what the image does with its variables and with roles.sql.
async fn postgres(compose: &Compose) -> Option<Postgres> {
    let psql = psql()?;
    let rules = compose.folder.join("pg_hba.conf");
    std::fs::write(&rules, "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n").expect("a file");
    let mut options = Options::temporary();
    options.settings = [
        ("listen_addresses", "127.0.0.1"),
        ("port", &compose.postgres.to_string()),
        ("hba_file", rules.to_str().expect("UTF-8")),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let started = tokio::task::spawn_blocking(move || Postgres::start(&options));
    let postgres = started.await.expect("a thread").expect("a Postgres");
    let environment: HashMap<String, String> = compose.environment("postgres").into_iter().collect();
    let (owner, database) = (&environment["POSTGRES_USER"], &environment["POSTGRES_DB"]);
    let ask = |role: &str, database: &str| {
        let mut command = Command::new(&psql);
        command.args(["--no-psqlrc", "--set=ON_ERROR_STOP=1", "--host"]).arg(postgres.socket_folder());
        command.args(["--port", &compose.postgres.to_string(), "--username", role, "--dbname", database]);
        command.envs(&environment);
        command
    };
    let password = &environment["POSTGRES_PASSWORD"];
    let role = format!("CREATE ROLE {owner} SUPERUSER LOGIN PASSWORD '{password}'");
    let made = format!("CREATE DATABASE {database} OWNER {owner}");
    run(ask("postgres", "postgres").args(["--command", &role, "--command", &made]), LIMIT).await;
    run(ask(owner, database).arg("--file").arg(super::example("compose/roles.sql")), LIMIT).await;
    Some(postgres)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_compose_starts_is_a_broker_that_gives_out_runners() {
    let Some(mut documents) = documents("compose/compose.yaml").await else { return };
    let Some(stage) = Stage::new(&["curl", "jq"]).await else { return };
    let folder = stage.site.file("compose");
    std::fs::create_dir_all(folder.join("config")).expect("a folder");
    for (from, to) in [
        ("app.pem", "app.pem"),
        ("examples.toml", "policy.toml"),
        ("ca.pem", "tls.crt"),
        ("ca.key", "tls.key"),
    ] {
        let copy = folder.join("config").join(to);
        std::fs::copy(stage.site.file(from), &copy).expect("a copy");
        std::fs::set_permissions(copy, std::fs::Permissions::from_mode(0o600)).expect("a file of ours");
    }
    let mut generate = stage.site.command(&["audit-key", "generate", "--output"]);
    run(generate.arg(folder.join("config/audit.key")), LIMIT).await;
    let github = &stage.site.github;
    let filled = [
        ("OWNER_PASSWORD", "0f0e0d0c"),
        ("BROKER_PASSWORD", "a1b2c3d4"),
        ("GITHUB_APP_ID", &github.app_id().to_string()),
        ("GITHUB_ORG", ORG),
        ("GITHUB_API_URL", github.url()),
        ("OIDC_ISSUER", stage.site.issuer.url()),
    ];
    let services = documents[0]["services"].take();
    let compose = Compose { services, env: dot_env(&filled), folder, postgres: free_port() };
    let Some(_postgres) = postgres(&compose).await else { return };
    run(&mut compose.command("migrate"), LIMIT).await;
    // Again with the next version, say.
    run(&mut compose.command("migrate"), LIMIT).await;

    let inside =
        text(&compose.services["broker"]["ports"][0]).split_once(':').expect("a mapping").1.to_owned();
    assert_eq!(inside, "8000", "where it listens without PORT");
    let port = free_port();
    let mut serve = compose.command("broker");
    // A port of its own, since 8000 may be somebody else's here.
    let serving = spawn(serve.env("HOST", "127.0.0.1").env("PORT", port.to_string()));
    let ready = format!("https://127.0.0.1:{port}/health/ready");
    until("the broker is ready", async || {
        stage.site.client.get(&ready).send().await.is_ok_and(|answer| answer.status() == 200)
    })
    .await;

    // A machine with the bootstrap script finds it there.
    std::fs::write(stage.home.join(".curlrc"), stage.curlrc(port)).expect("a file");
    let script = stage.copy("bootstrap.sh");
    stage.unpack_runner("runner");
    let token = stage.token(json!({ "sub": "service-account", "azp": "github-runner" }));
    let environment = [("RUNNER_BROKER_TOKEN", token.as_str()), ("RUNNER_HOME", "runner")];
    let machine = spawn(&mut stage.command(script, &environment));
    until("its runner is online", async || github.runners(ORG).iter().any(|runner| runner.online)).await;
    let name = github.runners(ORG).remove(0).name;
    let url = format!("https://127.0.0.1:{port}/api/v1/runners/{name}/refresh");
    let answer = stage.site.client.post(url).bearer_auth(&token).send().await.expect("an answer");
    let runner: Value = answer.json().await.expect("JSON");
    assert_eq!(runner["status"], "active", "{runner}");
    github.start_job(ORG, &name).expect("it takes a job");
    github.finish_job(ORG, &name).expect("it was at it");
    let (status, said) = ended(machine).await;
    assert!(status.success(), "{said}");

    // As `docker compose stop` does.
    super::stage::terminate(&serving);
    let (status, said) = ended(serving).await;
    assert!(status.success(), "{said}");
    assert!(!said.contains("WARN"), "{said}");
}
