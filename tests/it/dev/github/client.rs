//! A client that sees every byte, and holds each whole answer against GitHub's description.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use runner_broker::clock::Clock;
use runner_broker::dev::github::{GitHub, Settings};
use serde_json::{Value, json};

use super::schema;

/// A GitHub with `octo-org` and `octo-org/hello`, and its clock.
pub struct World {
    pub github: GitHub,
    pub clock: Clock,
}

pub struct Answer {
    pub status: u16,
    head: String,
    pub raw: Vec<u8>,
    pub body: Value,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    pub fn number(&self, name: &str) -> i64 {
        self.header(name).unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
    }

    pub fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }
}

impl World {
    pub fn new() -> World {
        World::with(Settings::default())
    }

    pub fn with(settings: Settings) -> World {
        let clock = settings.clock.clone();
        let github = GitHub::start(settings).unwrap();
        github.add_org("Octo-Org");
        github.add_repo("Octo-Org/hello");
        World { github, clock }
    }

    /// A good App JWT.
    pub fn jwt(&self) -> String {
        let now = self.clock.now().timestamp();
        self.jwt_of(json!({ "iss": self.github.app_id(), "iat": now - 60, "exp": now + 540 }))
    }

    pub fn jwt_of(&self, claims: Value) -> String {
        let key = EncodingKey::from_rsa_pem(self.github.private_key_pem().as_bytes()).unwrap();
        jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims, &key).unwrap()
    }

    /// A token of `octo-org`'s installation with these permissions; none: all.
    pub fn token(&self, body: Value) -> String {
        let id = self.github.installation_id("octo-org").unwrap();
        let made = self.ask("POST", &format!("/app/installations/{id}/access_tokens"), &self.jwt(), body);
        assert_eq!(made.status, 201, "{:#}", made.body);
        made.body["token"].as_str().unwrap().to_owned()
    }

    pub fn ask(&self, method: &str, path: &str, bearer: &str, body: Value) -> Answer {
        self.ask_with(method, path, bearer, body, "")
    }

    pub fn get(&self, path: &str, bearer: &str) -> Answer {
        self.ask("GET", path, bearer, Value::Null)
    }

    /// As `ask`, with more header lines, each ending in `\r\n`.
    pub fn ask_with(&self, method: &str, path: &str, bearer: &str, body: Value, headers: &str) -> Answer {
        let answer = self.unchecked(method, path, bearer, body, headers);
        schema::check(method, path, answer.status, &answer.raw);
        answer
    }

    /// As `ask_with`, for answers that GitHub would not describe.
    pub fn unchecked(&self, method: &str, path: &str, bearer: &str, body: Value, headers: &str) -> Answer {
        let headers = format!("Connection: close\r\n{headers}");
        let bytes = self.bytes(method, path, bearer, body, &headers);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, rest) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head in '{text}'"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let raw = rest.as_bytes().to_vec();
        let body = serde_json::from_slice(&raw).unwrap_or_default();
        Answer { status, head: head.to_owned(), raw, body }
    }

    /// All that comes before the server closes the connection, which it is not asked to.
    pub fn bytes(&self, method: &str, path: &str, bearer: &str, body: Value, headers: &str) -> Vec<u8> {
        let mut stream = self.send(method, path, bearer, body, headers);
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        bytes
    }

    /// Sends and does not wait; reading gives up after a while.
    pub fn send(&self, method: &str, path: &str, bearer: &str, body: Value, headers: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.github.url().trim_start_matches("http://")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let host = self.github.url().trim_start_matches("http://");
        // One write: pieces would wait for each other's acknowledgement.
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: test\r\nAuthorization: Bearer {bearer}\r\n\
             Content-Length: {}\r\n{headers}\r\n{body}",
            body.len(),
        );
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    /// Asks for a JIT runner of `octo-org`.
    pub fn jit(&self, token: &str, name: &str) -> Answer {
        let body = json!({ "name": name, "runner_group_id": 1, "labels": ["self-hosted", "Linux", "GPU"] });
        self.ask("POST", "/orgs/octo-org/actions/runners/generate-jitconfig", token, body)
    }
}
