//! A primary with a streaming replica, synchronous, as Patroni and cloud services run it: the primary is killed under
//! load and the replica promoted. Everything that was acknowledged is there, and the broker goes on by itself.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use runner_broker::dev::postgres::{Options, Postgres};
use runner_broker::store::identities::{self, Sighting};
use runner_broker::store::{self, Store};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::Instant;

use crate::database::connect;
use crate::process::{Site, until};
use crate::tools::{self, free_port};

const CALLERS: usize = 16;
/// Before the kill, and again after the promotion.
const ENOUGH: usize = 200;
/// What the broker promises.
const BACK_WITHIN: Duration = Duration::from_secs(10);

/// What both servers need to be one another's; it wins over what is good enough for a test's own.
fn options(port: u16, data_dir: Option<&Path>) -> Options {
    let mut options = Options::temporary();
    options.data_dir = data_dir.map(Path::to_owned);
    options.settings = [
        ("listen_addresses", "127.0.0.1"),
        ("port", &port.to_string()),
        ("wal_level", "replica"),
        ("max_wal_senders", "5"),
        ("hot_standby", "on"),
        ("synchronous_commit", "on"),
        ("full_page_writes", "on"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    options
}

async fn start(options: Options) -> Postgres {
    let started = tokio::task::spawn_blocking(move || Postgres::start(&options));
    started.await.expect("a thread").expect("a Postgres")
}

fn url(ports: &[u16]) -> String {
    let hosts: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    format!("postgres://postgres@{}/postgres?target_session_attrs=read-write", hosts.join(","))
}

/// The newest `pg_basebackup` of this machine.
fn pg_basebackup() -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin/pg_basebackup"))
        .filter(|program| program.is_file())
        .collect();
    found.sort_by_key(|path| {
        path.ancestors().nth(2).and_then(|version| version.file_name()?.to_str()?.parse::<u32>().ok())
    });
    found.pop().or_else(|| tools::machine_program("pg_basebackup"))
}

/// A copy of the primary that follows it, with data that belong to whom the primary's belong to.
async fn follow(program: &Path, primary: &Postgres, port: u16, home: &TempDir) {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    let data = home.path().join("data");
    let mut command = Command::new(program);
    command.arg("-D").arg(&data).args(["-h", "127.0.0.1", "-p", &port.to_string(), "-U", "postgres"]);
    tools::run(command.args(["-R", "-X", "stream", "-c", "fast"]), Duration::from_secs(60)).await;
    let owner = std::fs::metadata(primary.socket_folder()).expect("a folder");
    let mut folders = vec![data];
    while let Some(path) = folders.pop() {
        chown(&path, Some(owner.uid()), Some(owner.gid())).expect("our own, or root");
        if path.is_dir() {
            folders.extend(
                std::fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("a file").path()),
            );
        }
    }
    std::fs::set_permissions(home.path(), PermissionsExt::from_mode(0o755)).expect("our own");
}

/// All rows of a query, the first column as text.
async fn column(url: &str, query: &str) -> Vec<String> {
    let (client, _connection) = connect(url).await;
    let rows = client.query(query, &[]).await.unwrap_or_else(|err| panic!("{query}: {err:?}"));
    rows.iter().map(|row| row.get(0)).collect()
}

/// What callers were told: the runner's id by its name, and when the last of them got his.
#[derive(Default)]
struct Acknowledged {
    ids: Mutex<HashMap<String, String>>,
    over: AtomicBool,
}

