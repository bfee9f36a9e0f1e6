//! People who leave a page of the console open: a stream of server-sent events each, for as long as it lasts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::work::{PEOPLE, Work, page};

/// A stream says something every 3 s.
const SILENCE: Duration = Duration::from_secs(30);

/// How the streams are.
#[derive(Default)]
pub struct Streams {
    pub open: AtomicU64,
    pub events: AtomicU64,
    /// The longest silence since this was last read, in milliseconds.
    pub silence: AtomicU64,
}

/// So many readers, each of whom comes back when his stream ends.
pub fn begin(count: u64, work: &Arc<Work>, stop: &CancellationToken) -> Arc<Streams> {
    let streams = Arc::new(Streams::default());
    for number in 0..count {
        let (work, stop, streams) = (work.clone(), stop.clone(), streams.clone());
        tokio::spawn(async move {
            while !stop.is_cancelled() {
                let end = tokio::select! {
                    () = stop.cancelled() => return,
                    end = read(number, &work, &streams) => end,
                };
                work.tally.error(&format!("stream {end}"));
                sleep(Duration::from_secs(1)).await;
            }
        });
    }
    streams
}

/// Reads one stream to its end, which should not come; what it was.
async fn read(number: u64, work: &Work, streams: &Streams) -> &'static str {
    let port = work.site.replicas[0].port;
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)).await else { return "not connected" };
    let path = if number.is_multiple_of(2) { "/events?of=overview" } else { "/events" };
    let request = page(path, number % PEOPLE).replace("text/html", "text/event-stream");
    if stream.write_all(request.as_bytes()).await.is_err() {
        return "lost";
    }
    let mut buffer = vec![0; 64 * 1024];
    let first = timeout(SILENCE, stream.read(&mut buffer)).await;
    match first {
        Ok(Ok(length)) if buffer[..length].starts_with(b"HTTP/1.1 200") => {}
        _ => return "refused",
    }
    let _open = Open::one(&streams.open);
    let mut heard = Instant::now();
    loop {
        let length = match timeout(SILENCE, stream.read(&mut buffer)).await {
            Err(_) => return "silent",
            Ok(Err(_) | Ok(0)) => return "ended",
            Ok(Ok(length)) => length,
        };
        streams.silence.fetch_max(heard.elapsed().as_millis() as u64, Ordering::Relaxed);
        heard = Instant::now();
        if buffer[..length].windows(6).any(|bytes| bytes == b"event:") {
            streams.events.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Open<'a>(&'a AtomicU64);

impl Open<'_> {
    fn one(count: &AtomicU64) -> Open<'_> {
        count.fetch_add(1, Ordering::Relaxed);
        Open(count)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
