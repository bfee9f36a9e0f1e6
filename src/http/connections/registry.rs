//! All open connections of the server, and who has to make room.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use metrics::{counter, gauge};

use super::connection::{Connection, Owner, WHOLE};
use super::group::Group;
use super::limits::Limits;

/// What a connection may hold without being counted; its share of the number of connections covers it.
pub const UNCOUNTED_BYTES: usize = 4 * 1024;

/// The longest head of a request: a token of 16 KiB, and as much again.
pub const LONGEST_HEAD: usize = 48 * 1024;

/// What actix reads before anybody wants it.
const LARGEST_BUFFER: usize = 128 * 1024;

/// How long somebody unverified may take for a request, and then again to read its answer.
const PATIENCE_WITH_STRANGERS: Duration = Duration::from_secs(20);

/// How long a verified caller may leave bytes of an answer unread.
const PATIENCE_WITH_CALLERS: Duration = Duration::from_secs(120);

/// All open connections of the server.
pub struct Connections {
    limits: Limits,
    trusted_proxies: Vec<IpNet>,
    started: Instant,
    hasher: RandomState,
    groups: Mutex<Groups>,
}

#[derive(Default)]
struct Groups {
    next_id: u64,
    strangers: Group,
    callers: Group,
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its bytes or its place were needed.
    Shed,
    /// The head of its request is longer than [`LONGEST_HEAD`].
    HeadTooLong,
}

impl Connections {
    /// No connections yet.
    pub fn new(limits: Limits, trusted_proxies: Vec<IpNet>) -> Arc<Connections> {
        gauge!("broker_http_connections_limit", "of" => "strangers").set(limits.strangers.connections as f64);
        gauge!("broker_http_connections_limit", "of" => "callers").set(limits.callers.connections as f64);
        gauge!("broker_http_bytes_limit", "of" => "strangers").set(limits.strangers.bytes as f64);
        gauge!("broker_http_bytes_limit", "of" => "callers").set(limits.callers.bytes as f64);
        Connections::started_at(Instant::now(), limits, trusted_proxies)
    }

    fn started_at(started: Instant, limits: Limits, trusted_proxies: Vec<IpNet>) -> Arc<Connections> {
        Arc::new(Connections {
            limits,
            trusted_proxies,
            started,
            hasher: RandomState::new(),
            groups: Mutex::default(),
        })
    }

    /// A new connection from this address. `None`: the address has too many that nobody verified.
    pub fn admit(&self, peer: IpAddr) -> Option<Arc<Connection>> {
        let peer = self.owner(peer);
        let mut groups = self.lock();
        let limit = &self.limits.strangers;
        let group = &mut groups.strangers;
        let owned = group.owned(peer);
        if matches!(peer, Owner::Address(_)) && owned >= limit.connections_of_one {
            counter!("broker_http_connections_shed_total", "reason" => "address").increment(1);
            return None;
        }
        if !group.make_room(peer, limit, self.now()) {
            return None;
        }
        groups.next_id += 1;
        let connection = Arc::new(Connection::new(groups.next_id, peer, self.now()));
        groups.strangers.insert(peer, connection.clone());
        Some(connection)
    }

    /// It is gone.
    pub fn remove(&self, connection: &Connection) {
        let mut groups = self.lock();
        groups.of(connection).remove(connection);
    }

    /// Bytes arrived; `readable`: they are HTTP, and not TLS.
    pub fn received(&self, connection: &Connection, bytes: &[u8], readable: bool) -> Result<(), Ending> {
        if connection.closed.load(Ordering::Acquire) {
            return Err(Ending::Shed);
        }
        let received = connection.received.fetch_add(bytes.len(), Ordering::Relaxed) + bytes.len();
        if received == bytes.len() {
            connection.since.store(self.now(), Ordering::Relaxed);
        }
        let is_handled = connection.handled.load(Ordering::Acquire);
        if readable && !is_handled && !connection.is_head_whole(bytes) && received > LONGEST_HEAD {
            return Err(Ending::HeadTooLong);
        }
        if received <= UNCOUNTED_BYTES {
            return Ok(());
        }
        let buffer = received.min(LARGEST_BUFFER).next_power_of_two();
        let buffer = connection.buffer.fetch_max(buffer, Ordering::Relaxed).max(buffer);
        // The buffer doubles when it is full, and for a moment there are two. A handler has what it took out besides, more
        // is on its way to it, and what is given back leaves gaps: five buffers are what was measured.
        self.count(connection, if is_handled { 5 * buffer + received } else { 2 * buffer })
    }

    /// A handler has the head of a request now; `has_body`: a body follows it.
    pub fn begin(&self, connection: &Connection, has_body: bool) {
        // The rest of a body that nobody reads is no head.
        connection.head.store(if has_body { WHOLE } else { 0 }, Ordering::Relaxed);
        connection.handled.store(true, Ordering::Release);
        connection.since.fetch_max(self.now(), Ordering::Relaxed);
    }

