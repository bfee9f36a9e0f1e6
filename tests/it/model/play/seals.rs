//! Sealing the log, by whoever leads or led; and the auditor, who looks at it in the end.

use std::time::{Duration, Instant};

use runner_broker::broker::Error;
use runner_broker::broker::audit::sealer::{Sealed, Sealer};
use runner_broker::broker::audit::verify::{Against, verify};
use runner_broker::store;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::{Play, lock};
use crate::model::site::Replica;

/// Transactions of others on the same server hold the sealer back.
const PATIENCE: Duration = Duration::from_secs(120);

/// One pass by this replica, if it leads or may; else, with the lease that it had last.
pub fn seal(replica: &Replica, may_lead: bool) -> JoinHandle<Result<Option<Sealed>, Error>> {
    let (broker, id, held) = (replica.broker.clone(), replica.id, replica.lease.clone());
    let sealer = replica.sealer.clone();
    replica.spawn(async move {
        let lease = match may_lead {
            true => broker.lead(id).await?,
            false => lock(&held).clone(),
        };
        let Some(lease) = lease else { return Ok(None) };
        *lock(&held) = Some(lease.clone());
        // A leader does one pass after the other, and begins anew when it leads anew.
        let mut sealer = sealer.lock().await;
        if sealer.0 != lease.epoch {
            *sealer = (lease.epoch, Sealer::default());
        }
        broker.seal(&lease, &mut sealer.1).await.map(Some)
    })
}

impl Play {
    /// What is left is sealed, and then the log is as it was sealed.
    pub(super) async fn log_at_the_end(&self) -> Vec<String> {
        let begun = Instant::now();
        let replica = &self.site.replicas[0];
        self.site.end_lease().await;
        let (broker, id) = (replica.broker.clone(), replica.id);
        let sealing = replica.spawn(async move {
            let Some(lease) = broker.lead(id).await? else { return Err(Error::LeaseLost) };
            // Nobody is at work any more.
            let mut sealer = Sealer::at_rest();
            while broker.seal(&lease, &mut sealer).await?.lag.is_none_or(|lag| lag.events > 0)
                && begun.elapsed() < PATIENCE
            {
                sleep(Duration::from_millis(3)).await;
            }
            Ok(())
        });
        if let Ok(Err(err)) = sealing.await {
            return vec![format!("the log was not sealed: {err:?}")];
        }
        let tampered = "SELECT event_data::text FROM audit_log WHERE event_type = 'audit_log_tampered'";
        let tampered = self.site.db.query(tampered, &[]).await.expect("the log");
        let count = self.site.db.query_one("SELECT count(*) FROM audit_log", &[]).await.expect("the log");
        let mut breaches: Vec<String> =
            tampered.iter().map(|row| format!("tampered with: {}", row.get::<_, &str>(0))).collect();
        let store = self.site.store();
        let mut verified = verify(&store, &Against::default(), |_, _| {}).await;
        while matches!(verified, Err(Error::Store(store::Error::Unavailable(_))))
            && begun.elapsed() < PATIENCE
        {
            verified = verify(&store, &Against::default(), |_, _| {}).await;
        }
        match verified {
            Ok(done) if done.found > 0 => breaches.push(format!("the auditor finds {:?}", done.findings)),
            Ok(done) if done.unsealed > 0 || i64::try_from(done.sealed) != Ok(count.get(0)) => {
                breaches.push(format!("of {} events {} are sealed", count.get::<_, i64>(0), done.sealed))
            }
            Ok(_) => {}
            Err(err) => breaches.push(format!("the auditor fails: {err:?}")),
        }
        breaches
    }
}
