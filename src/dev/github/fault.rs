//! What can be made to go wrong, and the queue in which faults wait for their call.

use serde::{Deserialize, Serialize};

/// A fault and the calls that it strikes: the first fault in the queue that fits a call takes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// `None`: every method.
    #[serde(default)]
    pub method: Option<String>,
    /// A part of the path with its query; empty fits all.
    #[serde(default)]
    pub path: String,
    /// So many fitting calls pass unharmed first.
    #[serde(default)]
    pub skip: u32,
    /// So many are struck.
    #[serde(default = "once")]
    pub times: u32,
    pub action: Action,
}

fn once() -> u32 {
    1
}

impl Fault {
    /// Strikes the next call of this method whose path contains `path`.
    pub fn new(method: &str, path: &str, action: Action) -> Fault {
        Fault { method: Some(method.into()), path: path.into(), skip: 0, times: 1, action }
    }

    /// Strikes every call from now on.
    pub fn everywhere(action: Action) -> Fault {
        Fault { method: None, path: String::new(), skip: 0, times: u32::MAX, action }
    }

    pub fn skip(self, skip: u32) -> Fault {
        Fault { skip, ..self }
    }

    pub fn times(self, times: u32) -> Fault {
        Fault { times, ..self }
    }

    pub fn always(self) -> Fault {
        self.times(u32::MAX)
    }
}

/// What happens to a call. "Act" is what GitHub would have done without the fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Answers without acting.
    Respond(Canned),
    /// Acts, then answers something else: the 502 after the deed.
    ActThenRespond(Canned),
    /// Answers at once and acts later, as a queue behind a front that gave up does.
    RespondThenAct { answer: Canned, millis: u64 },
    /// Closes the connection without a byte and without acting.
    Drop,
    /// Acts, then closes the connection without a byte.
    ActThenDrop,
    /// Acts, announces the whole answer, sends half of it and closes the connection.
    Truncate,
    /// Answers with a page for people, without acting.
    Html { status: u16 },
    /// Waits before it acts.
    Delay { millis: u64 },
    /// Acts, then waits before it answers.
    ActThenDelay { millis: u64 },
    /// Never answers and never acts.
    Hang,
    /// On `access_tokens`: the token is good, but its first uses answer this status (401 or 403).
    RefuseFreshToken { status: u16, uses: u32 },
    /// The hourly budget is used up: 403, `x-ratelimit-remaining: 0`.
    RateLimited { reset_seconds: i64 },
    /// A secondary limit: 403 with `retry-after`.
    SecondaryLimit { retry_after_seconds: u64 },
    /// 403 "Resource not accessible by integration", naming the permission that the call needs.
    PermissionMissing,
}

/// An answer made beforehand; without a body it is GitHub's basic error.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Canned {
    pub status: u16,
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    #[serde(default)]
    pub body: String,
}

impl Canned {
    pub fn status(status: u16) -> Canned {
        Canned { status, ..Canned::default() }
    }

    pub fn header(mut self, name: &str, value: &str) -> Canned {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn body(self, body: &str) -> Canned {
        Canned { body: body.into(), ..self }
    }
}

/// The faults that have not all struck yet.
#[derive(Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    pub fn add(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// What is to happen to this call, if anything.
    pub fn take(&mut self, method: &str, path: &str) -> Option<Action> {
        for (i, fault) in self.0.iter_mut().enumerate() {
            let fits = fault.method.as_deref().is_none_or(|m| m.eq_ignore_ascii_case(method))
                && path.contains(&fault.path);
            if !fits || fault.times == 0 {
                continue;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            let action = fault.action.clone();
            if fault.times != u32::MAX {
                fault.times -= 1;
            }
            if fault.times == 0 {
                self.0.remove(i);
            }
            return Some(action);
        }
        None
    }
}
