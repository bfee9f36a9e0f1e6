//! A database for each test, cloned from a template that is migrated once. On the server of `TEST_DATABASE_URL` or
//! `DATABASE_URL`, else on a private one that all tests of this process share.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use runner_broker::dev::postgres::{Options, Postgres};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};
use url::Url;

/// The key of the advisory lock under which templates are made.
const LOCK: i64 = 0x72_62_74_65_73_74;
/// A test database older than this belongs to a run that was ended from outside.
const LEFTOVER_AFTER_SECONDS: u64 = 3600;

/// A database of one test; dropping it drops the database, whoever is still connected.
#[derive(Debug)]
pub struct TestDatabase {
    name: String,
    url: String,
}

impl TestDatabase {
    /// Clones the template of this schema, some 30 ms. `migrate` fills the template, given its URL, in the first
    /// test that asks for it; `schema` is a short hash of what `migrate` does.
    pub async fn create(schema: &str, migrate: impl AsyncFnOnce(&str)) -> TestDatabase {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let admin = administrator();
        let template = format!("it_template_{schema}");
        if !exists(admin, &template).await {
            make_template(&template, migrate).await;
        }
        let (count, process) = (COUNT.fetch_add(1, Ordering::Relaxed), std::process::id());
        let name = format!("it_{}_{process}_{count}", now());
        run(admin, &format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
        TestDatabase { url: server().url(&name), name }
    }

    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let drop_it = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // In a thread of its own: the test's runtime cannot be waited for here.
        let thread =
            std::thread::spawn(move || blocking(async move { run(administrator(), &drop_it).await }));
        if thread.join().is_err() && !std::thread::panicking() {
            panic!("{} stays behind", self.name);
        }
    }
}

/// A connection that ends with its second half.
pub async fn connect(url: &str) -> (Client, Connection) {
    let (client, connection) =
        tokio_postgres::connect(url, NoTls).await.unwrap_or_else(|err| panic!("{url}: {err}"));
    (client, Connection(tokio::spawn(async { drop(connection.await) })))
}

/// What moves a connection's bytes.
pub struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Server {
    admin: Url,
    /// Statics are not dropped: it ends by its watchdog, when this process does.
    _private: Option<Postgres>,
}

impl Server {
    fn url(&self, database: &str) -> String {
        let mut url = self.admin.clone();
        url.set_path(database);
        url.into()
    }
}

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let given = ["TEST_DATABASE_URL", "DATABASE_URL"].iter().find_map(|name| std::env::var(name).ok());
        let (url, private) = match given {
            Some(url) => {
                std::thread::scope(|scope| scope.spawn(|| blocking(sweep(&url))).join())
                    .expect("a server to test on");
                (url, None)
            }
            None => {
                let options = Options { scratch: memory(), ..Options::temporary() };
                let postgres = Postgres::start(&options).unwrap_or_else(|err| panic!("{err}"));
                (postgres.url("postgres"), Some(postgres))
            }
        };
        Server { admin: Url::parse(&url).expect("a database's URL"), _private: private }
    })
}

/// Memory that can be used like a disk, if there is plenty: a database for each test is hundreds of files to be made
/// and removed, and a disk takes far longer over that than over what is in them.
fn memory() -> Option<PathBuf> {
    const PLENTY_KB: u64 = 3_000_000;
    let printed = Command::new("df").args(["-Pk", "/dev/shm"]).output().ok()?.stdout;
    let printed = String::from_utf8_lossy(&printed);
    let free: u64 = printed.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
    (free > PLENTY_KB).then(|| "/dev/shm".into())
}

/// One of the connections that make and drop databases. All tests share them, since a connection costs Postgres about
/// as much as a database; they live on a runtime of their own, as a test's runtime ends with the test.
fn administrator() -> &'static Client {
    static CLIENTS: OnceLock<(Vec<Client>, Runtime)> = OnceLock::new();
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let (clients, _) = CLIENTS.get_or_init(|| {
        let connect_all = async || {
            let mut clients = Vec::new();
            for _ in 0..4 {
                let (client, connection) = tokio_postgres::connect(server().admin.as_str(), NoTls)
                    .await
                    .expect("a server to test on");
                tokio::spawn(connection);
                clients.push(client);
            }
            clients
        };
        let start = || {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            let runtime = runtime.worker_threads(1).enable_all().build().expect("a runtime");
            (runtime.block_on(connect_all()), runtime)
        };
        // In a thread, as this one may be a runtime's.
        std::thread::scope(|scope| scope.spawn(start).join()).expect("a server to test on")
    });
    &clients[NEXT.fetch_add(1, Ordering::Relaxed) % clients.len()]
}

/// Templates are renamed when they are whole, so what has the name is.
async fn make_template(template: &str, migrate: impl AsyncFnOnce(&str)) {
    // The lock is its connection's.
    let (admin, _connection) = connect(server().admin.as_str()).await;
    let admin = &admin;
    run(admin, &format!("SELECT pg_advisory_lock({LOCK})")).await;
    if !exists(admin, template).await {
        let raw = format!("{template}_raw");
        run(admin, &format!("DROP DATABASE IF EXISTS {raw} WITH (FORCE)")).await;
        run(admin, &format!("CREATE DATABASE {raw} TEMPLATE template0")).await;
        migrate(&server().url(&raw)).await;
        // Connections that `migrate` left open would keep it from being renamed.
        let others =
            format!("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{raw}'");
        run(admin, &others).await;
        run(admin, &format!("ALTER DATABASE {raw} RENAME TO {template}")).await;
    }
    run(admin, &format!("SELECT pg_advisory_unlock({LOCK})")).await;
}

/// Drops the databases of earlier runs on this server.
async fn sweep(url: &str) {
    let (admin, _connection) = connect(url).await;
    let rows =
        admin.query("SELECT datname FROM pg_database WHERE datname ~ '^it_[0-9]+_[0-9]+_[0-9]+$'", &[]).await;
    for row in rows.expect("a list of databases") {
        let name: &str = row.get(0);
        let made: u64 =
            name.split('_').nth(1).and_then(|time| time.parse().ok()).expect("as the pattern says");
        if made + LEFTOVER_AFTER_SECONDS < now() {
            run(&admin, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
        }
    }
}

async fn exists(admin: &Client, database: &str) -> bool {
    let found = admin.query("SELECT 1 FROM pg_database WHERE datname = $1", &[&database]).await;
    !found.expect("a list of databases").is_empty()
}

async fn run(client: &Client, statement: &str) {
    client.batch_execute(statement).await.unwrap_or_else(|err| panic!("{statement}: {err:?}"));
}

fn blocking(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(work);
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs()
}
