//! What processes take of the machine, as `/proc` says.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// `USER_HZ`, the same on every Linux that we know.
const TICKS: f64 = 100.0;

/// The fields of `/proc/PID/stat` after the command's name: 0 is the state, 1 the parent.
fn stat(process: &str) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields = text.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
    fields.split_whitespace().map(str::to_owned).collect()
}

/// Its own time in user and system mode, and with `and_waited_for` that of its children that have ended.
fn seconds(stat: &[String], and_waited_for: bool) -> f64 {
    let fields = if and_waited_for { 4 } else { 2 };
    stat.iter().skip(11).take(fields).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS
}

/// Seconds of CPU that a process has taken, all its threads together.
pub fn cpu(process: u32) -> f64 {
    seconds(&stat(&process.to_string()), false)
}

/// As `cpu`, of this process's first thread alone: a load on a runtime of that one thread.
pub fn cpu_of_the_first_thread() -> f64 {
    let process = std::process::id();
    seconds(&stat(&format!("{process}/task/{process}")), false)
}

/// As `cpu`, with its children, those that live and those that have ended: Postgres' sessions.
pub fn cpu_with_children(process: u32) -> f64 {
    let parent = process.to_string();
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let children = all.filter_map(|entry| {
        let stat = stat(entry.file_name().to_str().filter(|name| name.parse::<u32>().is_ok())?);
        (stat.get(1) == Some(&parent)).then(|| seconds(&stat, false))
    });
    seconds(&stat(&parent), true) + children.sum::<f64>()
}

/// A number of `/proc/PID/status`; of memory, kilobytes.
pub fn status(process: u32, field: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let number = line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<f64>().ok());
    number.unwrap_or(f64::NAN)
}

/// Resident memory of a process now, in MB.
pub fn resident(process: u32) -> f64 {
    status(process, "VmRSS") / 1024.0
}

/// How many files and sockets a process has open.
pub fn handles(process: u32) -> f64 {
    std::fs::read_dir(format!("/proc/{process}/fd")).map_or(f64::NAN, |all| all.count() as f64)
}

/// How many on this machine ran or wanted to, over the last minute.
pub fn machine_load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(f64::NAN)
}

/// The most memory that a process has had while this lives.
pub struct Watched {
    most: Arc<AtomicU64>,
    watching: tokio::task::JoinHandle<()>,
}

impl Watched {
    pub fn start(process: u32) -> Watched {
        let most = Arc::new(AtomicU64::new(0));
        let seen = most.clone();
        let watching = tokio::spawn(async move {
            loop {
                seen.fetch_max((resident(process) * 10.0) as u64, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        Watched { most, watching }
    }

    pub fn most(&self) -> f64 {
        self.most.load(Ordering::Relaxed) as f64 / 10.0
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.watching.abort();
    }
}
