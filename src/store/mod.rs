//! Postgres: a file for a table. The only user of diesel; knows no business words and no GitHub.
//!
//! Functions take the connection first, so that callers join them into one transaction.
//!
//! `pipeline` sends statements that need not wait for each other's answers together, BEGIN with the first. COMMIT
//! waits for all: sent along, it could overtake a statement that has yet to be prepared. If BEGIN is refused, what
//! was sent with it stands by itself; so only a provision's two transactions are made so, whose rows and events are
//! true one by one. A provision with an idempotency key, or of a team with limits, has to look first.

#![warn(missing_docs)]

pub mod alerts;
pub mod audit;
pub mod audit_sealing;
pub mod audit_tree;
pub mod deliveries;
pub mod github_cache;
pub mod idempotency;
pub mod identities;
pub mod installations;
pub mod jobs;
pub mod leases;
mod migrate;
pub mod policies;
pub mod postgres;
pub mod runners;
mod schema;
pub mod security;
pub mod server_info;
pub mod service_role;
pub mod sessions;
pub mod sign_in_attempts;
pub mod stats;
pub mod sync_targets;
pub mod unmanaged;
pub mod walk;

use std::sync::Arc;

use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel_async::pooled_connection::deadpool::{Object, PoolError};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use futures_util::future::try_join;
use secrecy::{ExposeSecret, SecretString};
use tracing::Instrument;

pub use migrate::lacking;
pub use postgres::after_commit::after_commit;
pub use postgres::pool::PoolStatus;
pub use postgres::url::Url as DatabaseUrl;

use crate::telemetry::{self, SPANS};
use postgres::connect::Server;
use postgres::pool::Pools;

/// What the functions of this layer take first.
pub type Conn = AsyncPgConnection;

/// Why a statement did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Postgres, or the way to it, is down.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// A lock or a statement took too long, or two transactions met: it may do later, and others may do now.
    #[error("the database could not do it in time: {0}")]
    Contended(String),
    /// `DATABASE_URL` cannot be used.
    #[error("the database URL is not valid: {0}")]
    Url(String),
    /// Connections have no sessions of their own.
    #[error(
        "DATABASE_URL leads to a pooler that shares sessions among its clients (transaction or statement mode): \
         set pool_mode=session for this database, or connect to Postgres itself"
    )]
    Pooled,
    /// A fault of ours, or of the schema.
    #[error("the database refused a statement")]
    Statement(#[source] DieselError),
    /// A column has a value that this version does not know.
    #[error("a row holds something that this version does not understand: {0}")]
    Row(String),
    /// A change that [`Status::may_become`](crate::model::Status::may_become) does not allow.
    #[error("a runner that is {from} does not become {to}")]
    Move {
        /// The state that the runner is in.
        from: &'static str,
        /// The state that was asked for.
        to: &'static str,
    },
    /// The schema is as it was.
    #[error("migrating the database failed: {0}")]
    Migration(String),
}

impl From<DieselError> for Error {
    fn from(err: DieselError) -> Error {
        match &err {
            DieselError::DatabaseError(kind, info) if is_contended(kind, info.message()) => {
                Error::Contended(info.message().to_owned())
            }
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
        | DatabaseErrorKind::ReadOnlyTransaction => true,
        DatabaseErrorKind::Unknown => [
            "connection",
            "terminating",
            "the database system is",
            "too many clients",
            "recovery mode",
            "No space left",
        ]
        .iter()
        .any(|part| message.contains(part)),
        _ => false,
    }
}

/// Whether Postgres gave this statement up for the sake of others, or for the time it took.
fn is_contended(kind: &DatabaseErrorKind, message: &str) -> bool {
    matches!(kind, DatabaseErrorKind::SerializationFailure)
        || (matches!(kind, DatabaseErrorKind::Unknown)
            && ["canceling statement", "deadlock detected"].iter().any(|part| message.contains(part)))
}

/// Names the future of an async closure, so that it can be demanded to cross threads.
pub trait Work<T, R>: FnOnce(T) -> Self::Future {
    /// The future.
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

/// The pools of connections; clones share them.
#[derive(Clone)]
pub struct Store {
    pools: Arc<Pools>,
    server: Arc<Server>,
}

impl Store {
    /// At most `connections` for everybody. Connects only when asked for a connection.
    pub fn new(url: &SecretString, connections: usize) -> Result<Store, Error> {
        let server = Arc::new(Server::new(url.expose_secret())?);
        Ok(Store { pools: Arc::new(Pools::new(server.clone(), connections)?), server })
    }

    /// Gives this thread, which answers callers, connections of its own.
    pub fn add_thread_pool(&self) -> Result<(), Error> {
        self.pools.add_thread_pool()
    }

    /// Lets statements take their time: for a command, which nobody waits for at the other end.
    pub fn disable_hang_detection(&self) {
        self.server.disable_hang_detection();
    }

