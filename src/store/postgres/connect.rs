//! One connection to Postgres: the choice of its host, the settings of its session, and the detection of hangs.
//!
//! Hosts are tried in turn from the one that took the last connection, each address for 2 s (5 s for an only host).
//! A connection is given up when it breaks (TCP probes notice a lost machine within 6 s); when a write is refused as
//! read-only, with every older connection; and when a statement of the service is unanswered for 10 s, twice
//! Postgres' own limit. The last includes a COMMIT that waits for a synchronous standby: its outcome is unknown, and
//! nothing is handed out. If that wait is cut short, Postgres says so in a warning only, which ends the connection.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use diesel::connection::{Instrumentation, InstrumentationEvent};
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel_async::{AsyncConnection, SimpleAsyncConnection};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::tls;
use super::url::{Address, Url};
use crate::model::with_causes;
use crate::store::{Conn, Error};

/// The settings of each session. The timeouts bound how long a frozen replica can hold up the others. READ COMMITTED,
/// because counts under a lock must see what the lock's last holder committed. Warnings are needed: one of them says
/// that a COMMIT does not count, see [`is_unconfirmed_commit`].
const SESSION_SETTINGS: &str = "SET statement_timeout = '5s'; SET lock_timeout = '5s'; \
     SET idle_in_transaction_session_timeout = '5s'; SET TIME ZONE 'UTC'; \
     SET datestyle = 'ISO, YMD'; SET default_transaction_isolation = 'read committed'; \
     SET client_min_messages = 'warning'";

/// The longest time from a connection to a session with its settings: a pooler may accept us long before it has a
/// server for us.
const SESSION_TIMEOUT: Duration = Duration::from_secs(5);

/// A statement that is unanswered for this long means that the server is gone: Postgres itself ends statements after
/// `statement_timeout`, and the rest is for a COMMIT that waits for a standby.
const HANG_TIMEOUT: Duration = Duration::from_secs(10);

/// How to connect, and what is known about the connections there are.
pub struct Server {
    url: Url,
    tls: Option<MakeRustlsConnect>,
    /// The host that accepted the last connection. It is tried first, because the others may be down.
    last: AtomicUsize,
    /// Connections made before this moment lead to a server that has become read-only.
    stale: Mutex<Option<Instant>>,
    hang_detection: AtomicBool,
}

impl Server {
    /// Parses the URL and reads the files that it names; connects nowhere.
    pub fn new(url: &str) -> Result<Server, Error> {
        let url = Url::parse(url).map_err(Error::Url)?;
        let plain = url.tls == super::url::Tls::default();
        // The system's roots may be missing where nobody needs them.
        let tls = if plain { None } else { Some(tls::connector(&url.tls).map_err(Error::Url)?) };
        Ok(Server {
            url,
            tls,
            last: AtomicUsize::new(0),
            stale: Mutex::default(),
            hang_detection: AtomicBool::new(true),
        })
    }

    /// Lets statements take as long as they need, on connections that are made from now on: for commands that read
    /// everything.
    pub fn disable_hang_detection(&self) {
        self.hang_detection.store(false, Ordering::Relaxed);
    }

    /// Whether a connection that was made at this moment must not be used again.
    pub fn is_stale(&self, made: Instant) -> bool {
        self.stale.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|since| made <= since)
    }

    /// Marks all connections that there are as stale: their server has become read-only.
    pub fn mark_all_stale(&self) {
        *self.stale.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// A connection with [`SESSION_SETTINGS`].
    pub async fn establish(self: Arc<Self>) -> diesel::ConnectionResult<Conn> {
        let failed = diesel::ConnectionError::BadConnection;
        let busy = Arc::new(Busy::default());
        let client = self.client_watched(busy.clone()).await.map_err(failed)?;
        let settle = async {
            let mut conn = Conn::try_from(client).await?;
            conn.batch_execute(SESSION_SETTINGS)
                .await
                .map_err(diesel::ConnectionError::CouldntSetupConfiguration)?;
            Ok(conn)
        };
        let mut conn = timeout(SESSION_TIMEOUT, settle)
            .await
            .unwrap_or_else(|_| Err(failed("the connection was made, but no session in time".into())))?;
        conn.set_instrumentation(Watch { server: self, busy });
        Ok(conn)
    }

    /// A connection without these settings, for tokio-postgres.
    pub async fn client(&self) -> Result<Client, String> {
        self.client_watched(Arc::default()).await
    }

    async fn client_watched(&self, busy: Arc<Busy>) -> Result<Client, String> {
        let tls = match &self.tls {
            Some(tls) => tls.clone(),
            None => tls::connector(&self.url.tls)?,
        };
        let hosts = &self.url.hosts;
        let first = self.last.load(Ordering::Relaxed);
        let mut whys = Vec::new();
        for at in (first..first + hosts.len()).map(|at| at % hosts.len()) {
            let host = &hosts[at];
            match self.connect_to(host, &tls, &busy).await {
                Ok(client) => {
                    if self.last.swap(at, Ordering::Relaxed) != at {
                        tracing::warn!(
                            host = host.name,
                            instead_of = hosts[first].name,
                            "another database host"
                        );
                    }
                    return Ok(client);
                }
                Err(why) if hosts.len() == 1 => return Err(why),
                Err(why) => whys.push(format!("{}: {why}", host.name)),
            }
        }
        Err(whys.join("; "))
    }

    /// Tries all addresses of a host, each for as long as an address may take.
    async fn connect_to(
        &self,
        host: &Address,
        tls: &MakeRustlsConnect,
        busy: &Arc<Busy>,
    ) -> Result<Client, String> {
        let Some((name, port)) = &host.lookup else {
            return self.connect_at(host.config.clone(), tls, busy).await;
        };
        let found = timeout(self.url.connect_timeout, tokio::net::lookup_host((name.as_str(), *port))).await;
        let found: Vec<SocketAddr> = match found {
            Ok(Ok(found)) => found.collect(),
            Ok(Err(err)) => return Err(format!("its address cannot be found: {err}")),
            Err(_) => return Err("its address was not found in time".into()),
        };
        let mut last = "it has no address".to_owned();
        for address in found {
            let mut config = host.config.clone();
            config.hostaddr(address.ip());
            match self.connect_at(config, tls, busy).await {
                Ok(client) => return Ok(client),
                Err(why) => last = why,
            }
        }
        Err(last)
    }

    async fn connect_at(
        &self,
        config: Config,
        tls: &MakeRustlsConnect,
        busy: &Arc<Busy>,
    ) -> Result<Client, String> {
        match timeout(self.url.connect_timeout, config.connect(tls.clone())).await {
            Ok(Ok((client, connection))) => {
                let detect_hangs = self.hang_detection.load(Ordering::Relaxed);
                tokio::spawn(drive(connection, busy.clone(), detect_hangs));
                Ok(client)
            }
            Ok(Err(err)) => Err(with_causes(&err)),
            Err(_) => Err("no answer in time".into()),
        }
    }
}

