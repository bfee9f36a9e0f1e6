//! Scenes that chance alone would seldom play: what goes wrong together in them is what the broker is built against.

use runner_broker::dev::github::{Action, Fault};
use runner_broker::model::Method;

use super::{Act, Draw, LATEST_MILLIS, Name, REPLICAS, Step, Then, Which, go};

impl Draw {
    /// A provision that is at work for longer than anybody expects, while the sweep looks.
    pub(super) fn slow_provision(&mut self, steps: &mut Vec<Step>) {
        let millis = self.below(LATEST_MILLIS - 30) + 30;
        let action = match self.one_in(2) {
            true => Action::Delay { millis },
            false => Action::ActThenDelay { millis },
        };
        go(steps, Act::Fault(Fault::new("POST", "generate-jitconfig", action)), Then::Go);
        let (provision, soon) = (self.provision(), self.soon());
        go(steps, provision, soon);
        go(steps, Act::Pass(self.below(20) as i64 + 3), Then::Go);
        let (sweep, then) = (Act::Sweep { replica: self.replica(), takeover: true }, self.then());
        go(steps, sweep, then);
    }

    /// The same key again and again, on several replicas, with repairs in between.
    pub(super) fn repeated_key(&mut self, steps: &mut Vec<Step>) {
        let key = Some(self.below(3) as u8);
        let (team, on_repo, name) = (0, false, Name::Exact(self.below(4) as u8));
        let method = if self.one_in(2) { Method::RegistrationToken } else { Method::Jit };
        for repeat in 0..self.below(3) + 2 {
            if repeat > 0 {
                let paths = ["generate-jitconfig", "registration-token"];
                let path = paths[usize::from(method == Method::RegistrationToken)];
                let slow = Action::Delay { millis: self.below(LATEST_MILLIS) };
                go(steps, Act::Fault(Fault::new("POST", path, slow)), Then::Go);
            }
            let again = Act::Provision { replica: self.replica(), team, method, name, key, on_repo };
            let then = if repeat == 0 { Then::Wait } else { self.soon() };
            go(steps, again, then);
            if repeat > 0 && self.one_in(2) {
                go(steps, Act::Pass(4), Then::Go);
                let then = self.soon();
                go(steps, Act::Sweep { replica: self.replica(), takeover: true }, then);
            }
        }
    }

    pub(super) fn lost_answer(&mut self, steps: &mut Vec<Step>) {
        let lost = self.lost();
        go(steps, Act::Fault(Fault::new("POST", "generate-jitconfig", lost)), Then::Go);
        if self.one_in(2) {
            let lost = self.lost();
            let lookup = Fault::new("GET", "runners?name=", lost).times(self.below(3) as u32 + 1);
            go(steps, Act::Fault(lookup), Then::Go);
        }
        let (provision, then) = (self.provision(), self.then());
        go(steps, provision, then);
    }

    /// Many at once, on all replicas.
    pub(super) fn burst(&mut self, steps: &mut Vec<Step>) {
        for _ in 0..self.below(5) + 3 {
            let provision = self.provision();
            go(steps, provision, Then::Go);
        }
        let then = self.then();
        steps.last_mut().expect("some").then = then;
    }

    pub(super) fn life(&mut self, steps: &mut Vec<Step>) {
        let (provision, n) = (self.provision(), self.small());
        go(steps, provision, Then::Wait);
        for act in [Act::Connect(n), self.sweep(), Act::StartJob(n), self.sweep()] {
            go(steps, act, Then::Wait);
        }
        let which = Which::HandedOut(n);
        let remove = Act::Remove { replica: self.replica(), which, when_idle: self.one_in(2) };
        let last = if self.one_in(2) { Act::FinishJob(n) } else { Act::Disconnect(n) };
        for act in [remove, last, self.sweep()] {
            let then = self.then();
            go(steps, act, then);
        }
    }

    /// Lists that break off, again and again.
    pub(super) fn broken_list(&mut self, steps: &mut Vec<Step>) {
        let path = match self.one_in(3) {
            true => {
                go(steps, Act::PlantPage, Then::Go);
                "page=2"
            }
            false => "runners?per_page",
        };
        let provision = self.provision();
        go(steps, provision, Then::Wait);
        let failure = self.failure(&[401, 403]);
        go(steps, Act::Fault(Fault::new("GET", path, failure).times(9)), Then::Go);
        for _ in 0..2 {
            go(steps, Act::Sweep { replica: self.replica(), takeover: true }, Then::Wait);
        }
        go(steps, Act::ClearFaults, Then::Go);
    }

    /// A page that shifts while the list is read, so that the list misses a runner which is there.
    pub(super) fn shifting_pages(&mut self, steps: &mut Vec<Step>) {
        go(steps, Act::PlantPage, Then::Go);
        for _ in 0..self.below(2) + 1 {
            let provision = self.provision();
            go(steps, provision, Then::Wait);
        }
        go(steps, Act::Pass(4), Then::Go);
        let slow = Action::Delay { millis: self.below(LATEST_MILLIS) };
        go(steps, Act::Fault(Fault::new("GET", "page=2", slow)), Then::Go);
        let then = self.soon();
        go(steps, Act::Sweep { replica: self.replica(), takeover: true }, then);
        go(steps, Act::RemovePlanted, Then::Wait);
    }

