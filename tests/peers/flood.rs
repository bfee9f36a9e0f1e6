//! What strangers send without an end, from one address and from many, while somebody else works: the memory stays
//! bounded, health answers, and nobody else's request fails. `FLOOD_SECONDS=30` floods for that long each time and wants
//! the latencies as well, so that nothing else may run beside it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use reqwest::Client;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use crate::process::{Replica, Site};
use crate::support::answer;

const MIB: u64 = 1024 * 1024;
/// By how much the memory may grow. The counted bytes are 28 MiB; a debug build's connections, and what the allocator
/// keeps of nine floods after one another, are the rest.
const MOST_GROWTH: u64 = 110 * MIB;
const WEBHOOK_SECRET: &str = "of-the-flood-test";

/// One kind of flood.
struct Flood {
    name: &'static str,
    /// Connections at once; each that ends is opened again.
    connections: u32,
    /// The addresses that they come from.
    addresses: u32,
    /// What each sends.
    sent: Vec<u8>,
}

fn floods() -> Vec<Flood> {
    let signature = format!("sha256={}", "0".repeat(64));
    let webhook = format!(
        "POST /api/webhook HTTP/1.1\r\nHost: broker\r\nX-GitHub-Event: push\r\nX-GitHub-Delivery: 1\r\n\
         X-Hub-Signature-256: {signature}\r\nContent-Length: 1000000\r\n\r\n"
    );
    let webhook = [webhook.into_bytes(), vec![b'x'; 990_000]].concat();
    let chunk = format!("{:x}\r\n{}\r\n", 8192, "x".repeat(8192));
    let chunked = format!(
        "POST /api/webhook HTTP/1.1\r\nHost: broker\r\nX-Hub-Signature-256: {signature}\r\n\
         Transfer-Encoding: chunked\r\n\r\n{}",
        chunk.repeat(400)
    );
    let head = format!("GET / HTTP/1.1\r\nHost: broker\r\nX-Filler: {}", "x".repeat(120_000));
    let short_head = format!("GET / HTTP/1.1\r\nHost: broker\r\nX-Filler: {}", "x".repeat(40_000));
    let unread = "GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: broker\r\n\r\n".repeat(4);
    let form = "POST /sign-out HTTP/1.1\r\nHost: broker\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                Content-Length: 200000\r\n\r\n";
    let form = [form.as_bytes(), &[b'x'; 100_000]].concat();
    let flood = |name, connections, addresses, sent: Vec<u8>| Flood { name, connections, addresses, sent };
    vec![
        flood("bodies from one address", 400, 1, webhook.clone()),
        flood("bodies from many addresses", 600, 150, webhook),
        flood("bodies in chunks", 300, 30, chunked.into_bytes()),
        flood("heads that are too long", 1200, 1, head.clone().into_bytes()),
        flood("heads that are too long from many addresses", 4000, 400, head.into_bytes()),
        flood("heads that are just not too long", 4000, 400, short_head.into_bytes()),
        flood("answers that nobody reads", 1000, 100, unread.into_bytes()),
        flood("forms", 1000, 100, form),
        flood("silence", 4000, 2, Vec::new()),
    ]
}

/// The sender's end of a connection from one of the addresses of this machine.
async fn connect(from: u32, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    socket.bind((Ipv4Addr::from_bits(Ipv4Addr::new(127, 9, 0, 1).to_bits() + from), 0).into())?;
    socket.connect(to).await
}

/// Sends and then waits, again and again, and reads nothing.
async fn attack(from: u32, to: SocketAddr, sent: Arc<Vec<u8>>, refused: Arc<AtomicU64>) {
    loop {
        if let Ok(mut stream) = connect(from, to).await
            && stream.write_all(&sent).await.is_ok()
        {
            // Until the other end has had enough of it. To wait for that takes nothing out of the socket.
            let ended = async || {
                let ready = stream.ready(Interest::READABLE | Interest::ERROR).await;
                ready.is_ok_and(|ready| ready.is_read_closed() || ready.is_error())
            };
            while !ended().await {
                sleep(Duration::from_millis(200)).await;
            }
        }
        refused.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(20)).await;
    }
}

/// Resident memory of a process, in bytes.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().expect("a number");
    kilobytes * 1024
}

/// A control group with 256 MiB, where this machine lets us make one; gone with the test.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Option<Cgroup> {
        let name = format!("flood-{}", std::process::id());
        let v1 = ("/sys/fs/cgroup/memory", "memory.limit_in_bytes");
        let (root, file) = if Path::new(v1.0).exists() { v1 } else { ("/sys/fs/cgroup", "memory.max") };
        let group = Cgroup(Path::new(root).join(name));
        std::fs::create_dir(&group.0).ok()?;
        std::fs::write(group.0.join(file), (256 * MIB).to_string()).ok()?;
        Some(group)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// What somebody else met during the flood.
struct Met {
    latencies: Vec<Duration>,
    slowest_health: Duration,
    most_memory: u64,
}

