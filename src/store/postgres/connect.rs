//! One connection to Postgres: the host that takes it, the settings of its session, and who keeps an eye on it.

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

use super::tls;
use super::url::{Address, Url};
use crate::store::{Conn, Error};

/// No statement, lock or forgotten transaction of a frozen replica holds anybody up for longer.
/// Counts under a lock need each statement to see what the lock's last holder committed, whatever the server's
/// default is. Warnings must come: one of them takes a COMMIT back.
const SESSION: &str = "SET statement_timeout = '5s'; SET lock_timeout = '5s'; \
     SET idle_in_transaction_session_timeout = '5s'; SET TIME ZONE 'UTC'; \
     SET datestyle = 'ISO, YMD'; SET default_transaction_isolation = 'read committed'; \
     SET client_min_messages = 'warning'";

/// Within this a session must have its settings: a pooler may let us in long before it has a server for us.
const SETTLED: Duration = Duration::from_secs(5);

/// By then Postgres has ended any statement itself (`statement_timeout`), if it is still alive. The rest is for a
/// COMMIT that waits for a standby.
const SILENT: Duration = Duration::from_secs(10);

/// How to connect, and what is known about the connections there are.
pub struct Server {
    url: Url,
    tls: Option<tls::Connector>,
    /// The host that took the last connection: the others may be down, and waiting for that takes time.
    last: AtomicUsize,
    /// Connections that were made before this moment are of no use: one of them was told that it may only read.
    stale: Mutex<Option<Instant>>,
    patient: AtomicBool,
}

impl Server {
    /// Parses the URL and reads the files that it names; connects nowhere.
    pub fn new(url: &str) -> Result<Server, Error> {
        let url = Url::parse(url).map_err(Error::Url)?;
        let plain = url.tls == super::url::Tls::default();
        // The system's roots may be missing where nobody needs them.
        let tls = if plain { None } else { Some(tls::Connector::new(&url.tls).map_err(Error::Url)?) };
        Ok(Server {
            url,
            tls,
            last: AtomicUsize::new(0),
            stale: Mutex::default(),
            patient: AtomicBool::new(false),
        })
    }

    /// Statements may take as long as they do: for commands that read everything.
    pub fn be_patient(&self) {
        self.patient.store(true, Ordering::Relaxed);
    }

