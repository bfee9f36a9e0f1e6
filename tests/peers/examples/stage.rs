//! A broker at `https://broker.example.com`, the policy of `examples/policy.toml`, and a fresh folder in which
//! nothing can be run but what an example says it needs.

use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::outside::{Outside, Service};
use super::{example, read};
use crate::process::{Replica, Site, until};
use crate::support::ORG;
use crate::tools::{here, machine_program};

/// What the examples call the broker, and their tokens' audience.
pub const BROKER: &str = "https://broker.example.com";
/// Every name that an example asks for something; one certificate serves all of them.
const NAMES: [&str; 5] = [
    "broker.example.com",
    "login.example.com",
    "downloads.example.com",
    "pipelines.actions.example.com",
    "localhost",
];
/// What a POSIX system has beside its shell, as far as the examples use it.
const POSIX: &[&str] =
    &["cat", "cp", "date", "env", "mktemp", "mv", "od", "rm", "sed", "sleep", "tail", "test", "tr"];
/// For a program to end that has nothing left to do.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Stage {
    pub site: Site,
    pub broker: Replica,
    /// The example's own folder: home and working directory, empty but for what plays the network.
    pub home: PathBuf,
    /// The certificate that everybody here believes.
    pub ca: PathBuf,
    tools: PathBuf,
    arguments: Arguments,
    outside: Outside,
}

impl Stage {
    /// With these programs and a POSIX system; `sh` is the machine's. `None`: one is missing, the test is skipped.
    pub async fn new(tools: &[&str]) -> Option<Stage> {
        Stage::with(tools, |_| Arc::new(|_| None)).await
    }

    /// As `new`, where `service` answers what the examples ask of others than the broker.
    pub async fn with(tools: &[&str], service: impl FnOnce(&Site) -> Service) -> Option<Stage> {
        let needed: Vec<PathBuf> = tools
            .iter()
            .chain(POSIX)
            .chain(&["sh"])
            .map(|tool| machine_program(tool))
            .collect::<Option<_>>()?;
        // The runner that is played needs it; a real one brings its own .NET.
        machine_program("/usr/bin/python3")?;
        let site = Site::new().await;
        let (ca, key) = (site.file("ca.pem"), site.file("ca.key"));
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(NAMES.map(str::to_owned)).expect("a certificate");
        std::fs::write(&ca, cert.pem()).expect("a file");
        std::fs::write(&key, signing_key.serialize_pem()).expect("a file");
        std::fs::write(site.file("examples.toml"), policy(site.issuer.url())).expect("a file");
        let text = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
        let broker = site
            .serve_with(&[
                ("HTTPS_ENABLED", "true"),
                ("HTTPS_CERT_FILE", &text(&ca)),
                ("HTTPS_KEY_FILE", &text(&key)),
                ("OIDC_AUDIENCE", BROKER),
                ("POLICY_FILE", &text(&site.file("examples.toml"))),
            ])
            .await;
        let outside = Outside::start(&ca, &key, service(&site));
        let (home, tools) = (site.file("home"), site.file("tools"));
        for folder in [&home, &tools] {
            std::fs::create_dir(folder).expect("a folder");
        }
        for tool in needed {
            symlink(&tool, tools.join(tool.file_name().expect("a name"))).expect("a link");
        }
        // Others than this test's user enter, too.
        std::fs::set_permissions(site.folder.path(), PermissionsExt::from_mode(0o755)).expect("our own");
        let arguments = Arguments::watch();
        let stage = Stage { site, broker, home, ca, tools, arguments, outside };
        std::fs::write(stage.home.join(".curlrc"), stage.curlrc(stage.broker.port)).expect("a file");
        Some(stage)
    }

    /// The network, as curl sees it: where the names lead, and whom to believe. The broker listens here.
    pub fn curlrc(&self, broker: u16) -> String {
        let (http, https) = (self.outside.http, self.outside.https);
        let mut lines = format!("cacert = \"{}\"\n", self.ca.display());
        for name in NAMES {
            let port = if name == "broker.example.com" { broker } else { https };
            lines.push_str(&format!("connect-to = \"{name}:443:127.0.0.1:{port}\"\n"));
        }
        lines.push_str(&format!("connect-to = \"metadata.google.internal:80:127.0.0.1:{http}\"\n"));
        lines
    }

    /// GitHub's runner, unpacked in a folder of the home.
    pub fn unpack_runner(&self, folder: &str) -> PathBuf {
        let to = self.home.join(folder);
        std::fs::create_dir_all(to.join("bin")).expect("a folder");
        for file in ["run.sh", "bin/Runner.Listener", "bin/installdependencies.sh"] {
            std::fs::copy(here("runner").join(file), to.join(file)).expect("a copy");
        }
        to
    }

    /// A copy of an example's file in the home; its name there.
    pub fn copy(&self, name: &str) -> PathBuf {
        let to = self.home.join(Path::new(name).file_name().expect("a name"));
        std::fs::copy(example(name), &to).expect("a copy");
        to
    }