/// Provisions one after another, each on a connection of its own, looks at health, and watches the memory.
async fn work(site: &Site, replica: &Replica, flood: &str, until: Instant) -> Met {
    let pid = replica.pid();
    let mut met = Met { latencies: Vec::new(), slowest_health: Duration::ZERO, most_memory: 0 };
    let done = AtomicBool::new(false);
    let provisions = async {
        while Instant::now() < until {
            let begun = Instant::now();
            let name = json_name(flood, met.latencies.len());
            let made = answer(site.jit(replica, &name)).await;
            assert_eq!(made.status, 201, "{flood}: {}", made.text);
            met.latencies.push(begun.elapsed());
            let gone = format!("{}/api/v1/runners/{name}", replica.url);
            let gone = answer(site.client.delete(gone).bearer_auth(site.token("blue"))).await;
            assert_eq!(gone.status, 200, "{flood}: {}", gone.text);
        }
        done.store(true, Ordering::Relaxed);
    };
    let health = async {
        let client = Client::builder().pool_max_idle_per_host(0).build().expect("a client");
        while !done.load(Ordering::Relaxed) {
            let begun = Instant::now();
            let live = client.get(format!("{}/health/live", replica.url)).send().await;
            assert_eq!(live.expect("an answer").status(), 200, "{flood}");
            met.slowest_health = met.slowest_health.max(begun.elapsed());
            sleep(Duration::from_millis(100)).await;
        }
    };
    let memory = async {
        while !done.load(Ordering::Relaxed) {
            met.most_memory = met.most_memory.max(resident(pid));
            sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::join!(provisions, health, memory);
    met
}

fn json_name(flood: &str, number: usize) -> String {
    format!("{}-{number}", flood.replace(' ', "-").chars().take(50).collect::<String>())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_flood_of_strangers_takes_the_memory_or_keeps_others_from_working() {
    let asked: Option<u64> = std::env::var("FLOOD_SECONDS").ok().and_then(|text| text.parse().ok());
    let seconds = asked.unwrap_or(3);
    let files = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: files, maximum: files }).expect("more open files");
    let cgroup = Cgroup::new();
    let mut site = Site::new().await;
    site.cgroup = cgroup.as_ref().map(|group| group.0.clone());
    let replica = site.serve_with(&[("GITHUB_WEBHOOK_SECRET", WEBHOOK_SECRET), ("LOG_LEVEL", "warn")]).await;
    let to: SocketAddr = ([127, 0, 0, 1], replica.port).into();
    // What the first requests set up once.
    work(&site, &replica, "warm", Instant::now() + Duration::from_secs(2)).await;
    let rest = resident(replica.pid());
    let mut faults = Vec::new();
    let only = std::env::var("FLOOD").ok();
    for flood in floods() {
        if only.as_ref().is_some_and(|only| !flood.name.contains(only)) {
            continue;
        }
        let (sent, refused) = (Arc::new(flood.sent), Arc::new(AtomicU64::new(0)));
        let attackers: Vec<_> = (0..flood.connections)
            .map(|n| tokio::spawn(attack(n % flood.addresses, to, sent.clone(), refused.clone())))
            .collect();
        let met = work(&site, &replica, flood.name, Instant::now() + Duration::from_secs(seconds)).await;
        attackers.iter().for_each(|attacker| attacker.abort());
        let mut latencies = met.latencies;
        latencies.sort_unstable();
        let p99 = latencies[(latencies.len() * 99 / 100).min(latencies.len() - 1)];
        let line = format!(
            "{}: {} MiB of {} at rest, {} provisions, p99 {p99:?}, health {:?}, {} connections ended",
            flood.name,
            met.most_memory / MIB,
            rest / MIB,
            latencies.len(),
            met.slowest_health,
            refused.load(Ordering::Relaxed),
        );
        eprintln!("{line}");
        let fits = met.most_memory < rest + MOST_GROWTH && met.most_memory < 200 * MIB;
        let alone = asked.is_none_or(|seconds| seconds < 30);
        let in_time =
            alone || (p99 < Duration::from_millis(500) && met.slowest_health < Duration::from_secs(1));
        if !fits || !in_time {
            faults.push(line);
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(!replica.read_log().contains("panicked"), "{}", replica.read_log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_too_long_is_told_so() {
    let site = Site::new().await;
    let replica = site.serve().await;
    let mut stream = TcpStream::connect(("127.0.0.1", replica.port)).await.expect("a connection");
    let head = format!("GET /health HTTP/1.1\r\nHost: broker\r\nX-Filler: {}", "x".repeat(48 * 1024));
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut said = String::new();
    let read = timeout(Duration::from_secs(10), stream.read_to_string(&mut said)).await;
    read.expect("an end in time").ok();
    assert!(said.starts_with("HTTP/1.1 431 "), "{said}");
    let (_, body) = said.split_once("\r\n\r\n").expect("a body");
    let body: serde_json::Value = serde_json::from_str(body).expect("whole JSON");
    assert_eq!(body["error_code"], "INVALID_REQUEST");
}
