//! Something between a client and a broker: it fails as it is told to, and writes down what came by.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use reqwest::Method;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What happens to a request.
pub enum Act {
    /// Goes through.
    Pass,
    /// The connection closes before anybody saw it.
    Drop,
    /// It is done, and nobody learns of it.
    PassThenDrop,
    /// It is still being done when the connection closes.
    Abandon,
    /// Never an answer.
    Hang,
    /// Status, header lines, body.
    Answer(u16, &'static str, String),
}

impl Act {
    pub fn problem(status: u16, code: &str, headers: &'static str) -> Act {
        let problem = serde_json::json!({ "type": "about:blank", "title": "T", "status": status, "detail": "told to",
            "error_code": code, "request_id": "r-1" });
        Act::Answer(status, headers, problem.to_string())
    }
}

/// A request that came by.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub authorization: String,
    pub key: String,
    pub body: Value,
    /// As it came.
    raw: Vec<u8>,
}

pub struct Between {
    pub url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    server: JoinHandle<()>,
}

impl Drop for Between {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Between {
    /// In front of `target`: does these things in turn, and then lets everything pass.
    pub async fn start(target: &str, acts: Vec<Act>) -> Between {
        Between::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), target, acts)
    }

    pub fn on(listener: TcpListener, target: &str, acts: Vec<Act>) -> Between {
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let (mut acts, target, notes) = (VecDeque::from(acts), target.to_owned(), seen.clone());
        let server = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let Some(request) = read(&mut stream).await else { continue };
                notes.lock().unwrap().push(request.clone());
                let act = acts.pop_front().unwrap_or(Act::Pass);
                let target = target.clone();
                tokio::spawn(async move { treat(stream, request, act, &target).await });
            }
        });
        Between { url, seen, server }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn treat(mut stream: TcpStream, request: Seen, act: Act, target: &str) {
    let answer = match act {
        Act::Drop => return,
        Act::PassThenDrop => return drop(pass(&request, target).await),
        Act::Abandon => {
            drop(stream);
            return drop(pass(&request, target).await);
        }
        Act::Hang => return std::future::pending().await,
        Act::Pass => pass(&request, target).await,
        Act::Answer(status, headers, body) => written(status, headers, &body),
    };
    // A client that has gone is no concern of ours.
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn written(status: u16, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}")
}

async fn pass(request: &Seen, target: &str) -> String {
    let method: Method = request.method.parse().unwrap();
    let mut sent = crate::support::client().request(method, format!("{target}{}", request.path));
    for (name, value) in [("authorization", &request.authorization), ("idempotency-key", &request.key)] {
        if !value.is_empty() {
            sent = sent.header(name, value);
        }
    }
    if !request.raw.is_empty() {
        sent = sent.header("content-type", "application/json").body(request.raw.clone());
    }
    let answer = crate::support::answer(sent).await;
    let headers: String = ["content-type", "retry-after", "location"]
        .into_iter()
        .filter(|name| !answer.header(name).is_empty())
        .map(|name| format!("{name}: {}\r\n", answer.header(name)))
        .collect();
    written(answer.status, &headers, &answer.text)
}

async fn read(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let end = loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        if let Some(at) = bytes.windows(4).position(|part| part == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let header = |name: &str| {
        let value = head.lines().filter_map(|line| line.split_once(": "));
        let mut value = value.filter(|(other, _)| other.eq_ignore_ascii_case(name));
        value.next().map(|(_, value)| value.to_owned()).unwrap_or_default()
    };
    let length = header("content-length").parse().unwrap_or(0);
    while bytes.len() < end + length {
        stream.read_buf(&mut bytes).await.ok()?;
    }
    let raw = bytes[end..].to_vec();
    let mut line = head.split(' ');
    Some(Seen {
        method: line.next()?.to_owned(),
        path: line.next()?.to_owned(),
        authorization: header("authorization"),
        key: header("idempotency-key"),
        body: serde_json::from_slice(&raw).unwrap_or(Value::Null),
        raw,
    })
}
