//! The loops: woken by the clock or a signal, each calls one broker verb. What only one replica may do runs
//! under the leader's lease.

mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use uuid::Uuid;

use crate::alerts::Poster;
use crate::auth::Verifier;
use crate::broker::audit::sealer::Sealer;
use crate::broker::webhook::Lane;
use crate::broker::{Broker, POLICY_REFRESH};
use crate::store::leases::Lease;
use crate::telemetry::SPANS;

/// How often refused tokens and strangers are written as a count.
const REFUSALS: Duration = Duration::from_secs(60);

/// How often those who were seen are written down.
const IDENTITIES: Duration = Duration::from_secs(2);

/// How often sessions that have ended are forgotten.
const SESSIONS: Duration = Duration::from_secs(600);

/// How often it is looked for alerts to post, and for bursts of provisions.
const ALERTS: Duration = Duration::from_secs(1);
const BURSTS: Duration = Duration::from_secs(60);

/// How often the verifier looks whether keys have come of age.
const KEYS: Duration = Duration::from_secs(30);

/// How often the leader looks whether a target is wanted.
const WISHES: Duration = Duration::from_secs(1);

/// How long the sealer rests between two passes.
const SEALING: Duration = Duration::from_secs(2);

/// How often the numbers are counted in advance, so that the first page load has them at once.
const NUMBERS: Duration = Duration::from_secs(60);

/// Runs every loop until `stop`; the lease is given up at the end.
pub async fn run(broker: Arc<Broker>, verifier: Verifier, stop: CancellationToken) {
    let mut loops = JoinSet::new();
    loops.spawn(lead(broker.clone(), stop.clone()));
    for lane in Lane::ALL {
        loops.spawn(webhooks::work_off(broker.clone(), lane, stop.clone()));
    }
    loops.spawn(every(POLICY_REFRESH, stop.clone(), {
        let broker = broker.clone();
        move || {
            let broker = broker.clone();
            async move { report("refresh the policy", broker.refresh_policy().await) }
        }
    }));
    loops.spawn(every(REFUSALS, stop.clone(), {
        let broker = broker.clone();
        move || {
            let broker = broker.clone();
            async move { report("write refusals to the audit log", broker.flush_refusals().await) }
        }
    }));
    loops.spawn(every(IDENTITIES, stop.clone(), {
        let broker = broker.clone();
        move || {
            let broker = broker.clone();
            async move { report("write identities", broker.flush_identities().await) }
        }
    }));
    loops.spawn(every(SESSIONS, stop.clone(), {
        let broker = broker.clone();
        move || {
            let broker = broker.clone();
            async move { report("delete ended sessions", broker.purge_sessions().await) }
        }
    }));
    loops.spawn(post(broker.clone(), stop.clone()));
    loops.spawn(count(broker.clone(), stop.clone()));
    loops.spawn(every(KEYS, stop, move || {
        let verifier = verifier.clone();
        async move { verifier.refresh().await }
    }));
    while loops.join_next().await.is_some() {}
    report("write refusals to the audit log", broker.flush_refusals().await);
    report("write identities", broker.flush_identities().await);
}

/// Counts what happened in the hours that are over.
async fn count(broker: Arc<Broker>, stop: CancellationToken) {
    every(NUMBERS, stop.clone(), || async {
        tokio::select! {
            () = stop.cancelled() => {}
            done = broker.count_ahead() => report("count statistics in advance", done),
        }
    })
    .await;
}

/// Posts security events, if a webhook is configured for them.
async fn post(broker: Arc<Broker>, stop: CancellationToken) {
    let Some(config) = &broker.config().alerts else { return };
    let poster = match Poster::new(config) {
        Ok(poster) => poster,
        Err(err) => return tracing::error!(error = %err, "no security event will be posted"),
    };
    every(ALERTS, stop.clone(), || async {
        loop {
            // Broken off at the end: what was not posted is claimed again after a while.
            let round = tokio::select! {
                () = stop.cancelled() => return,
                round = broker.post_alerts(&poster) => round,
            };
            match round {
                Ok(round) if round.goes_on() => {}
                Ok(_) => return,
                Err(err) => return report("post security events", Err(err)),
            }
        }
    })
    .await;
}

async fn every<F: Future<Output = ()>>(period: Duration, stop: CancellationToken, work: impl Fn() -> F) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => work().await,
        }
    }
}

