//! The pools of connections: one that everybody shares, and one of its own for each thread that answers callers.
//!
//! A connection is driven where it was made. Driven by another thread than the one that waits for its answer, each
//! statement wakes both in turn, which costs more than the statement itself.
//!
//! Each HTTP thread has four connections that it drives itself: what it reads wakes no other thread. Work that must
//! end although its caller has gone (a provision, the loops) uses the eight shared connections per core.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use diesel_async::pooled_connection::deadpool::{Hook, HookError, Object, Pool};
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod};
use tokio::runtime::Handle;

use super::connect::Server;
use crate::store::{Conn, Error};

/// How long a caller waits for a connection.
const CHECKOUT_TIMEOUT: Duration = Duration::from_secs(5);

/// The connections of a thread: as many statements as it may wait for at the same time.
const MAX_OF_A_THREAD: usize = 4;

thread_local! {
    /// This thread's own, by what they connect to.
    static THREAD_POOLS: RefCell<Vec<(Arc<Server>, Pool<Conn>)>> = const { RefCell::new(Vec::new()) };
}

/// How full the pool of a thread is; `None`: the thread has ended.
type Look = Box<dyn Fn() -> Option<PoolStatus> + Send + Sync>;

/// How full the pools are.
#[derive(Clone, Copy, Debug)]
pub struct PoolStatus {
    /// Connections that are open.
    pub size: usize,
    /// Those that nobody uses.
    pub available: usize,
    /// Callers that wait for one.
    pub waiting: usize,
}

/// All pools of a `Store`.
pub(in crate::store) struct Pools {
    server: Arc<Server>,
    shared: Pool<Conn>,
    own: Mutex<Vec<Look>>,
}

impl Pools {
    /// At most `connections` are shared. Connects only when asked for a connection.
    pub fn new(server: Arc<Server>, connections: usize) -> Result<Pools, Error> {
        let shared = pool(&server, connections)?;
        Ok(Pools { server, shared, own: Mutex::default() })
    }

    /// Gives this thread, which must drive a runtime by itself, a pool of its own.
    pub fn add_thread_pool(&self) -> Result<(), Error> {
        let pool = pool(&self.server, MAX_OF_A_THREAD)?;
        let weak = pool.weak();
        self.registered().push(Box::new(move || weak.upgrade().as_ref().map(status)));
        THREAD_POOLS.with_borrow_mut(|own| own.push((self.server.clone(), pool)));
        Ok(())
    }

    /// One of this thread's own or, if it has none, of those that are shared.
    pub async fn get(&self) -> Result<Object<Conn>, Error> {
        let own = THREAD_POOLS.with_borrow(|own| {
            let ours = own.iter().find(|(server, _)| Arc::ptr_eq(server, &self.server));
            ours.map(|(_, pool)| pool.clone())
        });
        match tokio::time::timeout(CHECKOUT_TIMEOUT, own.as_ref().unwrap_or(&self.shared).get()).await {
            Ok(conn) => Ok(conn?),
            Err(_) => Err(Error::Unavailable("no connection became free in time".into())),
        }
    }

    /// All of them together.
    pub fn status(&self) -> PoolStatus {
        let mut sum = status(&self.shared);
        self.registered().retain(|look| {
            let one = look();
            if let Some(one) = one {
                sum.size += one.size;
                sum.available += one.available;
                sum.waiting += one.waiting;
            }
            one.is_some()
        });
        sum
    }

    fn registered(&self) -> MutexGuard<'_, Vec<Look>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn status(pool: &Pool<Conn>) -> PoolStatus {
    let status = pool.status();
    PoolStatus { size: status.size, available: status.available, waiting: status.waiting }
}

/// A pool whose connections are driven by the runtime that makes it, even if others use them.
fn pool(server: &Arc<Server>, connections: usize) -> Result<Pool<Conn>, Error> {
    let mut config = ManagerConfig::default();
    config.recycling_method = RecyclingMethod::Fast;
    let (runtime, maker) = (Handle::current(), server.clone());
    config.custom_setup = Box::new(move |_| {
        let establishing = runtime.spawn(maker.clone().establish());
        Box::pin(async move {
            establishing
                .await
                .unwrap_or_else(|err| Err(diesel::ConnectionError::BadConnection(err.to_string())))
        })
    });
    // The URL stays with `server`; diesel could read none that names several hosts.
    let manager = AsyncDieselConnectionManager::new_with_config("", config);
    let judge = server.clone();
    let fresh = Hook::sync_fn(move |_, metrics| match judge.is_stale(metrics.created) {
        true => Err(HookError::message("it leads to a server that only reads")),
        false => Ok(()),
    });
    Pool::builder(manager)
        .max_size(connections)
        .pre_recycle(fresh)
        .build()
        .map_err(|err| Error::Unavailable(err.to_string()))
}
