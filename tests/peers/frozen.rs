//! SIGSTOP for longer than the lease, while another replica works: what comes back does nothing twice.

use runner_broker::dev::github::{Action, Fault};
use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::crash::{HandedOut, agree};
use crate::process::{Replica, Site, until};
use crate::support::{ORG, answer};

const LEADS: &str = "broker_leader";

async fn leads(site: &Site, replica: &Replica) -> bool {
    replica.metric(&site.client, LEADS).await == Some(1.0)
}

/// How many of GitHub's runners were removed.
fn removals(site: &Site) -> usize {
    site.github.calls().iter().filter(|call| call.method == "DELETE" && call.status == Some(204)).count()
}

/// Lets a frozen replica go on, and waits until it has seen that another one leads.
async fn thawed(site: &Site, replica: &Replica) {
    replica.signal(Signal::CONT);
    until("it leads no more", async || replica.metric(&site.client, LEADS).await == Some(0.0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provision_that_is_frozen_until_its_repair_hands_nothing_out_and_removes_nothing_twice() {
    let site = Site::new().await;
    let frozen = site.serve().await;
    until("the first one leads", async || leads(&site, &frozen).await).await;
    let other = site.serve().await;
    site.github.fail(Fault::new("POST", "jitconfig", Action::ActThenDelay { millis: 900 }));
    let caller = tokio::spawn(answer(site.jit(&frozen, "r1")));
    until("GitHub has acted", async || site.github.runner(ORG, "r1").is_some()).await;
    frozen.signal(Signal::STOP);

    let handed_out = provisions(&site, &other).await;
    until("it is repaired", async || site.status("r1").await == "failed").await;
    assert!(site.github.runner(ORG, "r1").is_none());
    // The name is somebody else's by now.
    let again = answer(site.jit(&other, "r1")).await;
    assert_eq!(again.status, 201, "{}", again.text);

    thawed(&site, &frozen).await;
    assert_eq!(caller.await.expect("an answer").status, 503);
    let repaired = ["provision_requested", "runner_state_changed", "provision_failed"];
    assert_eq!(site.events("r1").await, [&repaired[..], &["provision_requested", "provisioned"]].concat());
    assert_eq!(removals(&site), 1);
    agree(&site, &other, &handed_out.into_iter().chain([("r1".to_owned(), again.body)]).collect()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_frozen_within_a_repair_leaves_it_to_the_next_and_writes_nothing_after() {
    let site = Site::new().await;
    let killed = site.serve().await;
    site.github.fail(Fault::new("POST", "jitconfig", Action::ActThenDelay { millis: 900 }));
    let caller = tokio::spawn(site.jit(&killed, "r1").send());
    until("GitHub has acted", async || site.github.runner(ORG, "r1").is_some()).await;
    killed.kill().await;
    assert!(caller.await.expect("no panic").is_err());

    // The first one to lead freezes with GitHub's answer on its way: the runner is there, and may be removed.
    site.github.fail(Fault::new("GET", "name=r1", Action::ActThenDelay { millis: 700 }));
    let frozen = site.serve().await;
    until("it looks for the runner", async || site.asked("GET", "name=r1") == 1).await;
    frozen.signal(Signal::STOP);
    assert_eq!(site.status("r1").await, "deleting");

    let other = site.serve().await;
    until("the other one has repaired it", async || site.status("r1").await == "failed").await;
    let handed_out = provisions(&site, &other).await;
    thawed(&site, &frozen).await;
    let repaired = ["provision_requested", "runner_state_changed", "provision_failed"];
    assert_eq!(site.events("r1").await, repaired);
    assert_eq!(removals(&site), 1);
    agree(&site, &other, &handed_out).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_is_frozen_until_the_sweep_has_finished_it_is_told_once() {
    let site = Site::new().await;
    let other = site.serve().await;
    let frozen = site.serve().await;
    assert_eq!(answer(site.jit(&frozen, "r1")).await.status, 201);
    site.github.fail(Fault::new("DELETE", "runners/", Action::ActThenDelay { millis: 900 }));
    let removal =
        site.client.delete(format!("{}/api/v1/runners/r1", frozen.url)).bearer_auth(site.token("blue"));
    let caller = tokio::spawn(answer(removal));
    until("GitHub has acted", async || site.github.runner(ORG, "r1").is_none()).await;
    frozen.signal(Signal::STOP);
    until("the sweep has finished it", async || site.status("r1").await == "deleted").await;
    frozen.signal(Signal::CONT);
    // Its time was over while it was frozen, so it may not know; the table does.
    let answer = caller.await.expect("an answer");
    assert!(matches!(answer.status, 200 | 503), "{}", answer.text);
    let events = ["provision_requested", "provisioned", "deprovision_requested", "deprovisioned"];
    let mut told = site.events("r1").await;
    told.retain(|event| event != "deprovision_failed");
    assert_eq!(told, events);
    assert_eq!(site.status("r1").await, "deleted");
    assert_eq!(removals(&site), 1);
    drop(other);
}

/// Sixteen runners, handed out by one replica while the other sleeps.
async fn provisions(site: &Site, replica: &Replica) -> HandedOut {
    let mut callers = JoinSet::new();
    for number in 0..16 {
        let name = format!("other-{number}");
        let request = site.jit(replica, &name);
        callers.spawn(async move { (name, answer(request).await) });
    }
    let answers = callers.join_all().await.into_iter();
    answers
        .map(|(name, answer)| {
            assert_eq!(answer.status, 201, "{}", answer.text);
            (name, answer.body)
        })
        .collect()
}
