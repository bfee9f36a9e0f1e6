//! One shell for a document's commands, and the broker that they meet.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use runner_broker::seal::key::SigningKey;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::json;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::database::TestDatabase;
use crate::markdown::{Block, root};
use crate::process::{Replica, Site};
use crate::support::migrated;
use crate::tools::free_port;

/// For all commands of one document together.
const LIMIT: Duration = Duration::from_secs(180);
const BINARY: &str = env!("CARGO_BIN_EXE_runner-broker");

/// Tells what it did; a script that wants something else of it gets that.
const CURL: &str = r#"case " $* " in *" -w "* | *" --write-out "*) exec "$REAL_CURL" "$@" ;; esac
exec "$REAL_CURL" "$@" -w '%{stderr}@curl %{method} %{http_code} %{url_effective}\n'"#;

/// What a document's reader has running.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Around {
    /// `runner-broker dev`, at the address that it has by itself.
    Dev,
    /// A replica at `https://broker.example.com`; the shell has its variables and `TOKEN`, an admin's.
    Replica,
}

/// What a block did.
#[derive(Debug)]
pub struct Ran {
    pub out: String,
    pub calls: Vec<Call>,
}

/// A call by curl.
#[derive(Debug)]
pub struct Call {
    pub method: String,
    pub status: u16,
    /// Without its query.
    pub path: String,
}

pub struct Shell {
    folder: TempDir,
    environment: Vec<(String, String)>,
    /// What stands in a document for what is here.
    instead: Vec<(String, String)>,
    _running: Running,
}

enum Running {
    Dev { _child: Child, _database: TestDatabase },
    Replica { _replica: Replica, _site: Box<Site> },
}

impl Shell {
    /// For this document. What lies beside it in a folder of examples is there as well.
    pub async fn new(document: &str, around: Around) -> Shell {
        let folder = tempfile::tempdir().expect("a folder");
        let beside = root().join(document);
        let beside = beside.parent().filter(|_| document.starts_with("examples/"));
        for file in beside.into_iter().flat_map(|beside| beside.read_dir().expect("a folder")) {
            let file = file.expect("a file").path();
            if let Some(name) = file.file_name().filter(|_| file.is_file()) {
                std::fs::copy(&file, folder.path().join(name)).expect("a file");
            }
        }
        match around {
            Around::Dev => Shell::beside_dev(folder).await,
            Around::Replica => Shell::beside_a_replica(folder).await,
        }
    }

    async fn beside_dev(folder: TempDir) -> Shell {
        let (database, port) = (migrated().await, three_ports());
        let log = std::fs::File::create(folder.path().join("dev.log")).expect("a file");
        let child = Command::new(BINARY)
            .args(["dev", "--port", &port.to_string()])
            .env_clear()
            .env("DATABASE_URL", database.url())
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("the binary");
        wait_for(&format!("http://127.0.0.1:{port}/health/ready")).await;
        // Its sample policy comes last.
        let log = folder.path().join("dev.log");
        while !std::fs::read_to_string(&log).is_ok_and(|text| text.contains("runner-broker is up")) {
            sleep(Duration::from_millis(20)).await;
        }
        let instead = (0..3).map(|n| (format!("127.0.0.1:{}", 8000 + n), format!("127.0.0.1:{}", port + n)));
        let shell = Shell {
            environment: vec![("DATABASE_URL".into(), database.url().to_owned())],
            instead: instead.collect(),
            folder,
            _running: Running::Dev { _child: child, _database: database },
        };
        shell.put_programs(&format!("if [ \"$1 $2\" = 'dev token' ]; then set -- \"$@\" --port {port}; fi"));
        shell
    }

