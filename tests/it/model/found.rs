//! Sequences that failed once, as short as they could be made.

use runner_broker::dev::github::{Action, Canned, Fault};
use runner_broker::model::Method;

use super::Lane;
use super::steps::{Act, Name, Step, Then, Which};

fn assert_holds(steps: &[(Act, Then)]) {
    let steps: Vec<Step> = steps.iter().map(|(act, then)| Step { act: act.clone(), then: *then }).collect();
    let (breaches, _) = Lane::new().run(&steps);
    assert!(breaches.is_empty(), "{breaches:#?}");
}

fn on_post(action: Action) -> Act {
    Act::Fault(Fault::new("POST", "generate-jitconfig", action))
}

fn jit(replica: usize, n: u8, key: u8) -> Act {
    Act::Provision {
        replica,
        team: 0,
        method: Method::Jit,
        name: Name::Exact(n),
        key: Some(key),
        on_repo: false,
    }
}

fn registration(replica: usize, name: Name, on_repo: bool) -> Act {
    Act::Provision { replica, team: 0, method: Method::RegistrationToken, name, key: None, on_repo }
}

/// MODEL_SEED=102957: the sweep had not come to its end, since the removal's next attempt was a minute away.
#[test]
fn a_removal_without_answers_of_a_runner_with_a_job_that_nobody_waits_for() {
    for when_idle in [false, true] {
        let which = Which::HandedOut(7);
        assert_holds(&[
            (Act::Fault(Fault::new("DELETE", "runners/", Action::ActThenDrop).times(4)), Then::Wait),
            (registration(1, Name::Prefix, true), Then::Wait),
            (Act::Connect(7), Then::Wait),
            (Act::StartJob(7), Then::Wait),
            (Act::Remove { replica: 0, which, when_idle }, Then::Micros(12_657)),
            (Act::Disconnect(7), Then::Wait),
            (Act::Sweep { replica: 2, takeover: false }, Then::Wait),
        ]);
    }
}

/// MODEL_SEED=102762: the first request acted when the second one's runner had gone.
#[test]
fn a_jit_that_was_asked_for_twice_and_whose_runner_vanishes_before_the_first_request_acts() {
    for millis in [26, 60, 150] {
        assert_holds(&[
            (on_post(Action::RespondThenAct { answer: Canned::status(503), millis }), Then::Go),
            (jit(2, 2, 1), Then::Micros(20_390)),
            (Act::Vanish(11), Then::Go),
        ]);
    }
}

/// Longer than the model itself lets GitHub be late: the next step is over before it acts.
const LATE_MILLIS: u64 = 600;

/// So long that it has acted.
fn until_it_has_acted() -> (Act, Then) {
    (Act::Pass(1), Then::Micros(1_000 * (LATE_MILLIS + 100)))
}

/// MODEL_SEED=2329491438: killed while GitHub was slow, it appeared under a name that a registration had by then.
#[test]
fn a_jit_that_was_killed_while_github_was_slow_and_a_registration_of_its_name() {
    assert_holds(&[
        (on_post(Action::Delay { millis: LATE_MILLIS }), Then::Go),
        (jit(1, 0, 2), Then::Micros(50_000)),
        (Act::Kill { replica: 1 }, Then::Go),
        (Act::Pass(4), Then::Go),
        (Act::Sweep { replica: 1, takeover: true }, Then::Wait),
        (registration(2, Name::Exact(0), false), Then::Wait),
        until_it_has_acted(),
    ]);
}

/// The same seed, otherwise: a repair that found the former runner gave the row back, and the repeat went on until it
/// was killed.
#[test]
fn a_repeat_that_a_repair_takes_for_dead_and_that_is_killed_while_github_is_slow() {
    let slow_look = Fault::new("GET", "runners/", Action::ActThenDelay { millis: 150 });
    assert_holds(&[
        (jit(2, 0, 2), Then::Wait),
        (Act::Fault(slow_look), Then::Go),
        (on_post(Action::Delay { millis: LATE_MILLIS }), Then::Go),
        (jit(1, 0, 2), Then::Micros(50_000)),
        (Act::Pass(4), Then::Go),
        (Act::Sweep { replica: 2, takeover: true }, Then::Micros(200_000)),
        (Act::Kill { replica: 1 }, Then::Go),
        until_it_has_acted(),
    ]);
}

/// MODEL_SEED=771365019: a repair gave the first one up, and the second one's runner was there when the first one heard
/// that its name is taken.
#[test]
fn a_slow_request_that_a_repair_gave_up_and_its_successor_of_the_same_name() {
    assert_holds(&[
        (on_post(Action::Delay { millis: 145 }), Then::Go),
        (jit(2, 2, 1), Then::Micros(19_680)),
        (Act::Pass(18), Then::Go),
        (Act::Sweep { replica: 2, takeover: true }, Then::Micros(14_297)),
        (on_post(Action::ActThenDelay { millis: 114 }), Then::Go),
        (jit(2, 1, 0), Then::Micros(15_212)),
    ]);
}
