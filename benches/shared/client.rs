//! A lean load: kept connections, one request at a time on each, HTTP/1.1 written and read by hand, so that
//! the load takes as little as possible of the machine that it shares with what it measures.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Where the load goes, each connection to the next of these ports; and as whom.
#[derive(Clone)]
pub struct Load {
    pub ports: Vec<u16>,
    pub token: String,
}

/// What came of one step.
pub struct Measured {
    /// Microseconds, sorted.
    latencies: Vec<u32>,
    took: Duration,
}

impl Measured {
    pub fn of(mut latencies: Vec<u32>, took: Duration) -> Measured {
        latencies.sort_unstable();
        Measured { latencies, took }
    }

    /// One answer after the other.
    pub fn of_milliseconds(latencies: &[f64]) -> Measured {
        let took = Duration::from_secs_f64(latencies.iter().sum::<f64>() / 1000.0);
        Measured::of(latencies.iter().map(|ms| (ms * 1000.0) as u32).collect(), took)
    }

    pub fn count(&self) -> usize {
        self.latencies.len()
    }

    pub fn seconds(&self) -> f64 {
        self.took.as_secs_f64()
    }

    /// Answers a second.
    pub fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.took.as_secs_f64()
    }

    /// In milliseconds.
    pub fn quantile(&self, q: f64) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        let at = ((last as f64) * q).round() as usize;
        self.latencies.get(at).map_or(f64::NAN, |us| f64::from(*us) / 1000.0)
    }
}

impl Load {
    /// A connection to the replica whose turn it is.
    pub async fn connect(&self, number: usize) -> std::io::Result<Connection> {
        Connection::open(self.ports[number % self.ports.len()]).await
    }

    /// Waits for the broker's `/health/ready`, asking every so often; panics if `lives` says that it has ended.
    pub async fn until_ready(&self, every: Duration, mut lives: impl FnMut() -> bool) {
        loop {
            assert!(lives(), "the broker has ended");
            if let Ok(mut connection) = self.connect(0).await
                && connection.call(&self.get("/health/ready")).await.is_ok_and(|(status, _)| status == 200)
            {
                return;
            }
            tokio::time::sleep(every).await;
        }
    }

    /// The body of a page that needs no token.
    pub async fn text(&self, path: &str) -> std::io::Result<String> {
        let mut connection = self.connect(0).await?;
        let (_, body) = connection.call(&format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n")).await?;
        Ok(String::from_utf8_lossy(body).into_owned())
    }

    /// One JIT provision; the runner's id.
    pub async fn provision(&self, name: &str) -> String {
        let mut connection = self.connect(0).await.expect("a connection");
        provision(&mut connection, &self.jit(name)).await
    }

    /// One runner is read.
    pub async fn read(&self, id: &str) {
        let mut connection = self.connect(0).await.expect("a connection");
        let (status, _) =
            connection.call(&self.get(&format!("/api/v1/runners/{id}"))).await.expect("an answer");
        assert_eq!(status, 200, "{id}");
    }

    /// JIT provisions for so long; the ids of the runners.
    pub async fn provisions(&self, connections: usize, step: Duration) -> (Measured, Vec<String>) {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let begun = Instant::now();
        let mut callers = JoinSet::new();
        for number in 0..connections {
            let load = self.clone();
            callers.spawn(async move {
                let mut connection = load.connect(number).await.expect("a connection");
                let (mut latencies, mut ids) = (Vec::new(), Vec::new());
                while begun.elapsed() < step {
                    let request = load.jit(&format!("b{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
                    let sent = Instant::now();
                    ids.push(provision(&mut connection, &request).await);
                    latencies.push(sent.elapsed().as_micros() as u32);
                }
                (latencies, ids)
            });
        }
        let (latencies, ids): (Vec<_>, Vec<_>) = callers.join_all().await.into_iter().unzip();
        (Measured::of(latencies.concat(), begun.elapsed()), ids.concat())
    }

    /// Reads of one runner or another, for so long.
    pub async fn reads(&self, connections: usize, step: Duration, ids: &[String]) -> Measured {
        let begun = Instant::now();
        let mut callers = JoinSet::new();
        let ids: Arc<Vec<String>> = Arc::new(ids.to_vec());
        for number in 0..connections {
            let (load, ids) = (self.clone(), ids.clone());
            callers.spawn(async move {
                let mut connection = load.connect(number).await.expect("a connection");
                let mut latencies = Vec::new();
                while begun.elapsed() < step {
                    // A stride that visits all of them in no order.
                    let id = &ids[(number + latencies.len() * 7919) % ids.len()];
                    let request = load.get(&format!("/api/v1/runners/{id}"));
                    let sent = Instant::now();
                    let (status, body) = connection.call(&request).await.expect("an answer");
                    latencies.push(sent.elapsed().as_micros() as u32);
                    assert_eq!(status, 200, "{}", String::from_utf8_lossy(body));
                }
                latencies
            });
        }
        Measured::of(callers.join_all().await.concat(), begun.elapsed())
    }

    pub fn get(&self, path: &str) -> String {
        format!("GET {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {}\r\n\r\n", self.token)
    }

    pub fn jit(&self, name: &str) -> String {
        let body = format!(r#"{{"runner_name":"{name}","labels":["docker"]}}"#);
        format!(
            "POST /api/v1/runners/jit HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {}\r\n\
             user-agent: bench\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        )
    }
}

async fn provision(connection: &mut Connection, request: &str) -> String {
    let (status, body) = connection.call(request).await.expect("an answer");
    assert_eq!(status, 201, "{}", String::from_utf8_lossy(body));
    // The id is the first thing in the answer; decoding kilobytes of credential would load the machine.
    let start = String::from_utf8_lossy(&body[..64.min(body.len())]).into_owned();
    match start.split('"').nth(3).filter(|id| id.len() == 36) {
        Some(id) => id.to_owned(),
        None => serde_json::from_slice::<Value>(body).expect("JSON")["runner_id"]
            .as_str()
            .expect("an id")
            .to_owned(),
    }
}

pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub async fn open(port: u16) -> std::io::Result<Connection> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, buffer: Vec::with_capacity(16 * 1024) })
    }

    /// Status and body.
    pub async fn call(&mut self, request: &str) -> std::io::Result<(u16, &[u8])> {
        self.stream.write_all(request.as_bytes()).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let Some(head) = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
            let text = String::from_utf8_lossy(&self.buffer[..head]);
            let status = text.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
            let length = text.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
            });
            let body = head + 4;
            let end = body + length.unwrap_or(0);
            while self.buffer.len() < end {
                if self.stream.read_buf(&mut self.buffer).await? == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
            }
            return Ok((status, &self.buffer[body..end]));
        }
    }
}