    /// One look at GitHub that is told late, after another one that saw more.
    pub(super) fn old_facts(&mut self, steps: &mut Vec<Step>) {
        let (provision, n) = (self.provision(), self.small());
        go(steps, provision, Then::Wait);
        let slow = |path| Act::Fault(Fault::new("GET", path, Action::ActThenDelay { millis: LATEST_MILLIS }));
        let looks = [
            ("runners/", Act::Refresh { replica: self.replica(), which: Which::HandedOut(n) }),
            ("runners?per_page", Act::Sweep { replica: self.replica(), takeover: true }),
        ];
        let (path, late) = looks[self.below(2) as usize].clone();
        go(steps, slow(path), Then::Go);
        let moment = Then::Micros(self.below(60_000) + 20_000);
        go(steps, late, moment);
        go(steps, Act::Connect(n), Then::Go);
        let then = self.then();
        go(steps, Act::Refresh { replica: self.replica(), which: Which::HandedOut(n) }, then);
        go(steps, Act::Sweep { replica: self.replica(), takeover: false }, Then::Wait);
    }

    pub(super) fn kill(&mut self, steps: &mut Vec<Step>) {
        let replica = self.replica();
        let mut act = if self.one_in(3) { Act::Sweep { replica, takeover: true } } else { self.provision() };
        if let Act::Provision { replica: on, .. } = &mut act {
            *on = replica;
        }
        let moment = Then::Micros(self.below(40_000));
        go(steps, act, moment);
        go(steps, Act::Kill { replica }, Then::Go);
        if self.one_in(2) {
            go(steps, Act::Pass(4), Then::Go);
            go(steps, Act::Sweep { replica, takeover: true }, Then::Wait);
        }
    }

    /// A leader that is slow, and its successor.
    pub(super) fn two_leaders(&mut self, steps: &mut Vec<Step>) {
        let path = ["runners?per_page", "runners/", "runners?name="][self.below(3) as usize];
        let slow = Action::ActThenDelay { millis: self.below(LATEST_MILLIS) };
        let provision = self.provision();
        go(steps, provision, Then::Wait);
        let n = self.small();
        go(steps, Act::Connect(n), Then::Go);
        go(steps, Act::Fault(Fault::new("GET", path, slow)), Then::Go);
        let first = self.replica();
        let then = self.soon();
        go(steps, Act::Sweep { replica: first, takeover: true }, then);
        let then = self.soon();
        go(steps, Act::Sweep { replica: (first + 1) % REPLICAS, takeover: true }, then);
        if self.one_in(2) {
            let then = self.then();
            go(steps, Act::SweepAsBefore { replica: first }, then);
        }
    }

    /// A job, with what GitHub says of it worked off by several at once, one of which may be killed.
    pub(super) fn job(&mut self, steps: &mut Vec<Step>) {
        let (provision, n) = (self.provision(), self.small());
        go(steps, provision, Then::Wait);
        // Whoever was handed out last is hit by one of these.
        for n in [n, n.wrapping_add(1)] {
            go(steps, Act::Connect(n), Then::Go);
            go(steps, Act::StartJob(n), Then::Go);
        }
        if self.one_in(2) {
            go(steps, Act::Drift(n), Then::Go);
        }
        if self.one_in(2) {
            let then = self.soon();
            go(steps, self.deliver(), then);
        }
        if self.one_in(2) {
            let sweep = self.sweep();
            go(steps, sweep, Then::Go);
        }
        self.work_off(steps);
        go(steps, Act::FinishJob(n), Then::Go);
        for _ in 0..2 {
            let then = self.then();
            go(steps, self.deliver(), then);
            self.work_off(steps);
        }
    }

    fn work_off(&mut self, steps: &mut Vec<Step>) {
        let replica = self.replica();
        let moment = Then::Micros(self.below(15_000));
        go(steps, Act::WorkOff { replica }, moment);
        if self.one_in(3) {
            go(steps, Act::Kill { replica }, Then::Go);
            // Until others may take up what it had claimed.
            go(steps, Act::Pass(self.below(90) as i64 + 1), Then::Go);
        }
        let then = self.then();
        go(steps, Act::WorkOff { replica: (replica + 1) % REPLICAS }, then);
    }

    /// A sealer that is at it when another one begins, and goes on afterwards.
    pub(super) fn two_sealers(&mut self, steps: &mut Vec<Step>) {
        let (first, then) = (self.replica(), self.soon());
        go(steps, Act::Seal { replica: first, takeover: true }, then);
        let (provision, then) = (self.provision(), self.soon());
        go(steps, provision, then);
        let moment = Then::Micros(self.below(8_000));
        go(steps, Act::Seal { replica: first, takeover: false }, moment);
        let then = self.then();
        go(steps, Act::Seal { replica: (first + 1) % REPLICAS, takeover: true }, then);
        let then = self.then();
        go(steps, Act::SealAsBefore { replica: first }, then);
    }
}
