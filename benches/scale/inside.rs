//! What nobody waits for, timed within this process: passes of the sealer, and sweeps.

use std::sync::Arc;
use std::time::{Duration, Instant};

use runner_broker::broker::Broker;
use runner_broker::broker::audit::sealer::Sealer;
use runner_broker::dev::github::{self, GitHub};
use runner_broker::store::Store;
use runner_broker::store::leases::Lease;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::fill::column;
use crate::inside;
use crate::site::ORG;

/// What one pass of the sealer finds, as a few hundred provisions leave it.
const NEW_EVENTS: &str = "
    INSERT INTO audit_log (timestamp, event_type, severity, success, user_identity, issuer, subject, team,
        runner_id, runner_name, target, request_id, request_ip, user_agent, policy_rule, event_data)
    SELECT clock_timestamp(), 'provisioned', 'info', true, 'repo:octo-org/octo-repo:ref:refs/heads/main',
        'https://token.actions.githubusercontent.com', 'repo:octo-org/octo-repo:ref:refs/heads/main', 'team-07',
        gen_random_uuid(), 'runner-' || i, 'octo-org', gen_random_uuid()::text, '10.1.2.3', 'curl/8.5.0',
        'team team-07, member 1', jsonb_build_object('labels', array['linux', 'x64'], 'sha256', md5(i::text))
    FROM generate_series(1, 1000) i";

/// So many runners have become busy or idle since the last sweep.
const CHANGED: usize = 100;

/// A leader on one of the databases, with a GitHub of its own.
pub struct Inside {
    broker: Arc<Broker>,
    lease: Lease,
    sealer: Sealer,
    github: GitHub,
    /// Target and name of the runners that live.
    live: Vec<(String, String)>,
    rounds: usize,
}

impl Inside {
    /// Takes the lead, and puts the live runners on GitHub.
    pub async fn lead(url: String, client: &Client) -> Inside {
        client.batch_execute("DELETE FROM leases").await.expect("a table");
        let github = GitHub::start(github::Settings { record_calls: false, ..github::Settings::default() });
        let github = github.expect("a GitHub");
        github.add_org(ORG);
        (1..20).for_each(|number| github.add_repo(&format!("{ORG}/repo-{number}")));
        let store = Store::new(&url.into(), 4).expect("a URL");
        // An index is built for longer than a request may take.
        store.disable_hang_detection();
        let broker = inside::broker(store, github.url(), github.app_id());
        broker.refresh_policy().await.expect("a policy");
        let lease = broker.lead(Uuid::now_v7()).await.expect("a database").expect("the lease");
        let live = planted(client, &github).await;
        Inside { broker, lease, sealer: Sealer::at_rest(), github, live, rounds: 0 }
    }

    pub fn live(&self) -> usize {
        self.live.len()
    }

    /// Seals all that waits; how many events those were, and how many are sealed.
    pub async fn seal(&mut self) -> (u64, u64) {
        let sealed = self.broker.seal(&self.lease, &mut self.sealer).await.expect("a pass");
        assert_eq!(sealed.planted, 0, "{sealed:?}");
        (sealed.events, sealed.size)
    }

    /// What a pass takes that finds a thousand new events.
    pub async fn sealing(&mut self, client: &Client) -> Duration {
        // What the last sweep wrote.
        self.seal().await;
        client.batch_execute(NEW_EVENTS).await.expect("events");
        let begun = Instant::now();
        let (events, _) = self.seal().await;
        assert_eq!(events, 1_000, "what was inserted");
        begun.elapsed()
    }

    /// What a sweep takes.
    pub async fn sweep(&mut self) -> Duration {
        for (target, name) in self.live.iter().take(CHANGED) {
            let change = if self.rounds.is_multiple_of(2) { GitHub::start_job } else { GitHub::finish_job };
            change(&self.github, target, name).expect("a runner");
        }
        self.rounds += 1;
        let begun = Instant::now();
        let report = self.broker.sync(&self.lease).await.expect("a sweep");
        let took = begun.elapsed();
        assert_eq!((report.seen, report.failures, report.unmanaged), (self.live.len(), 0, 0), "{report:?}");
        took
    }

    pub async fn step_down(self) {
        self.broker.step_down(&self.lease).await.expect("a database");
    }
}

/// Puts every live runner on GitHub, online and idle, and tells the table its id there.
async fn planted(client: &Client, github: &GitHub) -> Vec<(String, String)> {
    let query = "SELECT target || ' ' || name || ' ' || array_to_string(labels, ',') FROM runners
                 WHERE status IN ('pending', 'active', 'offline', 'deleting') ORDER BY id";
    let mut live = Vec::new();
    let (mut names, mut ids) = (Vec::new(), Vec::new());
    for row in column(client, query).await {
        let [target, name, labels] = row.split(' ').collect::<Vec<_>>()[..] else { panic!("{row}") };
        let labels: Vec<&str> = labels.split(',').collect();
        let id = github.plant(target, name, &labels, false).expect("a runner");
        github.connect(target, name).expect("a runner");
        live.push((target.to_owned(), name.to_owned()));
        names.push(format!("{target} {name}"));
        ids.push(id);
    }
    let update = "UPDATE runners SET github_runner_id = id_there, method = 'jit'
                  FROM unnest($1::text[], $2::bigint[]) AS there (name_there, id_there)
                  WHERE target || ' ' || name = name_there AND status IN ('pending', 'active', 'offline', 'deleting')";
    client.execute(update, &[&names, &ids]).await.expect("an update");
    live
}
