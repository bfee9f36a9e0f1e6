//! Postgres: a file for a table. The only user of diesel; knows no business words and no GitHub.
//!
//! Functions take the connection first, so that callers join them into one transaction.

mod after;
pub mod alerts;
pub mod audit;
pub mod audit_sealing;
pub mod audit_tree;
pub mod deliveries;
pub mod detail;
pub mod github_cache;
pub mod idempotency;
pub mod identities;
pub mod installations;
pub mod jobs;
pub mod leases;
pub mod policies;
pub mod roles;
pub mod runners;
mod schema;
pub mod security;
pub mod sync_targets;
mod tls;
pub mod unmanaged;

use std::time::Duration;

use diesel::migration::{Migration, MigrationName, MigrationSource};
use diesel::pg::Pg;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel_async::TransactionManager;
use diesel_async::pooled_connection::deadpool::{Object, Pool, PoolError};
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod};
use diesel_async::{
    AsyncConnection, AsyncMigrationHarness, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection,
};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use secrecy::{ExposeSecret, SecretString};
use tokio::runtime::Handle;

pub use after::after_commit;

/// What the functions of this layer take first.
pub type Conn = AsyncPgConnection;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!();

/// How long a caller waits for a connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// Held while migrating, so that two replicas that start at once don't both try.
const MIGRATION_LOCK: i64 = 0x7275_6e6e_6572;

/// No statement, lock or forgotten transaction of a frozen replica holds anybody up for longer.
/// Counts under a lock need each statement to see what the lock's last holder committed, whatever the server's
/// default is.
const SESSION: &str = "SET statement_timeout = '5s'; SET lock_timeout = '5s'; \
     SET idle_in_transaction_session_timeout = '5s'; SET TIME ZONE 'UTC'; \
     SET datestyle = 'ISO, YMD'; SET default_transaction_isolation = 'read committed'";

/// Why a statement did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the database is not available: {0}")]
    Unavailable(String),
    #[error("the database URL is not valid: {0}")]
    Url(String),
    #[error("the database refused a statement")]
    Statement(#[source] DieselError),
    #[error("a row holds something that this version does not understand: {0}")]
    Row(String),
    #[error("a runner that is {from} does not become {to}")]
    Move { from: &'static str, to: &'static str },
    #[error("migrating the database failed: {0}")]
    Migration(String),
}

impl From<DieselError> for Error {
    fn from(err: DieselError) -> Error {
        match &err {
            DieselError::DatabaseError(kind, info) if is_away(kind, info.message()) => {
                Error::Unavailable(info.message().to_owned())
            }
            DieselError::BrokenTransactionManager => Error::Unavailable("a connection broke".into()),
            _ => Error::Statement(err),
        }
    }
}

impl From<PoolError> for Error {
    fn from(err: PoolError) -> Error {
        Error::Unavailable(match err {
            PoolError::Timeout(_) => "no connection became free in time".into(),
            PoolError::Backend(err) => err.to_string(),
            err => err.to_string(),
        })
    }
}

/// Whether Postgres (or the way to it) is at fault rather than our statement. diesel does not pass the
/// SQLSTATE on, hence the messages; they are English because the session's are.
fn is_away(kind: &DatabaseErrorKind, message: &str) -> bool {
    match kind {
        DatabaseErrorKind::ClosedConnection
        | DatabaseErrorKind::UnableToSendCommand
        | DatabaseErrorKind::ReadOnlyTransaction
        | DatabaseErrorKind::SerializationFailure => true,
        DatabaseErrorKind::Unknown => [
            "connection",
            "terminating",
            "canceling statement",
            "the database system is",
            "deadlock detected",
            "too many clients",
            "recovery mode",
            "No space left",
        ]
        .iter()
        .any(|part| message.contains(part)),
        _ => false,
    }
}

/// How full the pool is.
#[derive(Clone, Copy, Debug)]
pub struct PoolStatus {
    pub size: usize,
    pub available: usize,
    pub waiting: usize,
}

/// Names the future of an async closure, so that it can be demanded to cross threads.
pub trait Work<T, R>: FnOnce(T) -> Self::Future {
    type Future: Future<Output = R>;
}

impl<F, T, Fut, R> Work<T, R> for F
where
    F: FnOnce(T) -> Fut,
    Fut: Future<Output = R>,
{
    type Future = Fut;
}

/// A connection in a transaction. Dropped in its middle, as when the caller hangs up, the connection is closed
/// rather than given back: in the pool it would keep its locks until somebody takes it out again.
struct Open(Option<Object<Conn>>);

impl Open {
    fn conn(&mut self) -> Result<&mut Conn, Error> {
        self.0.as_deref_mut().ok_or_else(|| Error::Unavailable("a connection broke".into()))
    }

    /// Gives the connection back to the pool.
    fn close(mut self) {
        self.0 = None;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(conn) = self.0.take() {
            drop(Object::take(conn));
        }
    }
}

/// The pool of connections; clones share it.
#[derive(Clone)]
pub struct Store {
    pool: Pool<Conn>,
    url: SecretString,
}

impl Store {
    /// A pool of at most `connections`. Connects only when asked for a connection.
    pub fn new(url: &SecretString, connections: usize) -> Result<Store, Error> {
        url.expose_secret().parse::<tokio_postgres::Config>().map_err(|err| Error::Url(chain(&err)))?;
        let mut config = ManagerConfig::default();
        config.recycling_method = RecyclingMethod::Fast;
        // A connection is driven where it was made. Made on the runtime that opened the pool, it outlives the
        // HTTP workers and can finish what they began.
        let runtime = Handle::current();
        config.custom_setup = Box::new(move |url| {
            let establishing = runtime.spawn(establish(url.to_owned()));
            Box::pin(async move {
                establishing
                    .await
                    .unwrap_or_else(|err| Err(diesel::ConnectionError::BadConnection(err.to_string())))
            })
        });
        let manager = AsyncDieselConnectionManager::new_with_config(url.expose_secret(), config);
        let pool = Pool::builder(manager)
            .max_size(connections)
            .build()
            .map_err(|err| Error::Unavailable(err.to_string()))?;
        Ok(Store { pool, url: url.clone() })
    }

