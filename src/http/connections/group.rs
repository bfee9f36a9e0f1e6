//! Connections under one limit, by whom they belong to, and which of them make room for others.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use metrics::counter;

use super::connection::{Connection, Owner};
use super::limits::Share;

/// In milliseconds: what is older makes room for what comes, also for more of the same.
const ROOM_AFTER: u64 = 1000;

/// Of so many addresses it is remembered that they were refused.
const MOST_REFUSED: usize = 10_000;

/// Connections under one limit.
#[derive(Default)]
pub(super) struct Group {
    pub connections: usize,
    pub bytes: usize,
    /// What was shed and is not gone yet: its memory is, once its task has run.
    shed_connections: usize,
    shed_bytes: usize,
    /// Who was refused a connection lately, and how often.
    refused: HashMap<Owner, usize>,
    owners: HashMap<Owner, Owned>,
}

#[derive(Default)]
struct Owned {
    bytes: usize,
    connections: BTreeMap<u64, Arc<Connection>>,
}

impl Group {
    /// How many connections this owner has.
    pub fn owned(&self, owner: Owner) -> usize {
        self.owners.get(&owner).map_or(0, |owned| owned.connections.len())
    }

    /// Adds a connection.
    pub fn insert(&mut self, owner: Owner, connection: Arc<Connection>) {
        let counted = connection.counted.load(Ordering::Relaxed);
        self.connections += 1;
        self.bytes += counted;
        let owned = self.owners.entry(owner).or_default();
        owned.bytes += counted;
        owned.connections.insert(connection.id, connection);
    }

    /// Takes one out; nothing if it is not here any more.
    pub fn take(&mut self, owner: Owner, id: u64) -> Option<Arc<Connection>> {
        let owned = self.owners.get_mut(&owner)?;
        let connection = owned.connections.remove(&id)?;
        let counted = connection.counted.load(Ordering::Relaxed);
        self.connections -= 1;
        self.bytes -= counted;
        owned.bytes -= counted;
        if owned.connections.is_empty() {
            self.owners.remove(&owner);
        }
        Some(connection)
    }

    /// It holds so many bytes now. Nothing happens if it was shed.
    pub fn recount(&mut self, connection: &Connection, counted: usize) {
        let Some(owned) = self.owners.get_mut(&connection.owner()) else { return };
        if !owned.connections.contains_key(&connection.id) {
            return;
        }
        let before = connection.counted.swap(counted, Ordering::Relaxed);
        self.bytes = self.bytes - before + counted;
        owned.bytes = owned.bytes - before + counted;
    }

    /// A connection is gone, and so is its memory.
    pub fn remove(&mut self, connection: &Connection) {
        if self.take(connection.owner(), connection.id).is_none() {
            self.shed_connections -= 1;
            self.shed_bytes -= connection.counted.load(Ordering::Relaxed);
        }
    }

    /// Whether so much is waiting to be gone that nothing may come in its place yet.
    pub fn is_clogged(&self, limit: &Share) -> bool {
        self.shed_connections > limit.connections / 4 || self.shed_bytes > limit.bytes / 4
    }

    /// Takes one out and ends it.
    pub fn shed(&mut self, owner: Owner, id: u64, reason: &'static str) {
        if let Some(connection) = self.take(owner, id) {
            counter!("broker_http_connections_shed_total", "reason" => reason).increment(1);
            self.shed_connections += 1;
            self.shed_bytes += connection.counted.load(Ordering::Relaxed);
            connection.closed.store(true, Ordering::Release);
            connection.waker.wake();
        }
    }

    /// One that makes room for a newcomer: of those who have or want at least half as many as the greediest, the oldest
    /// that is not worked on, else the oldest. `None`: the newcomer is as greedy, and all are new, so that it is a flood
    /// which would only push out itself.
    fn makes_room_for(&self, newcomer: Owner, now: u64) -> Option<(Owner, u64)> {
        let most = self.owners.keys().map(|owner| self.greed(*owner)).max()?;
        let great = self.owners.iter().filter(|(owner, _)| self.greed(**owner) >= most.div_ceil(2));
        let all = great.flat_map(|(owner, owned)| owned.connections.values().map(|one| (*owner, one)));
        let (owner, oldest) = all.min_by_key(|(_, one)| (one.is_worked_on(), one.opened))?;
        let makes_room = self.greed(newcomer) + 1 < most || oldest.opened + ROOM_AFTER < now;
        makes_room.then_some((owner, oldest.id))
    }

    /// How many connections this owner has, and lately was refused.
    fn greed(&self, owner: Owner) -> usize {
        self.owned(owner) + self.refused.get(&owner).copied().unwrap_or(0)
    }

    /// Makes room for one more connection of this owner; `false`: there is none.
    pub fn make_room(&mut self, newcomer: Owner, limit: &Share, now: u64) -> bool {
        if self.connections < limit.connections {
            return true;
        }
        let other = if self.is_clogged(limit) { None } else { self.makes_room_for(newcomer, now) };
        match other {
            Some((owner, id)) => self.shed(owner, id, "connections"),
            None => {
                counter!("broker_http_connections_shed_total", "reason" => "connections").increment(1);
                if self.refused.len() >= MOST_REFUSED {
                    self.refused.clear();
                }
                *self.refused.entry(newcomer).or_default() += 1;
            }
        }
        other.is_some()
    }

    /// Refusals are forgotten by half; call it about once a second.
    pub fn forgive(&mut self) {
        self.refused.retain(|_, refused| {
            *refused /= 2;
            *refused > 0
        });
    }

    /// Of those who own at least half of the bytes of the greatest owner, the oldest request; `None`: it is new.
    pub fn most_bytes(&self, now: u64) -> Option<(Owner, u64)> {
        let most = self.owners.values().map(|owned| owned.bytes).max()?;
        let great = self.owners.iter().filter(|(_, owned)| owned.bytes >= most.div_ceil(2));
        let all = great.flat_map(|(owner, owned)| owned.connections.values().map(|one| (*owner, one)));
        let counted = all.filter(|(_, one)| one.counted.load(Ordering::Relaxed) > 0);
        let since = |one: &Connection| one.since.load(Ordering::Relaxed);
        let (owner, oldest) = counted.min_by_key(|(_, one)| since(one))?;
        (since(oldest) + ROOM_AFTER < now).then_some((owner, oldest.id))
    }

    /// Requests whose bytes, and answers whose reader, have been waited for longer than this.
    pub fn waiting_longer_than(&self, now: u64, patience: Duration) -> Vec<(Owner, u64)> {
        let is_late = |one: &Connection| {
            let since = one.since.load(Ordering::Relaxed);
            // What a verified caller waits for is the handler's matter.
            let is_ours = one.is_caller.load(Ordering::Relaxed) && one.handled.load(Ordering::Relaxed);
            since != 0 && !is_ours && now.saturating_sub(since) > patience.as_millis() as u64
        };
        let all =
            self.owners.iter().flat_map(|(owner, owned)| owned.connections.values().map(|one| (*owner, one)));
        all.filter(|(_, one)| is_late(one)).map(|(owner, one)| (owner, one.id)).collect()
    }
}
