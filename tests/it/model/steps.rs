//! What a sequence is made of, and how a seed becomes one. Knows nothing of how steps are taken.

mod scenes;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use runner_broker::dev::github::{Action, Canned, Fault};
use runner_broker::model::Method;

pub const REPLICAS: usize = 3;
/// The longest that a fault lets GitHub act after it was asked.
pub const LATEST_MILLIS: u64 = 160;

/// One step, and how long the next one waits for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub act: Act,
    pub then: Then,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Then {
    /// The next step comes at once, beside this one.
    Go,
    /// The next step comes after so many microseconds, whether this one is over or not.
    Micros(u64),
    /// Until this one and all before it are over.
    Wait,
}

/// How a runner is named: by one of few names, so that they collide, or by a prefix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Name {
    Exact(u8),
    Prefix,
}

/// Which runner a caller means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Which {
    Named(u8),
    /// The n-th that was handed out so far.
    HandedOut(u8),
}

/// Numbers that pick one of a growing list are taken modulo its length.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    Provision {
        replica: usize,
        team: usize,
        method: Method,
        name: Name,
        key: Option<u8>,
        on_repo: bool,
    },
    Remove {
        replica: usize,
        which: Which,
        when_idle: bool,
    },
    Refresh {
        replica: usize,
        which: Which,
    },
    /// With `takeover` the lease ends first, whoever holds it.
    Sweep {
        replica: usize,
        takeover: bool,
    },
    /// Goes on with the lease that this replica once had.
    SweepAsBefore {
        replica: usize,
    },
    StepDown {
        replica: usize,
    },
    /// Everything that this replica has under way ends where it waits; another process takes its place.
    Kill {
        replica: usize,
    },
    /// The machine that got the n-th credential uses it.
    Connect(u8),
    StartJob(u8),
    FinishJob(u8),
    Disconnect(u8),
    Vanish(u8),
    /// Somebody gives the n-th runner a label that its team may not have, if it was ever started.
    Drift(u8),
    /// What GitHub has to say about jobs comes in: out of order, twice, to any replica, late or not at all.
    Deliver {
        seed: u64,
    },
    /// What was delivered is worked off.
    WorkOff {
        replica: usize,
    },
    /// With `takeover` the lease ends first, whoever holds it.
    Seal {
        replica: usize,
        takeover: bool,
    },
    /// Goes on with the lease that this replica once had.
    SealAsBefore {
        replica: usize,
    },
    /// Somebody else sets up a runner of this name.
    Plant(u8),
    /// So many of them that the next one is the first of the second page.
    PlantPage,
    /// One of those goes, and the second page shifts.
    RemovePlanted,
    Fault(Fault),
    ClearFaults,
    Suspend,
    Unsuspend,
    /// Time in which nobody need have looked, or, if it is long, in which the sweep went on.
    Pass(i64),
    Quota {
        team: usize,
        max: i64,
    },
}

/// The steps of a seed.
pub fn steps(seed: u64) -> Vec<Step> {
    let mut draw = Draw(StdRng::seed_from_u64(seed));
    let mut steps = Vec::new();
    let length = draw.below(18) + 10;
    while (steps.len() as u64) < length {
        match draw.below(25) {
            0 => draw.slow_provision(&mut steps),
            1 => draw.repeated_key(&mut steps),
            2 => draw.lost_answer(&mut steps),
            3 | 4 => draw.burst(&mut steps),
            5 => draw.life(&mut steps),
            6 => draw.broken_list(&mut steps),
            7 => draw.kill(&mut steps),
            8 => draw.two_leaders(&mut steps),
            9 => draw.shifting_pages(&mut steps),
            10 => draw.old_facts(&mut steps),
            11 | 12 => draw.job(&mut steps),
            13 => draw.two_sealers(&mut steps),
            _ => {
                let act = draw.any();
                let then = draw.then();
                steps.push(Step { act, then });
            }
        }
    }
    steps
}

struct Draw(StdRng);