/// Moves a connection's bytes, and closes it when the server leaves a statement unanswered for [`HANG_TIMEOUT`]: it
/// hangs, or its machine is gone. The statement then fails with a closed connection.
async fn drive(
    mut connection: Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>,
    busy: Arc<Busy>,
    detect_hangs: bool,
) {
    let over = poll_fn(|cx| {
        loop {
            match ready!(connection.poll_message(cx)) {
                Some(Ok(AsyncMessage::Notice(notice))) if is_unconfirmed_commit(&notice) => {
                    tracing::warn!(
                        notice = notice.message(),
                        "the database gave up waiting for its standby; the transaction does not count as done"
                    );
                    // This notice comes before the answer to COMMIT, which is dropped with the connection.
                    return Poll::Ready(None);
                }
                Some(Ok(_)) => {}
                Some(Err(err)) => return Poll::Ready(Some(with_causes(&err))),
                None => return Poll::Ready(None),
            }
        }
    });
    let hangs = async {
        let mut checks = interval(Duration::from_secs(1));
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            checks.tick().await;
            if detect_hangs && busy.since() > HANG_TIMEOUT {
                return;
            }
        }
    };
    tokio::select! {
        why = over => if let Some(why) = why {
            tracing::debug!(why, "a connection to the database ended");
        },
        () = hangs => tracing::warn!("the database left a statement unanswered; closing its connection"),
    }
}

/// Whether a notice says that a COMMIT did not wait for its synchronous standby, because somebody cancelled it or stops
/// the server. Postgres then still reports success, although a promoted standby may not have the transaction. A
/// cancelled wait has no SQLSTATE of its own and its text may be in any language, so the routine identifies it.
fn is_unconfirmed_commit(notice: &DbError) -> bool {
    [SqlState::QUERY_CANCELED, SqlState::ADMIN_SHUTDOWN].contains(notice.code())
        || notice.routine() == Some("SyncRepWaitForLSN")
}

/// How long a connection's statement has been waiting for its answer.
struct Busy {
    begun: Instant,
    /// Milliseconds after `begun`, plus one; 0: no statement is waiting.
    since: AtomicU64,
}

impl Default for Busy {
    fn default() -> Busy {
        Busy { begun: Instant::now(), since: AtomicU64::new(0) }
    }
}

impl Busy {
    fn start(&self) {
        self.since.store(self.now(), Ordering::Relaxed);
    }

    fn end(&self) {
        self.since.store(0, Ordering::Relaxed);
    }

    fn since(&self) -> Duration {
        match self.since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => Duration::from_millis(self.now().saturating_sub(since)),
        }
    }

    fn now(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64 + 1
    }
}

/// Notes when each statement of a connection begins and ends.
struct Watch {
    server: Arc<Server>,
    busy: Arc<Busy>,
}

impl Instrumentation for Watch {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        match event {
            InstrumentationEvent::StartQuery { .. } => self.busy.start(),
            InstrumentationEvent::FinishQuery { error, .. } => {
                self.busy.end();
                if let Some(DieselError::DatabaseError(DatabaseErrorKind::ReadOnlyTransaction, _)) = error {
                    self.server.mark_all_stale();
                }
            }
            _ => {}
        }
    }
}