    async fn beside_a_replica(folder: TempDir) -> Shell {
        let site = Box::new(Site::new().await);
        let key = site.file("audit.key");
        std::fs::write(&key, SigningKey::generate().expect("a key")).expect("a file");
        let replica = site.serve_with(&[("AUDIT_SIGNING_KEY_PATH", &key.display().to_string())]).await;
        let token = site.issuer.mint(json!({ "sub": "carol", "team": "admins" }));
        let command = site.command(&[]);
        let given = command.as_std().get_envs().filter_map(|(name, value)| Some((name, value?)));
        let text = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
        let mut environment: Vec<_> = given.map(|(name, value)| (text(name), text(value))).collect();
        environment.push(("TOKEN".into(), token));
        environment.push(("OWNER_URL".into(), site.database_url().to_owned()));
        environment.push(("SUPERUSER_URL".into(), site.database_url().to_owned()));
        let restored = format!("broker_restored_{}", std::process::id());
        let mut url = url::Url::parse(site.database_url()).expect("a URL");
        url.set_path(&restored);
        environment.push(("RESTORED_URL".into(), url.into()));
        environment.push(("PORT".into(), free_port().to_string()));
        environment.push(("AUDIT_SIGNING_KEY_PATH".into(), key.display().to_string()));
        let files = site.folder.path().display().to_string();
        let instead = vec![
            ("https://broker.example.com".into(), replica.url.clone()),
            ("/etc/runner-broker".into(), files),
            // What a server has once, for all databases.
            ("broker_restored".into(), restored),
            ("broker_serve".into(), format!("broker_serve_{}", std::process::id())),
        ];
        let shell = Shell {
            folder,
            environment,
            instead,
            _running: Running::Replica { _replica: replica, _site: site },
        };
        shell.put_programs("");
        shell
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `runner-broker` and `cargo run` are the built binary; curl tells what it did.
    fn put_programs(&self, before: &str) {
        let cargo = "[ \"$1 $2 $3\" = 'run -q --' ] || exit 2\nshift 3\nexec runner-broker \"$@\"";
        let broker = format!("{before}\nexec {BINARY} \"$@\"");
        std::fs::create_dir(self.file(".bin")).expect("a folder");
        for (name, text) in [("curl", CURL), ("cargo", cargo), ("runner-broker", &broker)] {
            let path = self.file(".bin").join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a file");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("our own");
        }
    }

    /// Runs the blocks one after another in one shell. Panics at the first that fails.
    pub async fn run(&mut self, blocks: &[Block]) -> Vec<Ran> {
        let scratch = self.file(".blocks");
        std::fs::create_dir(&scratch).expect("a folder");
        let mut script = "set -euo pipefail\n".to_owned();
        for (index, block) in blocks.iter().enumerate() {
            let text =
                self.instead.iter().fold(block.text.clone(), |text, (from, to)| text.replace(from, to));
            let file = scratch.join(index.to_string());
            std::fs::write(&file, text).expect("a file");
            let file = file.display();
            script.push_str(&format!("echo {index} > {}/at\n", scratch.display()));
            script.push_str(&format!("source {file} > {file}.out 2> {file}.err\n"));
        }
        let ended = self.bash(&script).await;
        let at = read(&scratch.join("at")).trim().parse().unwrap_or(0);
        let ran = |index: usize| Ran {
            out: read(&scratch.join(format!("{index}.out"))),
            calls: calls(&read(&scratch.join(format!("{index}.err")))),
        };
        assert!(
            ended.as_ref().is_some_and(std::process::ExitStatus::success) || blocks.is_empty(),
            "{}: {ended:?}\n{}\n{}\n{}",
            blocks[at].place,
            blocks[at].text,
            ran(at).out,
            read(&scratch.join(format!("{at}.err"))),
        );
        (0..blocks.len()).map(ran).collect()
    }

    /// `None`: it took too long. Whatever it left in the background ends with it.
    async fn bash(&self, script: &str) -> Option<std::process::ExitStatus> {
        let path = std::env::var("PATH").unwrap_or_default();
        let curl = std::env::split_paths(&path).map(|folder| folder.join("curl")).find(|file| file.is_file());
        let mut child = Command::new("bash")
            .args(["-c", script])
            .env_clear()
            .env("PATH", format!("{}:{path}", self.file(".bin").display()))
            .env("REAL_CURL", curl.expect("looked for before"))
            .env("HOME", self.folder.path())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .expect("bash");
        let group = child.id().and_then(|id| Pid::from_raw(id as i32));
        let ended = timeout(LIMIT, child.wait()).await.ok();
        if let Some(group) = group {
            // Nobody is left in most cases, and then there is no such group.
            let _ = kill_process_group(group, Signal::KILL);
        }
        ended.map(|status| status.expect("our own child"))
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

fn calls(complained: &str) -> Vec<Call> {
    let call = |line: &str| {
        let mut words = line.split_once("@curl ")?.1.split(' ');
        let (method, status, url) = (words.next()?, words.next()?, words.next()?);
        let path = url.split_once("://")?.1.split_once('/').map_or("", |(_, path)| path);
        let path = path.split('?').next().unwrap_or_default();
        Some(Call { method: method.into(), status: status.parse().ok()?, path: format!("/{path}") })
    };
    complained.lines().filter_map(call).collect()
}

fn three_ports() -> u16 {
    loop {
        let (first, second, third) = (free_port(), free_port(), free_port());
        if (second, third) == (first + 1, first + 2) {
            return first;
        }
    }
}

async fn wait_for(url: &str) {
    let client = crate::support::client();
    for _ in 0..3000 {
        if client.get(url).send().await.is_ok_and(|answer| answer.status() == 200) {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("nothing answers at {url}");
}
