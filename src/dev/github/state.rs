//! What GitHub remembers: accounts, installations, tokens, and the runners of each scope. One mutex holds it.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::fault::Faults;
use super::limits::Meter;
use super::records::{
    Account, Call, Group, Hooks, Installation, People, Purpose, RunnerState, RunnerToken, Scope, Token,
};
use crate::clock::Clock;
use crate::model::Target;

/// The newest so many calls and secrets are remembered.
const REMEMBERED: usize = 100_000;

/// All that GitHub remembers.
pub(super) struct State {
    pub clock: Clock,
    pub app_id: u64,
    /// Whether the App's first key was deleted for another.
    pub key_rotated: bool,
    /// This server's address, as runners are told.
    pub url: String,
    pub accounts: BTreeMap<String, Account>,
    pub installations: BTreeMap<u64, Installation>,
    pub scopes: HashMap<Target, Scope>,
    /// Repositories that the App may not see, although it is installed.
    pub deselected: HashSet<Target>,
    pub tokens: HashMap<String, Token>,
    pub runner_tokens: HashMap<String, RunnerToken>,
    pub meter: Meter,
    pub faults: Faults,
    pub record: bool,
    /// How many of each secret were handed out.
    pub counts: BTreeMap<&'static str, u64>,
    calls: VecDeque<Call>,
    /// The number of the call that `calls` begins with.
    first_call: u64,
    issued: VecDeque<String>,
    next_id: u64,
    pub hooks: Hooks,
    pub people: People,
}

impl State {
    pub fn new(clock: Clock, app_id: u64, url: String, record: bool) -> State {
        State {
            clock,
            app_id,
            key_rotated: false,
            url,
            accounts: BTreeMap::new(),
            installations: BTreeMap::new(),
            scopes: HashMap::new(),
            deselected: HashSet::new(),
            tokens: HashMap::new(),
            runner_tokens: HashMap::new(),
            meter: Meter::default(),
            faults: Faults::default(),
            record,
            counts: BTreeMap::new(),
            calls: VecDeque::new(),
            first_call: 0,
            issued: VecDeque::new(),
            next_id: 1_000,
            hooks: Hooks::default(),
            people: People::default(),
        }
    }

    pub fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Makes the account of this login, with an installation that has all permissions, unless it is there.
    pub fn account(&mut self, login: &str, is_org: bool) {
        let key = login.to_lowercase();
        let id = self.next_id();
        let is_new = !self.accounts.contains_key(&key);
        let account = self.accounts.entry(key.clone()).or_insert_with(|| Account {
            login: login.into(),
            id,
            is_org,
            installation: None,
        });
        account.is_org |= is_org;
        if is_new {
            self.install(&key);
        }
    }

    /// Installs the App, anew if it was uninstalled. `None`: no such account.
    pub fn install(&mut self, login: &str) -> Option<u64> {
        let key = login.to_lowercase();
        if let Some(id) = self.accounts.get(&key)?.installation {
            return Some(id);
        }
        let id = self.next_id();
        let all = ["organization_self_hosted_runners", "administration", "actions"];
        let mut permissions: BTreeMap<_, _> = all.map(|name| (name.to_owned(), "write".to_owned())).into();
        permissions.insert("metadata".into(), "read".into());
        let created_at = self.clock.now();
        let installation =
            Installation { id, account: key.clone(), permissions, suspended_at: None, created_at };
        self.installations.insert(id, installation);
        self.accounts.get_mut(&key)?.installation = Some(id);
        Some(id)
    }

    pub fn installation_mut(&mut self, login: &str) -> Option<&mut Installation> {
        let id = self.accounts.get(&login.to_lowercase())?.installation?;
        self.installations.get_mut(&id)
    }

    pub fn installation(&self, login: &str) -> Option<&Installation> {
        self.installations.get(&self.accounts.get(&login.to_lowercase())?.installation?)
    }

    /// Makes room for runners, unless there is.
    pub fn scope(&mut self, target: Target, name: &str) -> &mut Scope {
        self.scopes.entry(target).or_insert_with(|| Scope {
            name: name.to_owned(),
            groups: vec![Group { id: 1, name: "Default".into(), open: true }],
            runners: BTreeMap::new(),
            by_name: HashMap::new(),
        })
    }

    pub fn new_runner(&mut self, name: &str, group_id: i64, labels: Vec<String>) -> RunnerState {
        RunnerState {
            id: self.next_id() as i64,
            name: name.to_owned(),
            os: "unknown".into(),
            online: false,
            busy: false,
            ephemeral: true,
            version: None,
            group_id,
            labels,
            jit: true,
            created_at: self.clock.now(),
            client_id: Uuid::from_u128(rand::random()),
        }
    }

    /// Remembers a secret that goes out.
    pub fn issue(&mut self, kind: &'static str, secret: &str) {
        *self.counts.entry(kind).or_default() += 1;
        if self.record {
            if self.issued.len() == REMEMBERED {
                self.issued.pop_front();
            }
            self.issued.push_back(secret.to_owned());
        }
    }

    pub fn issued(&self) -> Vec<String> {
        self.issued.iter().cloned().collect()
    }

    pub fn runner_token(&mut self, token: &str, target: Target, purpose: Purpose) -> DateTime<Utc> {
        let expires_at = self.clock.now() + TimeDelta::hours(1);
        self.runner_tokens.insert(token.to_owned(), RunnerToken { target, purpose, expires_at });
        expires_at
    }

    /// Notes a call that has arrived; its number is for `answered`.
    pub fn arrived(
        &mut self,
        method: &str,
        path: String,
        resource: &'static str,
        traceparent: Option<String>,
    ) -> u64 {
        if self.record {
            if self.calls.len() == REMEMBERED {
                self.calls.pop_front();
                self.first_call += 1;
            }
            let at = self.clock.now();
            self.calls.push_back(Call {
                method: method.into(),
                path,
                status: None,
                resource,
                at,
                traceparent,
            });
        }
        self.first_call + self.calls.len() as u64
    }

    pub fn answered(&mut self, number: u64, status: u16) {
        let place = number.checked_sub(self.first_call + 1).map(|place| place as usize);
        if let Some(call) = place.and_then(|place| self.calls.get_mut(place)) {
            call.status = Some(status);
        }
    }

    pub fn calls(&self) -> Vec<Call> {
        self.calls.iter().cloned().collect()
    }

    pub fn clear_calls(&mut self) {
        self.first_call += self.calls.len() as u64;
        self.calls.clear();
    }
}
