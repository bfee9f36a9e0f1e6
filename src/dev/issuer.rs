//! An OpenID provider for development and tests: publishes keys, signs what it is told to, fails on command.

mod keys;
mod people;
mod server;
mod token;

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Deref;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::clock::Clock;
use keys::Keys;

pub use keys::Alg;
pub use people::{AUTHORIZE, CLIENT_ID, CLIENT_SECRET, USERINFO};
pub use server::Fault;
pub use token::Token;

/// Where the discovery document is.
pub const DISCOVERY: &str = "/.well-known/openid-configuration";
/// Where the keys are.
pub const KEYS: &str = "/keys";
/// Where codes are exchanged and, without one, anybody gets any token signed by POST: `sub`, `audience`, `claims`,
/// as JSON or as a form.
pub const TOKEN: &str = "/token";

/// How the issuer begins.
#[derive(Clone, Debug)]
pub struct Settings {
    /// On 127.0.0.1; 0: a free one.
    pub port: u16,
    /// The `aud` of tokens that are minted without one.
    pub audience: String,
    pub clock: Clock,
}

/// A running issuer; stops when dropped.
pub struct Running {
    issuer: Arc<Issuer>,
    _server: server::Server,
}

impl Deref for Running {
    type Target = Issuer;

    fn deref(&self) -> &Issuer {
        &self.issuer
    }
}

/// What the issuer knows, for its owner and its HTTP side alike.
pub struct Issuer {
    url: String,
    audience: String,
    clock: Clock,
    /// Keys that are never published.
    stranger: Keys,
    state: watch::Sender<State>,
}

#[derive(Default)]
struct State {
    /// How many generations of keys there were.
    rotations: usize,
    /// Those published, the newest last: it signs.
    generations: Vec<Keys>,
    faults: HashMap<String, Fault>,
    calls: HashMap<String, usize>,
    issued: Vec<String>,
    /// By how many seconds its answers' `Date` is ahead.
    ahead: i64,
    people: people::People,
}

/// The RSA key that all strangers of the process share; no issuer rotates this often.
const STRANGER: usize = 1;

impl Issuer {
    /// Starts an issuer on 127.0.0.1, in a thread of its own.
    pub fn start(settings: Settings) -> io::Result<Running> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, settings.port))?;
        let issuer = Arc::new(Issuer {
            url: format!("http://{}", listener.local_addr()?),
            audience: settings.audience,
            clock: settings.clock,
            stranger: Keys::generate("stranger".into(), STRANGER).map_err(io::Error::other)?,
            state: watch::Sender::default(),
        });
        issuer.rotate(false)?;
        let server = server::start(issuer.clone(), listener)?;
        Ok(Running { issuer, _server: server })
    }

    /// What `iss` says.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The discovery document (OpenID Connect Discovery 1.0, 3).
    pub fn discovery(&self) -> Value {
        json!({
            "issuer": self.url,
            "jwks_uri": format!("{}{KEYS}", self.url),
            "authorization_endpoint": format!("{}{AUTHORIZE}", self.url),
            "token_endpoint": format!("{}{TOKEN}", self.url),
            "userinfo_endpoint": format!("{}{USERINFO}", self.url),
            "response_types_supported": ["code", "id_token"],
            "grant_types_supported": ["authorization_code"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": true,
            "scopes_supported": ["openid", "profile", "email"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256", "ES256", "ES384", "EdDSA"],
        })
    }

    /// The key set as published now (RFC 7517).
    pub fn keys(&self) -> Value {
        let state = self.state.borrow();
        json!({ "keys": state.generations.iter().flat_map(Keys::published).collect::<Vec<_>>() })
    }

    /// Begins to sign with new keys; the old ones stay published or are withdrawn.
    pub fn rotate(&self, keep_old: bool) -> io::Result<()> {
        let rotation = self.state.borrow().rotations;
        // Key ids differ between issuers, as they do outside.
        let name = format!("{}-{rotation}", uuid::Uuid::now_v7().simple());
        let generation = if rotation < STRANGER { rotation } else { rotation + 1 };
        let keys = Keys::generate(name, generation).map_err(io::Error::other)?;
        self.state.send_modify(|state| {
            state.rotations += 1;
            if !keep_old {
                state.generations.clear();
            }
            state.generations.push(keys);
        });
        Ok(())
    }

    /// A good token with these claims on top of the usual ones; null takes a claim out.
    pub fn mint(&self, claims: Value) -> String {
        let claims = match claims {
            Value::Object(claims) => claims,
            _ => Map::new(),
        };
        claims.into_iter().fold(self.token(), |token, (name, value)| token.claim(&name, value)).mint()
    }

    /// A token to be changed in every way before it is minted.
    pub fn token(&self) -> Token<'_> {
        let now = self.clock.now().timestamp();
        let usual = [
            ("iss", json!(self.url)),
            ("aud", json!(self.audience)),
            ("sub", json!("dev")),
            ("iat", json!(now)),
            ("exp", json!(now + 3600)),
        ];
        Token::new(self, usual.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// Lets a path fail from now on, or with `None` work again.
    pub fn fail(&self, path: &str, fault: impl Into<Option<Fault>>) {
        let fault = fault.into();
        self.state.send_modify(|state| match fault {
            Some(fault) => drop(state.faults.insert(path.to_owned(), fault)),
            None => drop(state.faults.remove(path)),
        });
    }

    /// From now on its clock is so many seconds ahead, as its answers tell the time.
    pub fn set_ahead(&self, seconds: i64) {
        self.state.send_modify(|state| state.ahead = seconds);
    }

    /// How often a path was asked for, failures included.
    pub fn calls(&self, path: &str) -> usize {
        self.state.borrow().calls.get(path).copied().unwrap_or(0)
    }

    /// Waits until a path was asked for so often.
    pub async fn called(&self, path: &str, times: usize) {
        let mut changes = self.state.subscribe();
        // The sender lives in `self`.
        let _ = changes.wait_for(|state| state.calls.get(path).is_some_and(|calls| *calls >= times)).await;
    }

    /// All tokens that were minted, to search logs and tables for.
    pub fn issued(&self) -> Vec<String> {
        self.state.borrow().issued.clone()
    }
}