    /// A connection of the thread's own pool, or else of the one that is shared.
    pub async fn conn(&self) -> Result<Object<Conn>, Error> {
        self.pools.get().await
    }

    /// Runs `work` in one transaction: committed if it answers `Ok`, rolled back if `Err`. A refusal that is
    /// to be kept is therefore an `Ok(Err(refusal))`.
    pub async fn transaction<R, E, F>(&self, work: F) -> Result<R, E>
    where
        for<'c> F:
            AsyncFnOnce(&'c mut Conn) -> Result<R, E> + Work<&'c mut Conn, Result<R, E>, Future: Send> + Send,
        E: From<Error>,
    {
        self.transact(work).instrument(span()).await
    }

    /// As `transaction`, for statements that need not wait for each other's answers: `work` may send several at
    /// once (`try_join!`), and BEGIN goes along with the first of them. Should BEGIN itself be refused, what was
    /// sent with it may stand by itself; so this is for writes that are harmless one by one.
    pub async fn pipeline<R, E, F>(&self, work: F) -> Result<R, E>
    where
        for<'c> F: AsyncFnOnce(&'c Conn) -> Result<R, E> + Work<&'c Conn, Result<R, E>, Future: Send> + Send,
        E: From<Error>,
    {
        let pipelined = async {
            let mut open = Open(Some(self.conn().await?));
            let conn: &Conn = open.conn()?;
            let begin = async { run_command(conn, "BEGIN").await.map_err(E::from) };
            // In this order: nothing is sent before BEGIN.
            let both = async { try_join(begin, work(conn)).await.map(|((), value)| value) };
            let (result, waiting) = postgres::after_commit::gather(both).await;
            self.conclude(open, result, waiting).await
        };
        pipelined.instrument(span()).await
    }

    async fn transact<R, E, F>(&self, work: F) -> Result<R, E>
    where
        for<'c> F:
            AsyncFnOnce(&'c mut Conn) -> Result<R, E> + Work<&'c mut Conn, Result<R, E>, Future: Send> + Send,
        E: From<Error>,
    {
        let mut open = Open(Some(self.conn().await?));
        let conn = open.conn()?;
        run_command(conn, "BEGIN").await?;
        let (result, waiting) = postgres::after_commit::gather(work(conn)).await;
        self.conclude(open, result, waiting).await
    }

    /// COMMIT or ROLLBACK, depending on the result of the work.
    async fn conclude<R, E: From<Error>>(
        &self,
        mut open: Open,
        result: Result<R, E>,
        waiting: postgres::after_commit::Waiting,
    ) -> Result<R, E> {
        let conn = open.conn()?;
        let value = match result {
            Ok(value) => value,
            Err(err) => {
                match run_command(conn, "ROLLBACK").await {
                    Ok(()) if takes_writes(conn).await => open.close(),
                    Ok(()) => self.server.mark_all_stale(),
                    // Such a connection is of no use, and Postgres rolls back what it was at.
                    Err(rollback) => tracing::debug!(error = %rollback, "rolling back failed"),
                }
                return Err(err);
            }
        };
        run_command(conn, "COMMIT").await?;
        open.close();
        waiting.run();
        Ok(value)
    }

    /// Whether Postgres answers.
    pub async fn ping(&self) -> Result<(), Error> {
        let mut conn = self.conn().await?;
        diesel::sql_query("SELECT 1").execute(&mut conn).await?;
        Ok(())
    }

    /// How full all pools are together.
    pub fn status(&self) -> PoolStatus {
        self.pools.status()
    }

    /// Whether Postgres is there for good: it answers, and each connection is a session (`Error::Pooled`).
    pub async fn is_ready(&self) -> Result<(), Error> {
        postgres::pooler_check::check(&self.server).await?;
        self.ping().await
    }

    /// A connection outside the pool.
    async fn single(&self) -> Result<Conn, Error> {
        self.server.clone().establish().await.map_err(|err| Error::Unavailable(err.to_string()))
    }
}

/// Begins or ends a transaction.
async fn run_command(mut conn: &Conn, command: &'static str) -> Result<(), Error> {
    Ok(conn.batch_execute(command).await?)
}

/// What a trace shows of a transaction.
fn span() -> tracing::Span {
    telemetry::step(|| {
        tracing::info_span!(
            target: SPANS, "transaction", otel.kind = "client", db.system.name = "postgresql"
        )
    })
}

/// Whether the server that a transaction failed on still takes writes. diesel reports a refused write at once only if
/// the statement returns nothing.
async fn takes_writes(conn: &mut Conn) -> bool {
    #[derive(diesel::QueryableByName)]
    struct Reads {
        #[diesel(sql_type = diesel::sql_types::Bool)]
        only: bool,
    }
    let query = diesel::sql_query("SELECT current_setting('transaction_read_only')::bool AS only");
    matches!(query.get_result::<Reads>(conn).await, Ok(Reads { only: false }))
}