impl Draw {
    fn below(&mut self, n: u64) -> u64 {
        self.0.random_range(0..n)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn small(&mut self) -> u8 {
        self.below(12) as u8
    }

    fn replica(&mut self) -> usize {
        self.below(REPLICAS as u64) as usize
    }

    fn then(&mut self) -> Then {
        match self.below(4) {
            0 => Then::Go,
            1 => Then::Micros(self.below(25_000)),
            _ => Then::Wait,
        }
    }

    fn soon(&mut self) -> Then {
        match self.below(3) {
            0 => Then::Go,
            _ => Then::Micros(self.below(30_000)),
        }
    }

    fn provision(&mut self) -> Act {
        Act::Provision {
            replica: self.replica(),
            team: if self.one_in(4) { 1 } else { 0 },
            method: if self.one_in(3) { Method::RegistrationToken } else { Method::Jit },
            name: if self.one_in(2) { Name::Prefix } else { Name::Exact(self.below(4) as u8) },
            key: if self.one_in(2) { Some(self.below(3) as u8) } else { None },
            on_repo: self.one_in(5),
        }
    }

    fn which(&mut self) -> Which {
        match self.one_in(2) {
            true => Which::Named(self.below(4) as u8),
            false => Which::HandedOut(self.small()),
        }
    }

    fn sweep(&mut self) -> Act {
        Act::Sweep { replica: self.replica(), takeover: self.one_in(2) }
    }

    fn any(&mut self) -> Act {
        match self.below(48) {
            0..=9 => self.provision(),
            10..=12 => {
                Act::Remove { replica: self.replica(), which: self.which(), when_idle: self.one_in(2) }
            }
            13..=14 => Act::Refresh { replica: self.replica(), which: self.which() },
            15..=20 => self.sweep(),
            21 => Act::SweepAsBefore { replica: self.replica() },
            22 => Act::StepDown { replica: self.replica() },
            23 => Act::Kill { replica: self.replica() },
            24..=26 => Act::Connect(self.small()),
            27 => Act::StartJob(self.small()),
            28 => Act::FinishJob(self.small()),
            29 => Act::Disconnect(self.small()),
            30 => Act::Vanish(self.small()),
            31 => Act::Plant(self.below(4) as u8),
            32..=34 => Act::Fault(self.fault()),
            35 => Act::ClearFaults,
            36 => match self.below(4) {
                0 => Act::Suspend,
                1 => Act::PlantPage,
                _ => Act::Unsuspend,
            },
            37..=38 => Act::Pass(self.seconds()),
            39 => Act::Drift(self.small()),
            40..=41 => self.deliver(),
            42..=44 => Act::WorkOff { replica: self.replica() },
            45 => Act::Seal { replica: self.replica(), takeover: self.one_in(2) },
            46 => Act::SealAsBefore { replica: self.replica() },
            _ => Act::Quota { team: self.below(2) as usize, max: self.below(6) as i64 + 1 },
        }
    }

    fn deliver(&mut self) -> Act {
        Act::Deliver { seed: self.below(u64::MAX) }
    }

    fn seconds(&mut self) -> i64 {
        match self.below(12) {
            0..=7 => self.below(70) as i64 + 1,
            8..=9 => self.below(1_000) as i64,
            10 => 3_700,
            _ => 25 * 3_600,
        }
    }

    /// Everything that can go wrong short of a lie: a 404 for a runner that is there, or an empty list, would be
    /// GitHub's word against itself.
    fn fault(&mut self) -> Fault {
        match self.below(4) {
            0 => Fault::new("POST", "generate-jitconfig", self.lost()),
            1 => {
                let path = ["generate-jitconfig", "registration-token", "access_tokens"];
                let path = path[self.below(3) as usize];
                Fault::new("POST", path, self.failure(&[401, 403, 404, 409, 422]))
            }
            2 => {
                let failure = self.failure(&[401, 403, 422]);
                Fault::new("DELETE", "runners/", failure).times(self.below(4) as u32 + 1)
            }
            _ => {
                let path = ["runners?name=", "runners?per_page", "runners/", "page=2", "installation"];
                let path = path[self.below(5) as usize];
                let failure = self.failure(&[401, 403]);
                Fault::new("GET", path, failure).times(self.below(4) as u32 + 1)
            }
        }
        .skip(if self.one_in(4) { 1 } else { 0 })
    }

    fn failed_status(&mut self) -> Canned {
        Canned::status([500, 502, 503, 504][self.below(4) as usize])
    }

    /// An answer that gets lost, whether GitHub did as it was asked, will do, or not.
    fn lost(&mut self) -> Action {
        match self.below(9) {
            0 => Action::Drop,
            1 | 2 => Action::ActThenDrop,
            3 => Action::Truncate,
            4 => Action::Html { status: 502 },
            5 => Action::Respond(self.failed_status()),
            6 => Action::ActThenRespond(self.failed_status()),
            7 => {
                let answer = self.failed_status();
                Action::RespondThenAct { answer, millis: self.below(60) }
            }
            _ => Action::Hang,
        }
    }

    fn failure(&mut self, refusals: &[u16]) -> Action {
        match self.below(10) {
            0..=2 => self.lost(),
            3..=4 => Action::Delay { millis: self.below(LATEST_MILLIS) },
            5 => Action::ActThenDelay { millis: self.below(LATEST_MILLIS) },
            6 => Action::RateLimited { reset_seconds: self.below(240) as i64 + 1 },
            7 => Action::SecondaryLimit { retry_after_seconds: self.below(60) + 1 },
            8 => Action::PermissionMissing,
            _ => {
                let status = refusals[self.below(refusals.len() as u64) as usize];
                Action::Respond(Canned::status(status))
            }
        }
    }
}

fn go(steps: &mut Vec<Step>, act: Act, then: Then) {
    steps.push(Step { act, then });
}
