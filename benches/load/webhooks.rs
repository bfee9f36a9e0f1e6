//! Webhooks at a steady rate, whatever the answers take: each is due at its own moment, and what it waits for a
//! free connection counts as well.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use runner_broker::dev::github::signature;
use tokio::task::JoinSet;

use crate::client::{Load, Measured};
use crate::site::SECRET;

/// Enough that a slow answer does not hold up those after it.
const CONNECTIONS: usize = 64;

/// GitHub's own example: a job for a self-hosted runner, 12 kB.
const PAYLOAD: &str = include_str!("../../tests/webhooks/workflow_job.queued.6.json");
const ID: &str = "12877621891";

impl Load {
    /// So many deliveries a second for so long, each about a job of its own.
    pub async fn webhooks(&self, rate: u64, step: Duration) -> Measured {
        let most = rate * step.as_secs();
        let next = Arc::new(AtomicU64::new(0));
        let begun = Instant::now();
        let mut senders = JoinSet::new();
        for sender in 0..CONNECTIONS {
            let (load, next) = (self.clone(), next.clone());
            senders.spawn(async move {
                let mut connection = load.connect(sender).await.expect("a connection");
                let mut latencies = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= most {
                        return latencies;
                    }
                    let request = request(number);
                    let due = begun + Duration::from_micros(number * 1_000_000 / rate);
                    tokio::time::sleep_until(due.into()).await;
                    let (status, body) = connection.call(&request).await.expect("an answer");
                    latencies.push(due.elapsed().as_micros() as u32);
                    assert_eq!(status, 202, "{}", String::from_utf8_lossy(body));
                }
            });
        }
        let latencies = senders.join_all().await.concat();
        Measured::of(latencies, begun.elapsed())
    }
}

fn request(number: u64) -> String {
    let body = PAYLOAD.replace(ID, &(20_000_000_000 + number).to_string());
    format!(
        "POST /api/v1/webhooks/github HTTP/1.1\r\nhost: bench\r\nuser-agent: GitHub-Hookshot/bench\r\n\
         content-type: application/json\r\nx-github-event: workflow_job\r\nx-github-delivery: bench-{number}\r\n\
         x-hub-signature-256: {}\r\ncontent-length: {}\r\n\r\n{body}",
        signature(SECRET, body.as_bytes()),
        body.len()
    )
}
