//! Behind PgBouncer: with a session for each client all works; with sessions that are shared, `serve` says so.

use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use runner_broker::dev::postgres::{Options, Postgres};
use runner_broker::store::{Error, Store};
use serde_json::json;
use tempfile::TempDir;
use tokio::time::timeout;

use crate::process::{Site, until};
use crate::support::{World, answer};
use crate::tools::{self, free_port};

/// A PgBouncer in front of a Postgres of its own; ended when dropped.
struct Pooler {
    child: Child,
    port: u16,
    _postgres: Postgres,
    folder: TempDir,
}

impl Drop for Pooler {
    fn drop(&mut self) {
        // Gone already is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Pooler {
    /// `None`: there is none on this machine.
    async fn start(settings: &str) -> Option<Pooler> {
        let program = tools::machine_program("pgbouncer")?;
        let (port, behind) = (free_port(), free_port());
        let mut options = Options::temporary();
        options.settings =
            vec![("listen_addresses".into(), "127.0.0.1".into()), ("port".into(), behind.to_string())];
        let postgres = tokio::task::spawn_blocking(move || Postgres::start(&options));
        let postgres = postgres.await.expect("a thread").expect("a Postgres");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("our own");
        let file = folder.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={behind} user=postgres\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n{settings}\n"
        );
        std::fs::write(&file, text).expect("a file");
        let mut command = Command::new(program);
        command.arg("-q").arg(&file).stdin(Stdio::null());
        let log = std::fs::File::create(folder.path().join("pgbouncer.log")).expect("a file");
        command.stdout(log.try_clone().expect("a file")).stderr(log);
        // It refuses to run as root.
        if rustix::process::geteuid().is_root() {
            command.args(["-u", "nobody"]);
        }
        let pooler = Pooler { child: command.spawn().expect("pgbouncer"), port, _postgres: postgres, folder };
        until("PgBouncer listens", async || TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
        Some(pooler)
    }

    fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("pgbouncer.log")).unwrap_or_default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_session_for_each_client_all_works_as_without_a_pooler() {
    let Some(pooler) = Pooler::start("pool_mode = session\ndefault_pool_size = 40").await else { return };
    let world = World::on(&pooler.url(), |_| {}).await;
    for name in ["b1", "b2", "b3"] {
        let made = world.jit(name).await;
        assert_eq!(made.status, 201, "{}: {}", made.text, pooler.log());
    }
    let many = (0..60).map(|number| {
        let name = format!("many-{number}");
        let world = &world;
        async move { world.jit(&name).await.status }
    });
    let statuses = futures_util::future::join_all(many).await;
    assert!(statuses.iter().all(|status| *status == 201), "{statuses:?}");
    world.sweep().await;
    assert_eq!(world.delete("/api/v1/runners/b1", "blue").await.status, 200);
    assert_eq!(world.status("b1").await, "deleted");
    assert_eq!(world.on_github().len(), 62);

    // The settings are those of our sessions, and the lease goes to one of two.
    assert!(world.broker.lead(uuid::Uuid::now_v7()).await.expect("a database").is_none());
    let store = Store::new(&pooler.url().as_str().into(), 1).expect("a URL");
    let slow = store
        .transaction::<_, Error, _>(async |conn| {
            use diesel_async::SimpleAsyncConnection;
            Ok(conn.batch_execute("SELECT pg_sleep(60)").await?)
        })
        .await;
    assert!(matches!(slow, Err(Error::Contended(_))), "{slow:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_are_shared_are_refused_at_the_start_by_one_sentence() {
    for settings in [
        "pool_mode = transaction",
        "pool_mode = transaction\nserver_round_robin = 1",
        "pool_mode = transaction\nserver_round_robin = 1\nmin_pool_size = 2",
        "pool_mode = transaction\nmin_pool_size = 5",
        "pool_mode = statement",
    ] {
        let Some(pooler) = Pooler::start(settings).await else { return };
        let store = Store::new(&pooler.url().as_str().into(), 1).expect("a URL");
        for _ in 0..5 {
            let answer = store.is_ready().await;
            assert!(matches!(answer, Err(Error::Pooled)), "{settings}: {answer:?}");
        }
        let site = Site::new().await;
        for command in ["serve", "migrate", "list-runners"] {
            let mut command = site.command(&[command]);
            let running =
                command.env("DATABASE_URL", pooler.url()).env("PORT", free_port().to_string()).output();
            let ended = timeout(Duration::from_secs(30), running).await.expect("an end").expect("the binary");
            let said = String::from_utf8_lossy(&ended.stderr);
            assert_eq!(ended.status.code(), Some(1), "{settings}: {said}");
            assert!(said.contains("pool_mode=session"), "{said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_binary_serves_behind_a_pooler() {
    let Some(pooler) = Pooler::start("pool_mode = session\ndefault_pool_size = 40").await else { return };
    let site = Site::new().await;
    Store::new(&pooler.url().as_str().into(), 1).expect("a URL").migrate().await.expect("a schema");
    let replica = site.serve_with(&[("DATABASE_URL", pooler.url().as_str())]).await;
    let made = answer(site.jit(&replica, "b1")).await;
    assert_eq!(made.status, 201, "{}", made.text);
    until("it leads", async || replica.metric(&site.client, "broker_leader").await == Some(1.0)).await;
    assert_eq!(made.body["runner_name"], json!("b1"));
}