    /// A connection of the pool.
    pub async fn conn(&self) -> Result<Object<Conn>, Error> {
        match tokio::time::timeout(PATIENCE, self.pool.get()).await {
            Ok(conn) => Ok(conn?),
            Err(_) => Err(Error::Unavailable("no connection became free in time".into())),
        }
    }

    /// Runs `work` in one transaction: committed if it answers `Ok`, rolled back if `Err`. A refusal that is
    /// to be kept is therefore an `Ok(Err(refusal))`.
    pub async fn transaction<R, E, F>(&self, work: F) -> Result<R, E>
    where
        for<'c> F:
            AsyncFnOnce(&'c mut Conn) -> Result<R, E> + Work<&'c mut Conn, Result<R, E>, Future: Send> + Send,
        E: From<Error>,
    {
        type Manager = <Conn as AsyncConnection>::TransactionManager;
        let mut open = Open(Some(self.conn().await?));
        let conn = open.conn()?;
        Manager::begin_transaction(conn).await.map_err(Error::from)?;
        let (result, waiting) = after::gather(work(conn)).await;
        let result = match result {
            Ok(value) => {
                Manager::commit_transaction(conn).await.map_err(Error::from)?;
                waiting.run();
                Ok(value)
            }
            Err(err) => {
                if let Err(rollback) = Manager::rollback_transaction(conn).await {
                    // The pool throws such a connection away, and Postgres rolls back what it was at.
                    tracing::debug!(error = %rollback, "rolling back failed");
                }
                Err(err)
            }
        };
        open.close();
        result
    }

    /// Whether Postgres answers.
    pub async fn ping(&self) -> Result<(), Error> {
        let mut conn = self.conn().await?;
        diesel::sql_query("SELECT 1").execute(&mut conn).await?;
        Ok(())
    }

    pub fn status(&self) -> PoolStatus {
        let status = self.pool.status();
        PoolStatus { size: status.size, available: status.available, waiting: status.waiting }
    }

    /// Brings the schema up to date; the names of the migrations that ran.
    pub async fn migrate(&self) -> Result<Vec<String>, Error> {
        let mut conn = self.single().await?;
        // Building an index may take longer than any statement of the service.
        conn.batch_execute("SET statement_timeout = 0; SET lock_timeout = '60s'").await?;
        diesel::sql_query(format!("SELECT pg_advisory_lock({MIGRATION_LOCK})")).execute(&mut conn).await?;
        // The harness blocks its thread, so it gets one of its own.
        tokio::task::spawn_blocking(move || {
            let mut harness = AsyncMigrationHarness::new(conn);
            let ran = harness
                .run_pending_migrations(MIGRATIONS)
                .map_err(|err| Error::Migration(err.to_string()))?;
            Ok(ran.iter().map(ToString::to_string).collect())
        })
        .await
        .map_err(|err| Error::Migration(err.to_string()))?
    }

    /// The migrations that this version has and the database lacks. Only reads, so that the service may do
    /// without the right to create tables; diesel's own harness wants it.
    pub async fn pending_migrations(&self) -> Result<Vec<String>, Error> {
        #[derive(diesel::QueryableByName)]
        struct Applied {
            #[diesel(sql_type = diesel::sql_types::Text)]
            version: String,
        }
        let mut conn = self.single().await?;
        let query = diesel::sql_query("SELECT version FROM __diesel_schema_migrations");
        let applied: Vec<Applied> = match query.load(&mut conn).await {
            Err(DieselError::DatabaseError(_, info)) if info.message().contains("does not exist") => {
                Vec::new()
            }
            applied => applied?,
        };
        let known: Vec<Box<dyn Migration<Pg>>> =
            MIGRATIONS.migrations().map_err(|err| Error::Migration(err.to_string()))?;
        let is_pending =
            |name: &dyn MigrationName| applied.iter().all(|row| row.version != name.version().to_string());
        Ok(known
            .iter()
            .map(|migration| migration.name())
            .filter(|name| is_pending(*name))
            .map(ToString::to_string)
            .collect())
    }

    /// A connection outside the pool.
    async fn single(&self) -> Result<Conn, Error> {
        establish(self.url.expose_secret().to_owned())
            .await
            .map_err(|err| Error::Unavailable(err.to_string()))
    }
}

async fn establish(url: String) -> diesel::ConnectionResult<Conn> {
    let failed = |why: String| diesel::ConnectionError::BadConnection(why);
    let mut config: tokio_postgres::Config = url.parse().map_err(|err| failed(chain(&err)))?;
    config.connect_timeout(Duration::from_secs(5)).application_name("runner-broker");
    let (client, connection) =
        config.connect(tls::Connector::new().map_err(failed)?).await.map_err(|err| failed(chain(&err)))?;
    let mut conn = Conn::try_from_client_and_connection(client, connection).await?;
    conn.batch_execute(SESSION).await.map_err(diesel::ConnectionError::CouldntSetupConfiguration)?;
    Ok(conn)
}

/// An error with its causes; tokio-postgres keeps the telling part in the source. Never holds the URL.
fn chain(err: &dyn std::error::Error) -> String {
    let mut text = err.to_string();
    let mut source = err.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
