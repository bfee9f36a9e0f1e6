//! The same SQL without a broker: the statements of one provision as Postgres logged them, replayed by
//! `pgbench`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use regex::{Captures, Regex};
use runner_broker::dev::postgres::{Postgres, USER};

use crate::client::Load;

const HEADER: &str = "\
-- What one JIT provision is to Postgres, for pgbench. Written by `cargo bench` from Postgres' own log; only what
-- must differ from one provision to the next is computed here, and what differs by itself is made constant.
\\set seq :seq + 1
\\set n :run * 10000000000 + :seq * 1000 + :client_id
";

/// The name of the runner whose statements are recorded.
const NAME: &str = "recorded-for-pgbench";

const READ_HEADER: &str = "\
-- What reading one runner is to Postgres, for pgbench. Written by `cargo bench` from Postgres' own log; it reads what
-- the provisions of the same run have written.
\\set n :run * 10000000000 + random(1, :most) * 1000 + random(0, :clients - 1)
";

/// A script and where it lies.
pub struct Script {
    text: String,
    path: PathBuf,
}

impl Script {
    fn at(folder: &Path, name: &str, text: String) -> Script {
        let path = folder.join(name);
        std::fs::write(&path, &text).expect("a file");
        Script { text, path }
    }
}

/// Lets the broker provision and read one runner while Postgres logs, and makes scripts of both.
pub async fn record(postgres: &Postgres, load: &Load, folder: &Path) -> [Script; 2] {
    // Often: the first provision of a connection prepares its statements, and there are some connections.
    for number in 0..20 {
        load.provision(&format!("{NAME}-not-{number}")).await;
    }
    set(postgres, "all").await;
    let id = load.provision(NAME).await;
    let provisioned = std::fs::read_to_string(postgres.log()).expect("the server's log");
    load.read(&id).await;
    set(postgres, "none").await;
    let log = std::fs::read_to_string(postgres.log()).expect("the server's log");
    let read = reading(&log[provisioned.len()..], &id);
    [Script::at(folder, "provision.sql", script(&log, &id)), Script::at(folder, "read.sql", read)]
}

/// The statements that name the runner, as a pgbench script.
fn reading(log: &str, id: &str) -> String {
    let about: Vec<String> = statements(log)
        .into_iter()
        .filter(|(_, statement)| statement.contains(id))
        .map(|(_, statement)| format!("{};", varied(&statement, id)))
        .collect();
    assert!(!about.is_empty(), "no read in the log:\n{log}");
    format!("{READ_HEADER}{}\n", about.join("\n"))
}

/// Writes the script down for readers, if it says anything new.
pub fn keep(script: &Script, path: &Path) {
    if std::fs::read_to_string(path).ok().as_deref() != Some(&script.text) {
        std::fs::write(path, &script.text).expect("a file");
        println!("{} was written anew", path.display());
    }
}

async fn set(postgres: &Postgres, log_statement: &str) {
    let (client, connection) =
        tokio_postgres::connect(&postgres.url("postgres"), tokio_postgres::NoTls).await.expect("Postgres");
    let connection = tokio::spawn(connection);
    for statement in
        [format!("ALTER SYSTEM SET log_statement = '{log_statement}'"), "SELECT pg_reload_conf()".into()]
    {
        client.batch_execute(&statement).await.expect("a superuser");
    }
    // Each session looks at its signals before the next statement; the signal itself takes a moment.
    tokio::time::sleep(Duration::from_millis(300)).await;
    connection.abort();
}

/// The two transactions of the recorded provision, as a pgbench script.
fn script(log: &str, id: &str) -> String {
    let transactions = transactions(log);
    let with = |part: &str| {
        let found = transactions.iter().rfind(|statements| {
            statements.iter().any(|statement| statement.contains(part))
                && statements.iter().any(|statement| statement.contains(NAME))
        });
        found.unwrap_or_else(|| panic!("no transaction with {part} in the log:\n{log}"))
    };
    let statements = [with("INSERT INTO \"runners\""), with("UPDATE runners SET status = 'pending'")]
        .map(Vec::as_slice)
        .concat();
    let body: Vec<String> =
        statements.iter().map(|statement| format!("{};", varied(statement, id))).collect();
    format!("{HEADER}{}\n", body.join("\n"))
}

