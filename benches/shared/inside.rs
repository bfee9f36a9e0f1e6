//! A broker in this process, for what has no call: passes of the sealer and sweeps.

use std::sync::Arc;
use std::time::Duration;

use runner_broker::broker::Broker;
use runner_broker::clock::Clock;
use runner_broker::config;
use runner_broker::dev::github::private_key_pem;
use runner_broker::github::GitHub;
use runner_broker::store::Store;
use url::Url;

/// Longer than a benchmark takes, as nobody prolongs it.
const LEASE: Duration = Duration::from_secs(86_400);

/// Knows the policy that is in force; `api_url` is its GitHub.
pub fn broker(store: Store, api_url: &str, app_id: u64) -> Arc<Broker> {
    let api_url = Url::parse(api_url).expect("a URL");
    let github = config::GitHub {
        app_id,
        private_key: private_key_pem().into(),
        org: "octo-org".parse().expect("a target"),
        installation_id: None,
        url: api_url.clone(),
        api_url,
        timeout: Duration::from_secs(10),
        webhook_secret: None,
    };
    let settings = config::Broker {
        default_runner_group_id: 1,
        jit_start_deadline: Duration::from_secs(3600),
        sync_enabled: true,
        sync_interval: Duration::from_secs(120),
        lease: LEASE,
        stale_after: Duration::from_secs(24 * 3600),
        unmanaged_runners: config::Unmanaged::Report,
        drift_deletes_busy: false,
        label_policy_enforcement: config::Enforcement::Audit,
        audit_signing_key: None,
        alerts: None,
    };
    let clock = Clock::default();
    let client = GitHub::new(&github, clock.clone()).expect("a key");
    Broker::new(settings, &github, store, client, clock)
}
