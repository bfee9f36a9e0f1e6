//! SIGTERM: what has begun is finished, nothing new is taken, and it ends in time.

use std::time::Duration;

use runner_broker::dev::github::{Action, Fault};
use rustix::process::Signal;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::crash::{HandedOut, agree};
use crate::process::{GITHUB_TIMEOUT, Replica, Site, until};
use crate::support::{ORG, answer};

/// Three times `GITHUB_TIMEOUT_SECONDS` and five seconds.
const LONGEST: Duration = Duration::from_secs(3 * GITHUB_TIMEOUT.as_secs() + 5);
const IN_FLIGHT: usize = 32;

async fn terminated(replica: &mut Replica) {
    let begun = Instant::now();
    replica.signal(Signal::TERM);
    let port = replica.port;
    until("new connections are refused", async || TcpStream::connect(("127.0.0.1", port)).await.is_err())
        .await;
    let status = replica.ended(LONGEST.saturating_sub(begun.elapsed())).await;
    assert_eq!(status.code(), Some(0), "{}", replica.read_log());
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_every_provision_in_flight_finish_and_refuses_new_ones() {
    let site = Site::new().await;
    let mut replica = site.serve().await;
    let slow = Action::ActThenDelay { millis: 600 };
    site.github.fail(Fault::new("POST", "jitconfig", slow).always());
    let mut callers = JoinSet::new();
    for number in 0..IN_FLIGHT {
        let name = format!("r{number}");
        let request = site.jit(&replica, &name);
        callers.spawn(async move { (name, answer(request).await) });
    }
    until("all are at GitHub", async || site.asked("POST", "jitconfig") == IN_FLIGHT).await;
    terminated(&mut replica).await;
    let mut handed_out = HandedOut::new();
    for (name, answer) in callers.join_all().await {
        assert_eq!(answer.status, 201, "{name}: {}", answer.text);
        handed_out.insert(name, answer.body);
    }
    agree(&site, &site.serve().await, &handed_out).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_a_provision_finish_whose_caller_has_gone() {
    let site = Site::new().await;
    let mut replica = site.serve().await;
    site.github.fail(Fault::new("POST", "jitconfig", Action::ActThenDelay { millis: 600 }));
    let caller = tokio::spawn(site.jit(&replica, "r1").send());
    until("it is at GitHub", async || site.asked("POST", "jitconfig") == 1).await;
    caller.abort();
    terminated(&mut replica).await;
    assert_eq!(site.status("r1").await, "pending");
    assert!(site.github.runner(ORG, "r1").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_it_in_time_even_while_github_never_answers() {
    let site = Site::new().await;
    let mut replica = site.serve().await;
    site.github.fail(Fault::new("POST", "jitconfig", Action::Hang).always());
    let caller = tokio::spawn(answer(site.jit(&replica, "r1")));
    until("it is at GitHub", async || site.asked("POST", "jitconfig") == 1).await;
    terminated(&mut replica).await;
    assert_eq!(caller.await.expect("an answer").status, 503);
    site.github.clear_faults();
    let replica = site.serve().await;
    site.settled().await;
    agree(&site, &replica, &HandedOut::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_gives_the_lease_up_so_that_the_next_leader_need_not_wait() {
    let site = Site::new().await;
    let mut replica = site.serve_with(&[("LEASE_SECONDS", "600")]).await;
    let live = "SELECT count(*) FROM leases WHERE expires_at > clock_timestamp()";
    until("it leads", async || site.one(live).await == "1").await;
    terminated(&mut replica).await;
    assert_eq!(site.one(live).await, "0");
}