impl Acknowledged {
    fn count(&self) -> usize {
        self.ids.lock().expect("no panic").len()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_is_killed_under_load_loses_nothing_that_was_acknowledged_and_its_replica_goes_on() {
    let Some(program) = pg_basebackup() else { return };
    let (first, second) = (free_port(), free_port());
    let primary = start(options(first, None)).await;
    let both = url(&[first, second]);
    Store::new(&both.as_str().into(), 1).expect("a URL").migrate().await.expect("a schema");
    let home = tempfile::tempdir().expect("a folder");
    follow(&program, &primary, first, &home).await;
    let replica = start(options(second, Some(home.path()))).await;
    let (admin, _connection) = connect(&url(&[first])).await;
    admin.batch_execute("ALTER SYSTEM SET synchronous_standby_names = '*'").await.expect("set");
    admin.batch_execute("SELECT pg_reload_conf()").await.expect("reloaded");
    let state = "SELECT sync_state FROM pg_stat_replication";
    until("the replica is synchronous", async || column(&url(&[first]), state).await == ["sync"]).await;

    let site = Arc::new(Site::new().await);
    let broker = Arc::new(site.serve_with(&[("DATABASE_URL", both.as_str())]).await);
    let acknowledged = Arc::new(Acknowledged::default());
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (site, broker, acknowledged) = (site.clone(), broker.clone(), acknowledged.clone());
            tokio::spawn(async move {
                for number in 0.. {
                    if acknowledged.over.load(Ordering::Relaxed) {
                        return;
                    }
                    let name = format!("r{caller}-{number}");
                    let body = json!({ "runner_name": name, "labels": ["docker"] });
                    let answer =
                        site.post(&broker, "/api/v1/runners/jit", &body).send().await.expect("an answer");
                    let status = answer.status();
                    assert!(
                        status == 201 || status == 503,
                        "{status}: {}",
                        answer.text().await.expect("text")
                    );
                    if status == 201 {
                        let body: Value = answer.json().await.expect("JSON");
                        let id = body["runner_id"].as_str().expect("an id").to_owned();
                        acknowledged.ids.lock().expect("no panic").insert(name, id);
                    }
                }
            })
        })
        .collect();
    until("there is some load", async || acknowledged.count() >= ENOUGH).await;
    tokio::task::block_in_place(|| primary.kill());
    let killed = acknowledged.count();
    let here = url(&[second]).replace("?target_session_attrs=read-write", "");
    column(&here, "SELECT pg_promote()::text").await;
    let promoted = Instant::now();
    until("the broker serves again", async || acknowledged.count() > killed + CALLERS).await;
    let back = promoted.elapsed();
    until("there is some load again", async || acknowledged.count() >= killed + ENOUGH).await;
    acknowledged.over.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.expect("no panic");
    }

    let ids = acknowledged.ids.lock().expect("no panic").clone();
    eprintln!("{killed} acknowledged before the kill, {} in all; back after {back:?}", ids.len());
    assert!(back < BACK_WITHIN, "{back:?}");
    let events = "SELECT runner_id::text FROM audit_log WHERE event_type = 'provisioned'";
    let rows = column(&both, "SELECT id::text FROM runners WHERE status = 'pending'").await;
    let events = column(&both, events).await;
    for (name, id) in &ids {
        assert!(rows.contains(id), "{name} was acknowledged and has no row");
        assert!(events.contains(id), "{name} was acknowledged and has no event");
    }
    // What was under way is repaired, and the sweep goes on there as well.
    let open = "SELECT name FROM runners WHERE status IN ('requested', 'deleting')";
    until("everything is settled", async || column(&both, open).await.is_empty()).await;
    let live = column(&both, "SELECT name FROM runners WHERE status = 'pending' ORDER BY 1").await;
    let mut on_github: Vec<String> =
        site.github.runners(crate::support::ORG).into_iter().map(|runner| runner.name).collect();
    on_github.sort();
    assert_eq!(on_github, live);
    drop(replica);
}

/// Somebody in `identities`, in one transaction; sets `told` once that is committed.
async fn write(store: Store, subject: String, told: Arc<AtomicBool>) -> Result<(), store::Error> {
    let seen = [Sighting {
        issuer: "i".into(),
        subject,
        display_name: "n".into(),
        at: chrono::DateTime::UNIX_EPOCH,
    }];
    store
        .transaction::<_, store::Error, _>(async |conn| {
            store::after_commit(move || told.store(true, Ordering::Relaxed));
            identities::remember(conn, &seen).await
        })
        .await
}

/// The same, as a statement by itself.
async fn write_alone(store: Store, subject: String) -> Result<(), store::Error> {
    let seen = [Sighting {
        issuer: "i".into(),
        subject,
        display_name: "n".into(),
        at: chrono::DateTime::UNIX_EPOCH,
    }];
    let mut conn = store.conn().await?;
    identities::remember(&mut conn, &seen).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_wait_for_the_standby_is_cut_short_does_not_count_as_done() {
    let port = free_port();
    let primary = start(options(port, None)).await;
    let url = url(&[port]);
    let store = Store::new(&url.as_str().into(), 4).expect("a URL");
    store.migrate().await.expect("a schema");
    let (admin, _connection) = connect(&url).await;
    admin.batch_execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'").await.expect("set");
    admin.batch_execute("SELECT pg_reload_conf()").await.expect("reloaded");
    let waiting = "SELECT pid::text FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let mut number = 0;
    for (alone, end) in [
        (false, "pg_cancel_backend"),
        (true, "pg_cancel_backend"),
        (false, "pg_terminate_backend"),
        (true, "pg_terminate_backend"),
    ] {
        // The first ones may be done before the server has read its settings anew.
        let (writing, told) = loop {
            number += 1;
            let (subject, told) = (format!("s{number}"), Arc::new(AtomicBool::new(false)));
            let writing = match alone {
                false => tokio::spawn(write(store.clone(), subject, told.clone())),
                true => tokio::spawn(write_alone(store.clone(), subject)),
            };
            until("it waits, or is done", async || {
                writing.is_finished() || !column(&url, waiting).await.is_empty()
            })
            .await;
            match writing.is_finished() {
                true => writing.await.expect("no panic").expect("no standby was waited for yet"),
                false => break (writing, told),
            }
        };
        column(&url, &format!("SELECT {end}(pid::int)::text FROM ({waiting}) AS w (pid)")).await;
        let written = writing.await.expect("no panic");
        assert!(matches!(written, Err(store::Error::Unavailable(_))), "{alone}, {end}: {written:?}");
        assert!(!told.load(Ordering::Relaxed), "{end}");
        // Postgres has kept it here all the same.
        let here = format!("SELECT id::text FROM identities WHERE subject = 's{number}'");
        assert_eq!(column(&url, &here).await.len(), 1);
        store.ping().await.expect("another connection");
    }
    drop(primary);
}
