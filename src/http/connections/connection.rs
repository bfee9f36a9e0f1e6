//! One connection: whose it is, what it holds, and whether it has to end.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;

use futures_util::task::AtomicWaker;

/// Two line breaks in a row.
pub(super) const WHOLE: u8 = 2;

/// Whose connections are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    /// An IPv4 address, or the network of 64 bits that somebody with IPv6 usually has for themselves.
    Address(IpAddr),
    /// A proxy of ours, with many behind it.
    Proxy(IpAddr),
    /// The hash of a verified identity.
    Identity(u64),
}

/// One connection, as its stream and its requests know it.
pub struct Connection {
    pub(super) id: u64,
    pub(super) peer: Owner,
    /// Milliseconds since the server started.
    pub(super) opened: u64,
    /// Bytes that arrived since the current request began.
    pub(super) received: AtomicUsize,
    /// The bytes of the buffer that requests are read into; it never shrinks.
    pub(super) buffer: AtomicUsize,
    /// Bytes that count against the limit of its group; changes under the lock.
    pub(super) counted: AtomicUsize,
    /// When the current request, or the writing of its answer, began: milliseconds since the server started. 0 if it is idle.
    pub(super) since: AtomicU64,
    /// Whether a handler has the request.
    pub(super) handled: AtomicBool,
    /// Line breaks in a row at the end of what arrived of the head, or [`WHOLE`].
    pub(super) head: AtomicU8,
    /// Who was verified on this connection.
    pub(super) identity: AtomicU64,
    pub(super) is_caller: AtomicBool,
    pub(super) closed: AtomicBool,
    pub(super) waker: AtomicWaker,
}

impl Connection {
    pub(super) fn new(id: u64, peer: Owner, opened: u64) -> Connection {
        Connection {
            id,
            peer,
            opened,
            received: AtomicUsize::new(0),
            buffer: AtomicUsize::new(0),
            counted: AtomicUsize::new(0),
            since: AtomicU64::new(0),
            handled: AtomicBool::new(false),
            head: AtomicU8::new(0),
            identity: AtomicU64::new(0),
            is_caller: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        }
    }

    /// Whether it has to end; if not, `waker` is woken when it has.
    pub fn is_closed(&self, waker: &Waker) -> bool {
        self.waker.register(waker);
        self.closed.load(Ordering::Acquire)
    }

    /// Looks for the empty line that ends a head (RFC 9112, 2.1), also one of bare line feeds. One task at a time reads.
    pub(super) fn is_head_whole(&self, bytes: &[u8]) -> bool {
        let mut breaks = self.head.load(Ordering::Relaxed);
        for byte in bytes {
            breaks = match (breaks, byte) {
                (WHOLE, _) => break,
                (_, b'\n') => breaks + 1,
                (1, b'\r') => 1,
                _ => 0,
            };
        }
        self.head.store(breaks, Ordering::Relaxed);
        breaks == WHOLE
    }

    /// Whether a handler has its request, or its answer is being written.
    pub(super) fn is_worked_on(&self) -> bool {
        let is_answered =
            self.since.load(Ordering::Relaxed) != 0 && self.received.load(Ordering::Relaxed) == 0;
        is_answered || self.handled.load(Ordering::Relaxed)
    }

    pub(super) fn owner(&self) -> Owner {
        match self.peer {
            Owner::Address(_) if self.is_caller.load(Ordering::Acquire) => {
                Owner::Identity(self.identity.load(Ordering::Relaxed))
            }
            peer => peer,
        }
    }
}
