//! A broker in this process, for what has no call: passes of the sealer and sweeps.

use std::sync::Arc;
use std::time::Duration;

use runner_broker::broker::Broker;
use runner_broker::clock::Clock;
use runner_broker::dev::config::config_for;
use runner_broker::github::GitHub;
use runner_broker::store::Store;

/// Longer than a benchmark takes, as nobody prolongs it.
const LEASE: Duration = Duration::from_secs(86_400);

/// Knows the policy that is in force; `api_url` is its GitHub.
pub fn broker(store: Store, api_url: &str, app_id: u64) -> Arc<Broker> {
    let mut config = config_for("", "http://127.0.0.1:1", api_url, app_id);
    config.broker.lease = LEASE;
    let clock = Clock::default();
    let client = GitHub::new(&config.github, clock.clone()).expect("a key");
    Broker::new(config.broker, &config.github, store, client, clock)
}
