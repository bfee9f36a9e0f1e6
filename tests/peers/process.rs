//! The built binary as a process of its own, against this test's database, issuer and GitHub.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use runner_broker::clock::Clock;
use runner_broker::dev::github::{self, GitHub};
use runner_broker::dev::issuer::{self, Issuer};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::database::{TestDatabase, connect};
use crate::support::{AUDIENCE, Answer, ORG, REPO, answer, migrated};
use crate::tools::free_port;

/// What `GITHUB_TIMEOUT_SECONDS` says.
pub const GITHUB_TIMEOUT: Duration = Duration::from_secs(1);
/// The password in `DATABASE_URL`; the private Postgres does not ask for it.
pub const DATABASE_PASSWORD: &str = "hunter2-5f0c6ad19e8b47c3a2d4";
/// Far more than anything here takes, on however slow a machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often something is looked at that does not tell by itself.
const GLANCE: Duration = Duration::from_millis(5);

/// Everything around the broker; the replicas come and go.
pub struct Site {
    pub issuer: issuer::Running,
    pub github: GitHub,
    pub client: reqwest::Client,
    pub folder: TempDir,
    database: TestDatabase,
    replicas: AtomicU32,
    /// The control group that replicas are started in; it limits their memory.
    pub cgroup: Option<PathBuf>,
}

/// One replica: killed when dropped.
pub struct Replica {
    pub url: String,
    pub port: u16,
    /// Standard output and standard error.
    pub log: PathBuf,
    child: Child,
}

impl Site {
    /// With the team blue, which may do both methods, and whose limits are counted but never reached.
    pub async fn new() -> Site {
        let clock = Clock::default();
        let settings = issuer::Settings { port: 0, audience: AUDIENCE.into(), clock: clock.clone() };
        let site = Site {
            issuer: Issuer::start(settings).expect("an issuer"),
            github: GitHub::start(github::Settings { clock, ..github::Settings::default() })
                .expect("a GitHub"),
            client: reqwest::Client::builder()
                .pool_max_idle_per_host(0)
                .danger_accept_invalid_certs(true)
                .build()
                .expect("a client"),
            folder: tempfile::tempdir().expect("a folder"),
            database: migrated().await,
            replicas: AtomicU32::new(0),
            cgroup: None,
        };
        site.github.add_org(ORG);
        site.github.add_repo(REPO);
        let policy = format!(
            r#"
            [[team]]
            name = "blue"
            allowed_labels = ["linux.*", "docker"]
            methods = ["jit", "registration_token"]
            targets = ["octo-org", "octo-org/*"]
            max_runners = 100000
            requests_per_minute = 100000
            [[team.member]]
            issuer = "{url}"
            claims = {{ team = "blue" }}
            [[admin]]
            issuer = "{url}"
            claims = {{ team = "admins" }}
            "#,
            url = site.issuer.url()
        );
        std::fs::write(site.file("policy.toml"), policy).expect("a file");
        std::fs::write(site.file("app.pem"), site.github.private_key_pem()).expect("a file");
        site
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// One command of the binary, with the configuration of this site and nothing else of ours.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let separator = if self.database.url().contains('?') { '&' } else { '?' };
        let mut command = Command::new(env!("CARGO_BIN_EXE_runner-broker"));
        command
            .args(arguments)
            .env_clear()
            .env("DATABASE_URL", format!("{}{separator}password={DATABASE_PASSWORD}", self.database.url()))
            .env("HOST", "127.0.0.1")
            .env("HTTPS_ENABLED", "false")
            .env("GITHUB_APP_ID", self.github.app_id().to_string())
            .env("GITHUB_APP_PRIVATE_KEY_PATH", self.file("app.pem"))
            .env("GITHUB_ORG", ORG)
            .env("GITHUB_API_URL", self.github.url())
            .env("GITHUB_TIMEOUT_SECONDS", GITHUB_TIMEOUT.as_secs().to_string())
            .env("OIDC_ISSUER", self.issuer.url())
            .env("OIDC_AUDIENCE", AUDIENCE)
            .env("POLICY_FILE", self.file("policy.toml"))
            .env("SYNC_INTERVAL_SECONDS", "1")
            .env("LEASE_SECONDS", "1")
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// A replica that is ready to work.
    pub async fn serve(&self) -> Replica {
        self.serve_with(&[]).await
    }

    pub async fn serve_with(&self, variables: &[(&str, &str)]) -> Replica {
        let number = self.replicas.fetch_add(1, Ordering::Relaxed);
        let log = self.file(&format!("serve-{number}.log"));
        let output = File::create(&log).expect("a file");
        let given = variables.iter().find(|(name, _)| *name == "PORT").map(|(_, port)| port.parse());
        let port = given.map_or_else(free_port, |port| port.expect("a port"));
        let mut command = self.command(&["serve"]);
        if let Some(cgroup) = &self.cgroup {
            command = within(cgroup, &command);
        }
        let child = command
            .env("PORT", port.to_string())
            .envs(variables.iter().copied())
            .stdout(output.try_clone().expect("a file"))
            .stderr(output)
            .spawn()
            .expect("the binary");
        let scheme = if variables.contains(&("HTTPS_ENABLED", "true")) { "https" } else { "http" };
        let mut replica = Replica { url: format!("{scheme}://127.0.0.1:{port}"), port, log, child };
        let ready = format!("{}/health/ready", replica.url);
        let begun = Instant::now();
        loop {
            let asked = timeout(PATIENCE, self.client.get(&ready).send()).await;
            if matches!(&asked, Ok(Ok(answer)) if answer.status() == 200) {
                return replica;
            }
            let ended = replica.child.try_wait().expect("a child");
            assert!(ended.is_none() && begun.elapsed() < PATIENCE, "{ended:?}: {}", replica.read_log());
            sleep(GLANCE).await;
        }
    }

    /// A token of `<team>-user`.
    pub fn token(&self, team: &str) -> String {
        self.issuer.mint(json!({ "sub": format!("{team}-user"), "team": team }))
    }

    /// A call to be sent, by team blue.
    pub fn post(&self, replica: &Replica, path: &str, body: &Value) -> reqwest::RequestBuilder {
        self.client.post(format!("{}{path}", replica.url)).bearer_auth(self.token("blue")).json(body)
    }

    /// A JIT provision to be sent.
    pub fn jit(&self, replica: &Replica, name: &str) -> reqwest::RequestBuilder {
        self.post(replica, "/api/v1/runners/jit", &json!({ "runner_name": name }))
    }

    pub async fn get(&self, replica: &Replica, path: &str, team: &str) -> Answer {
        answer(self.client.get(format!("{}{path}", replica.url)).bearer_auth(self.token(team))).await
    }

    pub fn database_url(&self) -> &str {
        self.database.url()
    }

    /// One query past the broker: its rows, as text.
    pub async fn rows(&self, query: &str) -> Vec<Vec<String>> {
        let (client, _connection) = connect(self.database.url()).await;
        let messages = client.simple_query(query).await.unwrap_or_else(|err| panic!("{query}: {err:?}"));
        let row = |message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => {
                let text = |i| row.get(i).unwrap_or_default().to_owned();
                Some((0..row.len()).map(text).collect())
            }
            _ => None,
        };
        messages.into_iter().filter_map(row).collect()
    }