    /// It is known who asks: from now on the connection counts as theirs. `false`: they have too many.
    pub fn verified(&self, connection: &Connection, issuer: &str, subject: &str) -> bool {
        let identity = self.hasher.hash_one((issuer, subject));
        if connection.is_caller.load(Ordering::Acquire) {
            // Another identity on a connection that somebody shares: it stays with the first.
            return true;
        }
        let mut groups = self.lock();
        let limit = &self.limits.callers;
        let owner = match connection.peer {
            Owner::Proxy(_) => connection.peer,
            _ => Owner::Identity(identity),
        };
        let owned = groups.callers.owned(owner);
        let too_many = matches!(owner, Owner::Identity(_)) && owned >= limit.connections_of_one;
        if too_many || groups.callers.connections >= limit.connections {
            counter!("broker_http_connections_shed_total", "reason" => "callers").increment(1);
            return false;
        }
        if let Some(taken) = groups.strangers.take(connection.owner(), connection.id) {
            connection.identity.store(identity, Ordering::Relaxed);
            connection.is_caller.store(true, Ordering::Release);
            groups.callers.insert(owner, taken);
        }
        true
    }

    /// The handler has answered, with a body of so many bytes in memory; they count until they are written.
    pub fn answered(&self, connection: &Connection, bytes: usize) -> Result<(), Ending> {
        connection.received.store(0, Ordering::Relaxed);
        connection.since.store(self.now(), Ordering::Relaxed);
        connection.handled.store(false, Ordering::Release);
        self.count(connection, connection.buffer.load(Ordering::Relaxed) + bytes)
    }

    /// A piece of an answer was written, or has to wait for its reader: from then on their patience is counted.
    pub fn wrote(&self, connection: &Connection, is_written: bool) {
        let is_waiting = connection.since.load(Ordering::Relaxed) != 0;
        let is_answer = !connection.handled.load(Ordering::Acquire);
        if is_answer && is_written == is_waiting {
            connection.since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// All that was to be written is written.
    pub fn written(&self, connection: &Connection) {
        if connection.handled.load(Ordering::Acquire) || connection.received.load(Ordering::Relaxed) > 0 {
            return;
        }
        if connection.since.swap(0, Ordering::Relaxed) == 0 {
            return;
        }
        if connection.counted.load(Ordering::Relaxed) > 0 {
            let mut groups = self.lock();
            // The buffer stays as large as it was.
            let buffer = connection.buffer.load(Ordering::Relaxed).saturating_sub(UNCOUNTED_BYTES);
            groups.of(connection).recount(connection, buffer);
        }
        // Behind a proxy the next request of this connection may be anybody's.
        if matches!(connection.peer, Owner::Proxy(_)) && connection.is_caller.load(Ordering::Acquire) {
            let mut groups = self.lock();
            if let Some(taken) = groups.callers.take(connection.owner(), connection.id) {
                connection.is_caller.store(false, Ordering::Release);
                groups.strangers.insert(connection.peer, taken);
            }
        }
    }

    /// Ends what takes too long; call it about once a second.
    pub fn tend(&self) {
        let now = self.now();
        let mut groups = self.lock();
        let groups = &mut *groups;
        for (group, patience, of) in [
            (&mut groups.strangers, PATIENCE_WITH_STRANGERS, "strangers"),
            (&mut groups.callers, PATIENCE_WITH_CALLERS, "callers"),
        ] {
            for (owner, id) in group.waiting_longer_than(now, patience) {
                group.shed(owner, id, "time");
            }
            group.forgive();
            gauge!("broker_http_connections", "of" => of).set(group.connections as f64);
            gauge!("broker_http_bytes", "of" => of).set(group.bytes as f64);
        }
    }

    fn count(&self, connection: &Connection, bytes: usize) -> Result<(), Ending> {
        let counted = bytes.saturating_sub(UNCOUNTED_BYTES);
        if counted == connection.counted.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut groups = self.lock();
        let limit = match connection.is_caller.load(Ordering::Acquire) {
            true => &self.limits.callers,
            false => &self.limits.strangers,
        };
        let group = groups.of(connection);
        group.recount(connection, counted);
        let now = self.now();
        while group.bytes > limit.bytes && !connection.closed.load(Ordering::Acquire) {
            // This connection's own task is running, so that its memory is given back at once.
            let other = if group.is_clogged(limit) { None } else { group.most_bytes(now) };
            let (owner, id) = other.unwrap_or((connection.owner(), connection.id));
            group.shed(owner, id, "bytes");
        }
        match connection.closed.load(Ordering::Acquire) {
            true => Err(Ending::Shed),
            false => Ok(()),
        }
    }

    fn owner(&self, peer: IpAddr) -> Owner {
        let peer = peer.to_canonical();
        if self.trusted_proxies.iter().any(|net| net.contains(&peer)) {
            return Owner::Proxy(peer);
        }
        Owner::Address(match peer {
            IpAddr::V4(_) => peer,
            IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        })
    }

    /// Never 0, which means that a connection is idle.
    fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64 + 1
    }

    fn lock(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Groups {
    fn of(&mut self, connection: &Connection) -> &mut Group {
        match connection.is_caller.load(Ordering::Acquire) {
            true => &mut self.callers,
            false => &mut self.strangers,
        }
    }
}

#[cfg(test)]
mod tests;