/// Holds the lease as long as it can, and sweeps while it does.
async fn lead(broker: Arc<Broker>, stop: CancellationToken) {
    let replica = Uuid::now_v7();
    // Three tries before the lease ends.
    let renewal = broker.config().lease / 3;
    metrics::gauge!("broker_leader").set(0);
    while !stop.is_cancelled() {
        match broker.lead(replica).await {
            Ok(Some(lease)) => {
                tracing::info!(epoch = lease.epoch, "this replica leads");
                metrics::gauge!("broker_leader").set(1);
                let lost = stop.child_token();
                let mut leading = JoinSet::new();
                leading.spawn(sweep(broker.clone(), lease.clone(), lost.clone()));
                leading.spawn(sweep_wanted(broker.clone(), lease.clone(), lost.clone()));
                leading.spawn(watch(broker.clone(), lease.clone(), lost.clone()));
                leading.spawn(webhooks::tend(broker.clone(), lease.clone(), lost.clone()));
                leading.spawn(webhooks::redeliver(broker.clone(), lease.clone(), lost.clone()));
                leading.spawn(seal(broker.clone(), lease.clone(), lost.clone()));
                prolong(&broker, replica, &lease, renewal, &lost).await;
                lost.cancel();
                while let Some(ended) = leading.join_next().await {
                    if let Err(err) = ended {
                        tracing::error!(error = %err, "a loop of the leader's ended abnormally");
                    }
                }
                metrics::gauge!("broker_leader").set(0);
                report("give up the lease", broker.step_down(&lease).await);
            }
            Ok(None) => {}
            Err(err) => tracing::warn!(error = %err, "the leader's lease could not be asked for"),
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = sleep(renewal) => {}
        }
    }
}

/// Returns when the lease is lost, or at the end.
async fn prolong(broker: &Broker, replica: Uuid, lease: &Lease, renewal: Duration, lost: &CancellationToken) {
    let mut failures = 0;
    loop {
        tokio::select! {
            () = lost.cancelled() => return,
            () = sleep(renewal) => {}
        }
        match broker.lead(replica).await {
            Ok(Some(held)) if held.epoch == lease.epoch => failures = 0,
            Ok(_) => {
                tracing::warn!(epoch = lease.epoch, "the lease went to another replica");
                return;
            }
            Err(err) => {
                tracing::warn!(error = %err, "the leader's lease could not be prolonged");
                failures += 1;
                // After three periods it has ended; writes are refused by their fence in any case.
                if failures >= 3 {
                    return;
                }
            }
        }
    }
}

/// Sweeps at once, then by the clock or when woken.
async fn sweep(broker: Arc<Broker>, lease: Lease, stop: CancellationToken) {
    // Many wakes in a row make one sweep a second, not one each.
    const DEBOUNCE: Duration = Duration::from_secs(1);
    // However this ends: a leader that does not sweep must not keep others from it.
    let _lost = stop.clone().drop_guard();
    loop {
        // Broken off at the end or when the lease is lost: a sweep may be interrupted anywhere.
        tokio::select! {
            () = stop.cancelled() => return,
            done = broker.sync(&lease).instrument(tracing::info_span!(target: SPANS, "sweep")) => match done {
                Ok(done) => tracing::debug!(?done, "swept"),
                Err(err) => tracing::warn!(error = %err, "the sweep ended early"),
            },
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(broker.config().sync_interval) => {}
            () = async { broker.woken().await; sleep(DEBOUNCE).await } => {}
        }
    }
}

/// Sweeps the targets that somebody wants swept, as a webhook of any replica does.
async fn sweep_wanted(broker: Arc<Broker>, lease: Lease, stop: CancellationToken) {
    let _lost = stop.clone().drop_guard();
    loop {
        // Between two looks, not from one to the next: many wishes make about one sweep a second.
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(WISHES) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            done = broker.sync_wanted(&lease) => match done {
                Ok(done) => tracing::trace!(?done, "swept what was wanted"),
                Err(err) => tracing::warn!(error = %err, "sweeping what was wanted ended early"),
            },
        }
    }
}

/// Seals the audit log as long as this replica leads. It may be broken off anywhere: the next pass goes on.
async fn seal(broker: Arc<Broker>, lease: Lease, stop: CancellationToken) {
    // However this ends: a leader that does not seal must not keep others from it.
    let _lost = stop.clone().drop_guard();
    let mut sealer = Sealer::default();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            done = broker.seal(&lease, &mut sealer) => match done {
                Ok(done) => tracing::trace!(?done, "sealed"),
                Err(err) => tracing::warn!(error = %err, "sealing the audit log failed"),
            },
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(SEALING) => {}
        }
    }
}

/// Looks for bursts of provisions.
async fn watch(broker: Arc<Broker>, lease: Lease, stop: CancellationToken) {
    every(BURSTS, stop, || async {
        report("look for bursts of provisions", broker.watch_provisions(&lease).await.map(drop));
    })
    .await;
}

fn report<E: std::fmt::Display>(doing: &str, result: Result<(), E>) {
    if let Err(err) = result {
        tracing::warn!(error = %err, "could not {doing}");
    }
}
