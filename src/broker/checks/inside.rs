//! What the tables and this process say: no call to anybody but Postgres.

use chrono::TimeDelta;

use super::database::Tables;
use super::{Area, Audience, Check, Code, Health};
use crate::broker::Broker;
use crate::broker::events::Kind;
use crate::store::audit::{self, Filter, Scope};
use crate::store::sync_targets::SweepResult;
use crate::store::{self, Conn, alerts, audit_sealing, deliveries};

/// How many deliveries may wait before it is news, and how many are counted.
const MANY: i64 = 1_000;
/// How old the oldest event that waits to be sealed may be, in seconds.
const LAG: f64 = 60.0;

impl Broker {
    pub(super) async fn inside(&self, audience: Audience) -> Vec<Check> {
        let (mut checks, tables) = self.database().await;
        if tables == Tables::Unreadable {
            let areas = [Area::Webhooks, Area::Sweep, Area::AuditLog, Area::Alerts];
            checks.extend(
                areas.map(|area| Check::not_checked(area, "Tables", "Postgres does not say, see above")),
            );
            return checks;
        }
        let (sweep, leads) = self.sweep(audience).await;
        checks.extend(sweep);
        // Nobody seals while there is no service that runs.
        let gravest = match (audience, leads) {
            (Audience::Doctor, false) => Health::Warning,
            _ => Health::Fault,
        };
        let judged = |check: Check| match check.code {
            Some(Code::SealingLate) => check.no_worse_than(gravest),
            _ => check,
        };
        checks.extend(self.tables().await.into_iter().map(judged));
        checks
    }

    /// The sweep, and whether anybody leads.
    async fn sweep(&self, audience: Audience) -> (Vec<Check>, bool) {
        let area = Area::Sweep;
        let status = match self.sync_status().await {
            Ok(status) => status,
            Err(err) => {
                return (vec![Check::fault(area, "Leader", Code::DatabaseRefuses, err.to_string())], false);
            }
        };
        let now = self.clock.now();
        let lease = status.lease.filter(|lease| lease.stands);
        let leads = lease.is_some();
        let gravest = if audience == Audience::Doctor && !leads { Health::Warning } else { Health::Fault };
        let mut checks = vec![match (lease, audience) {
            (Some(lease), _) => {
                Check::ok(area, "Leader", format!("replica {}, epoch {}", lease.holder, lease.epoch))
            }
            (None, Audience::Console) => {
                Check::fault(area, "Leader", Code::NoLeader, "no replica leads at this moment")
                    .advise("if that stays so for longer than LEASE_SECONDS, look at the replicas' logs")
            }
            (None, Audience::Doctor) => {
                Check::warning(area, "Leader", Code::NoLeader, "no serve is running now, or none leads")
                    .advise("start 'runner-broker serve'; if one runs, its log says why it does not lead")
            }
        }];
        let (backlog, overdue) = (status.backlog, |count: i64| count > 0);
        let detail = format!(
            "{} interrupted provisions, {} removals, {} runners past their deadline",
            backlog.interrupted, backlog.deleting, backlog.unstarted
        );
        checks.push(match overdue(backlog.interrupted + backlog.unstarted) {
            true => Check::warning(area, "Overdue", Code::SweepOverdue, detail)
                .advise("the next sweep takes them up; if not, see the log"),
            false => Check::ok(area, "Overdue", detail),
        });
        for target in status.targets.into_iter().take(200) {
            let what = format!("Sweep of {}", target.target);
            let seen = target.completed_at.map_or("never read whole".to_owned(), |at| {
                let runners = target.runners_seen.unwrap_or(0);
                format!("last read whole {} s ago, {runners} runners", (now - at).num_seconds().max(0))
            });
            let detail = match &target.error {
                Some(error) => format!("{seen}; {}: {error}", target.result.as_deref().unwrap_or("failed")),
                None => seen,
            };
            let postponed = target.result.as_deref() == Some(SweepResult::Postponed.as_str());
            checks.push(match (status.unswept.contains(&target.target), target.error.is_some()) {
                (true, _) if !postponed => Check::fault(area, what, Code::SweepFails, detail)
                    .advise("what the broker knows of its runners is old: see the target's permissions above")
                    .no_worse_than(gravest),
                (true, _) | (false, true) => Check::warning(area, what, Code::SweepFails, detail),
                (false, false) => Check::ok(area, what, detail),
            });
        }
        (checks, leads)
    }

    /// What waits in tables; where Postgres is away that was said already.
    async fn tables(&self) -> Vec<Check> {
        let Ok(mut conn) = self.store.conn().await else { return Vec::new() };
        let fault = |area: Area| {
            move |err: store::Error| {
                vec![Check::fault(area, "Tables", Code::DatabaseRefuses, err.to_string())]
            }
        };
        let mut checks = self.webhooks(&mut conn).await.unwrap_or_else(fault(Area::Webhooks));
        checks.extend(self.sealing(&mut conn).await.unwrap_or_else(fault(Area::AuditLog)));
        checks.extend(self.alerting(&mut conn).await.unwrap_or_else(fault(Area::Alerts)));
        checks
    }