    /// Whether a connection that was made then is to be thrown away.
    pub fn is_stale(&self, made: Instant) -> bool {
        self.stale.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|since| made <= since)
    }

    /// The server was demoted: what is connected to it is of no use.
    pub fn all_are_stale(&self) {
        *self.stale.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// A connection with the settings of ours.
    pub async fn establish(self: Arc<Self>) -> diesel::ConnectionResult<Conn> {
        let failed = diesel::ConnectionError::BadConnection;
        let busy = Arc::new(Busy::default());
        let client = self.client_watched(busy.clone()).await.map_err(failed)?;
        let settle = async {
            let mut conn = Conn::try_from(client).await?;
            conn.batch_execute(SESSION).await.map_err(diesel::ConnectionError::CouldntSetupConfiguration)?;
            Ok(conn)
        };
        let mut conn = timeout(SETTLED, settle)
            .await
            .unwrap_or_else(|_| Err(failed("the connection was made, but no session in time".into())))?;
        conn.set_instrumentation(Watch { server: self, busy });
        Ok(conn)
    }

    /// A connection without settings, past diesel.
    pub async fn client(&self) -> Result<Client, String> {
        self.client_watched(Arc::default()).await
    }

    async fn client_watched(&self, busy: Arc<Busy>) -> Result<Client, String> {
        let tls = match &self.tls {
            Some(tls) => tls.clone(),
            None => tls::Connector::new(&self.url.tls)?,
        };
        let hosts = &self.url.hosts;
        let first = self.last.load(Ordering::Relaxed);
        let mut whys = Vec::new();
        for at in (first..first + hosts.len()).map(|at| at % hosts.len()) {
            let host = &hosts[at];
            match self.enter(host, &tls, &busy).await {
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
    async fn enter(&self, host: &Address, tls: &tls::Connector, busy: &Arc<Busy>) -> Result<Client, String> {
        let Some((name, port)) = &host.lookup else {
            return self.enter_at(host.config.clone(), tls, busy).await;
        };
        let found = timeout(self.url.patience, tokio::net::lookup_host((name.as_str(), *port))).await;
        let found: Vec<SocketAddr> = match found {
            Ok(Ok(found)) => found.collect(),
            Ok(Err(err)) => return Err(format!("its address cannot be found: {err}")),
            Err(_) => return Err("its address was not found in time".into()),
        };
        let mut last = "it has no address".to_owned();
        for address in found {
            let mut config = host.config.clone();
            config.hostaddr(address.ip());
            match self.enter_at(config, tls, busy).await {
                Ok(client) => return Ok(client),
                Err(why) => last = why,
            }
        }
        Err(last)
    }

    async fn enter_at(
        &self,
        config: Config,
        tls: &tls::Connector,
        busy: &Arc<Busy>,
    ) -> Result<Client, String> {
        match timeout(self.url.patience, config.connect(tls.clone())).await {
            Ok(Ok((client, connection))) => {
                let patient = self.patient.load(Ordering::Relaxed);
                tokio::spawn(drive(connection, busy.clone(), patient));
                Ok(client)
            }
            Ok(Err(err)) => Err(chain(&err)),
            Err(_) => Err("no answer in time".into()),
        }
    }
}

/// Moves a connection's bytes, and ends it when the server leaves a statement unanswered: it hangs, or its machine
/// is gone. Whoever waits then hears that the connection is closed.
async fn drive(
    mut connection: Connection<Socket, <tls::Connector as MakeTlsConnect<Socket>>::Stream>,
    busy: Arc<Busy>,
    patient: bool,
) {
    let over = poll_fn(|cx| {
        loop {
            match ready!(connection.poll_message(cx)) {
                Some(Ok(AsyncMessage::Notice(notice))) if takes_back(&notice) => {
                    tracing::warn!(
                        notice = notice.message(),
                        "the database gave up waiting for its standby; the transaction does not count as done"
                    );
                    // It says so before it says that the COMMIT is done: nobody hears the latter.
                    return Poll::Ready(None);
                }
                Some(Ok(_)) => {}
                Some(Err(err)) => return Poll::Ready(Some(chain(&err))),
                None => return Poll::Ready(None),
            }
        }
    });
    let hangs = async {
        let mut glances = interval(Duration::from_secs(1));
        glances.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            glances.tick().await;
            if !patient && busy.since() > SILENT {
                return;
            }
        }
    };
    tokio::select! {
        why = over => if let Some(why) = why {
            tracing::debug!(why, "a connection to the database ended");
        },
        () = hangs => tracing::warn!("the database left a statement unanswered; its connection is given up"),
    }
}

/// Whether a notice says that a COMMIT did not wait for its synchronous standby: somebody cancelled it, or stops the
/// server. Postgres then calls it done all the same, although a promoted standby may know nothing of it. A cancelled
/// wait has no SQLSTATE of its own, and its text may be in any language: what tells is the function that said it.
fn takes_back(notice: &DbError) -> bool {
    [SqlState::QUERY_CANCELED, SqlState::ADMIN_SHUTDOWN].contains(notice.code())
        || notice.routine() == Some("SyncRepWaitForLSN")
}

/// Since when a connection's statement has been waiting for its answer.
struct Busy {
    begun: Instant,
    /// Milliseconds after `begun`, plus one; 0: there is none.
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

/// Hears of each statement of a connection. Looks at no query.
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
                    self.server.all_are_stale();
                }
            }
            _ => {}
        }
    }
}

/// An error with its causes; tokio-postgres keeps the telling part in the source. Never holds the URL.
pub fn chain(err: &dyn std::error::Error) -> String {
    let mut text = err.to_string();
    let mut source = err.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