/// Every statement of the log by its session, with its parameters filled in.
fn statements(log: &str) -> Vec<(&str, String)> {
    let line =
        Regex::new(r"^(\d+) (LOG|DETAIL):  (?:statement|execute [^:]*|parameters): ?(.*)$").expect("fixed");
    let mut all: Vec<(&str, String)> = Vec::new();
    for line in log.lines().filter_map(|text| line.captures(text)) {
        let (_, [process, kind, text]) = line.extract();
        match kind {
            "DETAIL" => {
                if let Some((_, last)) = all.iter_mut().rfind(|(session, _)| *session == process) {
                    *last = filled(last, text);
                }
            }
            _ => all.push((process, text.to_owned())),
        }
    }
    all
}

/// Every finished transaction of the log.
fn transactions(log: &str) -> Vec<Vec<String>> {
    let mut open: HashMap<&str, Vec<String>> = HashMap::new();
    let mut done = Vec::new();
    for (process, text) in statements(log) {
        let statements = open.entry(process).or_default();
        match &text {
            _ if text.starts_with("BEGIN") => *statements = vec![text],
            _ if text.starts_with("COMMIT") => {
                statements.push(text);
                done.push(std::mem::take(statements));
            }
            _ => statements.push(text),
        }
    }
    done
}

/// The statement with `$1 = 'a', $2 = NULL` in place.
fn filled(statement: &str, parameters: &str) -> String {
    let parameter = Regex::new(r"\$(\d+) = (NULL|'(?:[^']|'')*')").expect("fixed");
    let values: HashMap<&str, &str> = parameter
        .captures_iter(parameters)
        .map(|found| found.extract())
        .map(|(_, [n, value])| (n, value))
        .collect();
    let place = Regex::new(r"\$(\d+)").expect("fixed");
    place
        .replace_all(statement, |found: &Captures<'_>| values.get(&found[1]).unwrap_or(&"NULL").to_string())
        .into()
}

/// What must differ for each provision is computed from `:n`; what differs from run to run is made constant.
fn varied(statement: &str, id: &str) -> String {
    let mut text = statement
        .replace(&format!("'{id}'"), "('019a0000-0000-7000-8000-' || lpad(:n, 12, '0'))::uuid")
        .replace(&format!("'{NAME}'"), "('p' || :n)");
    for (what, with) in [
        (r"'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?\+00'", "now()"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "2026-11-21"),
        (r"http://127\.0\.0\.1:\d+", "https://issuer.example"),
        (r"[0-9a-f]{64}", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (
            r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
            "019a0000-0000-7000-8000-000000000001",
        ),
        (r"github_runner_id = '\d+'", "github_runner_id = :n::bigint"),
        (r#""github_runner_id":\s*\d+"#, r#""github_runner_id": 1001"#),
    ] {
        text = Regex::new(what).expect("fixed").replace_all(&text, with).into_owned();
    }
    text
}

/// How pgbench runs: under its own number, with so many clients, for so long.
#[derive(Clone, Copy)]
pub struct Run {
    pub number: usize,
    pub clients: usize,
    pub step: Duration,
}

/// Provisions and reads a second by pgbench. `None`: it is not on this machine.
pub async fn run(postgres: &Postgres, scripts: &[Script; 2], run: Run) -> Option<[f64; 2]> {
    let [provision, read] = scripts;
    let provisions = rate(postgres, provision, run, 1).await?;
    // So many at least has each client made.
    let made = (provisions * run.step.as_secs_f64() / run.clients as f64 * 0.8) as u64;
    Some([provisions, rate(postgres, read, run, made.max(1)).await?])
}

async fn rate(postgres: &Postgres, script: &Script, run: Run, most: u64) -> Option<f64> {
    let Run { number, clients, step } = run;
    let mut command = Command::new(binary()?);
    command
        .args(["-n", "-M", "prepared", "-h"])
        .arg(postgres.socket_folder())
        .args(["-U", USER, "-c", &clients.to_string(), "-j", &clients.min(2).to_string()])
        .args(["-T", &step.as_secs().to_string(), "-D", "seq=0", "-D", &format!("run={number}")])
        .args(["-D", &format!("most={most}"), "-D", &format!("clients={clients}"), "-f"])
        .arg(&script.path)
        .arg("postgres");
    let done =
        tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("pgbench");
    let printed = String::from_utf8_lossy(&done.stdout).into_owned();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "pgbench: {said}");
    let rate = printed.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    // None at all in so short a time.
    Some(rate.unwrap_or(f64::NAN))
}

/// The newest of this machine.
fn binary() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("pgbench"));
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut debian: Vec<PathBuf> = versions.map(|version| version.path().join("bin/pgbench")).collect();
    debian.sort();
    on_path.chain(debian.into_iter().rev()).find(|binary| binary.is_file())
}
