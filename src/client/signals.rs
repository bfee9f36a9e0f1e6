//! The signals that end a process politely.

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

/// SIGTERM, SIGINT and SIGHUP; from the moment it is made on they end nothing by themselves.
pub struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    /// `None`: we were started to outlive the terminal (`nohup`).
    hangup: Option<tokio::signal::unix::Signal>,
}

impl Signals {
    /// Must be called within a runtime.
    pub fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: if hangup_is_ours() { Some(signal(SignalKind::hangup())?) } else { None },
        })
    }

    /// The next one. Nothing is lost if it is not waited for.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.interrupt.recv() => Signal::INT,
            _ = next_of(&mut self.hangup) => Signal::HUP,
        }
    }
}

async fn next_of(signal: &mut Option<tokio::signal::unix::Signal>) -> Option<()> {
    match signal {
        Some(signal) => signal.recv().await,
        None => std::future::pending().await,
    }
}

/// Whether SIGHUP is not ignored, which to listen for it would undo. Where that cannot be known it stays as it is.
fn hangup_is_ours() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // The lowest bit is signal 1.
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 0)
}

/// What a shell makes of a process that a signal ended.
pub fn exit_code(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}