    /// The first column of one row, or nothing.
    pub async fn one(&self, query: &str) -> String {
        self.rows(query).await.into_iter().flatten().next().unwrap_or_default()
    }

    /// The status of the newest row of this name.
    pub async fn status(&self, name: &str) -> String {
        self.one(&format!("SELECT status FROM runners WHERE name = '{name}' ORDER BY id DESC LIMIT 1")).await
    }

    /// The types of the events about runners of this name, oldest first.
    pub async fn events(&self, name: &str) -> Vec<String> {
        let query = format!("SELECT event_type FROM audit_log WHERE runner_name = '{name}' ORDER BY id");
        self.rows(&query).await.into_iter().flatten().collect()
    }

    /// How often GitHub was asked by this method for a path that contains `part`.
    pub fn asked(&self, method: &str, part: &str) -> usize {
        self.github.calls().iter().filter(|call| call.method == method && call.path.contains(part)).count()
    }

    /// Waits until no provision, repair or removal is under way any more.
    pub async fn settled(&self) {
        let query = "SELECT count(*) FROM runners WHERE status IN ('requested', 'deleting')";
        until("everything is settled", async || self.one(query).await == "0").await;
    }
}

/// The same command in a control group from its first moment on.
fn within(cgroup: &Path, command: &Command) -> Command {
    let command = command.as_std();
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", r#"echo $$ > "$0/cgroup.procs" && exec "$@""#]).arg(cgroup);
    shell.arg(command.get_program()).args(command.get_args()).env_clear();
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.current_dir(command.get_current_dir().expect("a folder")).stdin(Stdio::null()).kill_on_drop(true);
    shell
}

/// Whether all threads of a process are stopped, as Linux tells.
fn is_stopped(pid: Pid) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero()));
    threads.into_iter().flatten().flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('T'))
    })
}

impl Replica {
    /// SIGSTOP is waited for: the threads of a process stop one after another.
    pub fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|id| Pid::from_raw(id as i32)).expect("a running process");
        kill_process(pid, signal).expect("our own child");
        while signal == Signal::STOP && !is_stopped(pid) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("a running process")
    }

    /// SIGKILL: nothing is finished.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("our own child");
    }

    /// How it ended; it must by then.
    pub async fn ended(&mut self, within: Duration) -> ExitStatus {
        match timeout(within, self.child.wait()).await {
            Ok(status) => status.expect("our own child"),
            Err(_) => panic!("still running after {within:?}: {}", self.read_log()),
        }
    }

    pub fn read_log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// One value of `/metrics`; nothing if there is none of this name and these labels.
    pub async fn metric(&self, client: &reqwest::Client, series: &str) -> Option<f64> {
        let text = client.get(format!("{}/metrics", self.url)).send().await.ok()?.text().await.ok()?;
        text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }
}

/// Waits until `is` says so; panics if it never does.
pub async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !is().await {
        assert!(begun.elapsed() < PATIENCE, "waited in vain until {what}");
        sleep(GLANCE).await;
    }
}