    /// A program with nothing in its environment but this, HOME, and PATH with the needed programs.
    pub fn command(&self, program: impl AsRef<Path>, environment: &[(&str, &str)]) -> Command {
        let mut command = Command::new(program.as_ref());
        command
            .env_clear()
            .env("PATH", &self.tools)
            .env("HOME", &self.home)
            .envs(environment.iter().copied())
            .current_dir(&self.home)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Makes one more program available.
    pub fn add_tool(&self, name: &str, program: &Path) {
        symlink(program, self.tools.join(name)).expect("a link");
    }

    /// A token for the broker.
    pub fn token(&self, claims: Value) -> String {
        token(&self.site, claims)
    }

    /// The runner of this prefix, once it waits for a job on GitHub and the broker knows that.
    pub async fn online(&self, prefix: &str) -> String {
        let waiting = || {
            let runners = self.site.github.runners(ORG).into_iter();
            runners
                .filter(|one| one.online && !one.busy && one.name.starts_with(prefix))
                .map(|one| one.name)
                .next()
        };
        until("a runner is online", async || waiting().is_some()).await;
        let name = waiting().expect("it stays online");
        until("the broker knows it", async || self.site.status(&name).await == "active").await;
        name
    }

    /// Gives the runner of this prefix a job and ends it; the broker follows.
    pub async fn gets_a_job(&self, prefix: &str) {
        let name = self.online(prefix).await;
        self.site.github.start_job(ORG, &name).expect("it takes a job");
        self.site.github.finish_job(ORG, &name).expect("it was at it");
        until("the broker knows its end", async || self.site.status(&name).await == "deleted").await;
    }

    /// What the runner in this folder was started with.
    pub fn started(folder: &Path) -> Value {
        let path = folder.join("_diag/started.json");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
        serde_json::from_str(&text).expect("JSON")
    }

    /// Panics if the runner in this folder runs as root, or its jobs could become so.
    pub fn has_no_rights(folder: &Path) {
        let started = Stage::started(folder);
        assert!(started["uid"].as_u64().is_some_and(|uid| uid > 0), "{started}");
        let capabilities = started["capabilities"].as_object().expect("capabilities");
        assert!(capabilities.len() == 5 && capabilities.values().all(|value| value == 0), "{capabilities:?}");
    }

    /// Panics if a secret was on a command line, is in a file that others can read, or reached the runner's job.
    pub fn kept_its_secrets(&self, runner: Option<&Path>) {
        let secrets: Vec<String> =
            self.site.issuer.issued().into_iter().chain(self.site.github.issued()).collect();
        let is_told =
            |text: &str| secrets.iter().any(|secret| secret.len() > 20 && text.contains(secret.as_str()));
        for arguments in self.arguments.seen() {
            assert!(!is_told(&arguments), "a secret is an argument: {arguments:.200}");
        }
        if let Some(folder) = runner {
            let environment = Stage::started(folder)["environment"].to_string();
            assert!(!is_told(&environment), "a secret is in the job's environment: {environment}");
        }
        for file in files(&self.home) {
            let told = is_told(&String::from_utf8_lossy(&std::fs::read(&file).unwrap_or_default()));
            let mode = std::fs::metadata(&file).map_or(0, |metadata| metadata.permissions().mode());
            assert!(!told || mode & 0o077 == 0, "{} holds a secret, and has mode {mode:o}", file.display());
        }
    }
}

/// A token for the broker.
pub fn token(site: &Site, claims: Value) -> String {
    let mut claims = claims;
    claims["aud"] = json!(BROKER);
    site.issuer.mint(claims)
}

/// `examples/policy.toml`, with `dev`'s issuer for all of its issuers.
fn policy(issuer: &str) -> String {
    let here = |line: &str| match line.starts_with("issuer = ") {
        true => format!("issuer = \"{issuer}\"\n"),
        false => format!("{line}\n"),
    };
    read("policy.toml").lines().map(here).collect()
}

/// All files under a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let below = |entry: std::fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => files(&entry.path()),
        Ok(kind) if kind.is_file() => vec![entry.path()],
        _ => Vec::new(),
    };
    entries.flat_map(below).collect()
}

/// Sends TERM to a child, as whatever stops it would.
pub fn terminate(child: &Child) {
    let pid = child.id().and_then(|id| Pid::from_raw(id as i32)).expect("a running process");
    kill_process(pid, Signal::TERM).expect("our own child");
}

/// How it ended, and what it said on standard output and standard error.
pub async fn ended(child: Child) -> (ExitStatus, String) {
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    let output = output.expect("it ends").expect("our own child");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (output.status, said.concat())
}

/// Starts it with both outputs kept for `ended`.
pub fn spawn(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a program")
}

/// The arguments of all processes of the machine that look as if a token or a JIT configuration were among them:
/// both are base64 of JSON.
struct Arguments {
    seen: Arc<Mutex<BTreeSet<String>>>,
    over: Arc<AtomicBool>,
}

impl Arguments {
    fn watch() -> Arguments {
        let watch = Arguments { seen: Arc::default(), over: Arc::default() };
        let (seen, over) = (watch.seen.clone(), watch.over.clone());
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
                for process in processes {
                    let arguments = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
                    let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
                    if arguments.contains("eyJ") {
                        seen.lock().expect("no panic").insert(arguments);
                    }
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        watch
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("no panic").iter().cloned().collect()
    }
}

impl Drop for Arguments {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}