    async fn webhooks(&self, conn: &mut Conn) -> Result<Vec<Check>, store::Error> {
        let area = Area::Webhooks;
        if !self.hears_of_jobs() {
            let off = Check::warning(
                area,
                "Deliveries",
                Code::WebhookOff,
                "GITHUB_WEBHOOK_SECRET is not set: GitHub sends no webhooks",
            );
            return Ok(vec![off.advise(
                "set it, and the same secret in the App's settings: states come at once, and jobs are known",
            )]);
        }
        let now = self.clock.now();
        let mut checks = Vec::new();
        checks.push(match deliveries::latest(conn).await? {
            Some(last) => Check::ok(
                area,
                "Deliveries",
                format!(
                    "last processed: {}, {} s ago",
                    last.event,
                    (now - last.received_at).num_seconds().max(0)
                ),
            ),
            None => Check::warning(
                area,
                "Deliveries",
                Code::WebhookSilent,
                "no delivery has been received yet",
            )
            .advise(
                "the App's settings on GitHub list its deliveries under \"Advanced\", with what was answered",
            ),
        });
        let waiting = deliveries::backlog(conn, MANY).await?;
        checks.push(match waiting >= MANY {
            true => Check::warning(
                area,
                "Waiting",
                Code::WebhookBacklog,
                format!("{waiting} or more deliveries wait to be processed"),
            ),
            false => Check::ok(area, "Waiting", format!("{waiting} deliveries wait to be processed")),
        });
        let event_type = Some(Kind::WebhookDeliverySetAside.as_str().to_owned());
        let filter = Filter { event_type, ..Filter::default() };
        let (mut set_aside, _) = audit::page(conn, &Scope::All, &filter, None, 1).await?;
        checks.push(match set_aside.pop() {
            Some(event) if now - event.timestamp < TimeDelta::days(1) => {
                let why = event.error_message.unwrap_or_else(|| event.event_data.to_string());
                let detail = format!("within the last day, event {}: {why}", event.id);
                Check::warning(area, "Set aside", Code::WebhookSetAside, detail)
                    .advise("mend its cause, then send it again from the App's page on GitHub")
            }
            _ => Check::ok(area, "Set aside", "none within the last day"),
        });
        Ok(checks)
    }

    async fn sealing(&self, conn: &mut Conn) -> Result<Vec<Check>, store::Error> {
        let area = Area::AuditLog;
        let signing = match self.verifier_key() {
            Some(key) => Check::ok(area, "Signature", format!("checkpoints are signed: {key}")),
            None => Check::warning(
                area,
                "Signature",
                Code::CheckpointsUnsigned,
                "checkpoints are not signed by this replica",
            )
            .advise("set AUDIT_SIGNING_KEY_PATH; 'runner-broker audit-key generate' makes a key"),
        };
        let horizon = audit_sealing::horizon(conn).await?.map_or(0, |horizon| horizon.horizon_id);
        let lag = audit_sealing::lag(conn, horizon).await?;
        let detail = format!("{} events wait, the oldest for {:.0} s", lag.events, lag.seconds);
        if lag.seconds <= LAG {
            return Ok(vec![signing, Check::ok(area, "Sealing", detail)]);
        }
        let blocker = audit_sealing::blocker(conn).await?;
        let advice = blocker.map_or("see the leader's log".to_owned(), |by| {
            format!("end what holds the sealer back: {}", by.what)
        });
        Ok(vec![signing, Check::fault(area, "Sealing", Code::SealingLate, detail).advise(advice)])
    }

    async fn alerting(&self, conn: &mut Conn) -> Result<Vec<Check>, store::Error> {
        let (area, what) = (Area::Alerts, "Waiting");
        let (posts, events) = alerts::waiting(conn).await?;
        let detail = format!("{posts} posts wait, and {events} events are not in any post yet");
        Ok(vec![match (&self.config.alerts, posts) {
            (None, 0) => {
                Check::ok(area, what, "ALERT_WEBHOOK_URL is not set: security events are in the log alone")
            }
            (None, _) => Check::warning(area, what, Code::AlertsWait, detail)
                .advise("ALERT_WEBHOOK_URL is not set on this replica"),
            (Some(_), posts) if posts > 20 => Check::warning(area, what, Code::AlertsWait, detail)
                .advise("check that ALERT_WEBHOOK_URL takes them: the log says why not"),
            (Some(_), _) => Check::ok(area, what, detail),
        }])
    }
}
