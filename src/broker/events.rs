//! What the audit log says: the kinds of events and who caused them.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use super::people::caller::Caller;
use super::{Broker, Error, security};
use crate::model::Comment;
use crate::seal::TAMPERED;
use crate::store::Conn;
use crate::store::audit::{self, NewEvent};
use crate::store::runners::Runner;

/// The kinds of events, as `event_type` spells them, with their usual severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    ProvisionRequested,
    Provisioned,
    ProvisionRefused,
    ProvisionFailed,
    DeprovisionRequested,
    Deprovisioned,
    DeprovisionRefused,
    DeprovisionFailed,
    RemoveTokenIssued,
    RemoveTokenFailed,
    AccessRefused,
    RunnerStateChanged,
    OrphanRemoved,
    LabelDriftDetected,
    UnmanagedRunnerDetected,
    UnmanagedRunnerRemoved,
    PolicyApplied,
    TeamCreated,
    TeamUpdated,
    TeamDeactivated,
    TeamReactivated,
    RoleMembersChanged,
    BatchExecuted,
    TokenRefused,
    CallerRefused,
    IdentityDeactivated,
    IdentityActivated,
    IdentityRefused,
    SignedIn,
    SignedOut,
    SignInRefused,
    InvalidTokenBurst,
    ProvisionBurst,
    WebhookSignatureInvalid,
    WebhookDeliverySetAside,
    InstallationChanged,
    LabelPolicyViolationWorkflow,
    JobNoMatch,
    AuditLogTampered,
    AuditLogMoved,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::ProvisionRequested => "provision_requested",
            Kind::Provisioned => "provisioned",
            Kind::ProvisionRefused => "provision_refused",
            Kind::ProvisionFailed => "provision_failed",
            Kind::DeprovisionRequested => "deprovision_requested",
            Kind::Deprovisioned => "deprovisioned",
            Kind::DeprovisionRefused => "deprovision_refused",
            Kind::DeprovisionFailed => "deprovision_failed",
            Kind::RemoveTokenIssued => "remove_token_issued",
            Kind::RemoveTokenFailed => "remove_token_failed",
            Kind::AccessRefused => "access_refused",
            Kind::RunnerStateChanged => "runner_state_changed",
            Kind::OrphanRemoved => "orphan_removed",
            Kind::LabelDriftDetected => "label_drift_detected",
            Kind::UnmanagedRunnerDetected => "unmanaged_runner_detected",
            Kind::UnmanagedRunnerRemoved => "unmanaged_runner_removed",
            Kind::PolicyApplied => "policy_applied",
            Kind::TeamCreated => "team_created",
            Kind::TeamUpdated => "team_updated",
            Kind::TeamDeactivated => "team_deactivated",
            Kind::TeamReactivated => "team_reactivated",
            Kind::RoleMembersChanged => "role_members_changed",
            Kind::BatchExecuted => "batch_executed",
            Kind::TokenRefused => "token_refused",
            Kind::CallerRefused => "caller_refused",
            Kind::IdentityDeactivated => "identity_deactivated",
            Kind::IdentityActivated => "identity_activated",
            Kind::IdentityRefused => "identity_refused",
            Kind::SignedIn => "signed_in",
            Kind::SignedOut => "signed_out",
            Kind::SignInRefused => "sign_in_refused",
            Kind::InvalidTokenBurst => "invalid_token_burst",
            Kind::ProvisionBurst => "provision_burst",
            Kind::WebhookSignatureInvalid => "webhook_signature_invalid",
            Kind::WebhookDeliverySetAside => "webhook_delivery_set_aside",
            Kind::InstallationChanged => "installation_changed",
            Kind::LabelPolicyViolationWorkflow => "label_policy_violation_workflow",
            Kind::JobNoMatch => "job.no_match",
            Kind::AuditLogTampered => TAMPERED,
            Kind::AuditLogMoved => "audit_log_moved",
        }
    }

    /// Of a security event its type has the last word (`security::Type::severity`).
    fn severity(self) -> &'static str {
        match self {
            Kind::LabelDriftDetected | Kind::UnmanagedRunnerDetected | Kind::AuditLogTampered => "high",
            Kind::ProvisionRefused
            | Kind::ProvisionFailed
            | Kind::DeprovisionFailed
            | Kind::RemoveTokenFailed
            | Kind::AccessRefused
            | Kind::OrphanRemoved
            | Kind::UnmanagedRunnerRemoved
            | Kind::TokenRefused
            | Kind::CallerRefused
            | Kind::SignInRefused
            | Kind::WebhookSignatureInvalid
            | Kind::WebhookDeliverySetAside
            | Kind::AuditLogMoved
            | Kind::JobNoMatch => "warning",
            Kind::LabelPolicyViolationWorkflow => "high",
            _ => "info",
        }
    }

    pub(super) fn success(self) -> bool {
        !matches!(
            self,
            Kind::ProvisionRefused
                | Kind::ProvisionFailed
                | Kind::DeprovisionRefused
                | Kind::DeprovisionFailed
                | Kind::RemoveTokenFailed
                | Kind::AccessRefused
                | Kind::TokenRefused
                | Kind::CallerRefused
                | Kind::IdentityRefused
                | Kind::SignInRefused
                | Kind::InvalidTokenBurst
                | Kind::WebhookSignatureInvalid
                | Kind::WebhookDeliverySetAside
                | Kind::LabelPolicyViolationWorkflow
                | Kind::JobNoMatch
                | Kind::AuditLogTampered
        )
    }
}

/// Who does something: a caller, or a job of the broker's own.
#[derive(Clone, Copy, Debug)]
pub enum Actor<'a> {
    Caller(&'a Caller),
    /// An administrator, by one call for many things.
    Batch(&'a Caller, &'a Batch),
    System(&'static str),
}

/// What the events of one batch have in common.
#[derive(Clone, Debug)]
pub struct Batch {
    pub id: Uuid,
    pub comment: Comment,
}

impl<'a> Actor<'a> {
    /// Who calls, if it is somebody.
    pub(super) fn caller(self) -> Option<&'a Caller> {
        match self {
            Actor::Caller(caller) | Actor::Batch(caller, _) => Some(caller),
            Actor::System(_) => None,
        }
    }
}

/// An event by `actor`, about nothing yet.
pub(super) fn event_at(timestamp: DateTime<Utc>, kind: Kind, actor: Actor<'_>) -> NewEvent {
    let mut event = NewEvent {
        timestamp,
        event_type: kind.as_str(),
        severity: kind.severity(),
        success: kind.success(),
        user_identity: String::new(),
        issuer: None,
        subject: None,
        team: None,
        runner_id: None,
        runner_name: None,
        target: None,
        request_id: None,
        request_ip: None,
        user_agent: None,
        policy_rule: None,
        event_data: json!({}),
        error_code: None,
        error_message: None,
        alert: false,
    };
    match actor {
        Actor::System(job) => event.user_identity = format!("system:{job}"),
        Actor::Caller(caller) | Actor::Batch(caller, _) => {
            event.user_identity = caller.identity.display_name.clone();
            event.issuer = Some(caller.identity.issuer.clone());
            event.subject = Some(caller.identity.subject.clone());
            event.request_id = Some(caller.origin.request_id.clone());
            event.request_ip = caller.origin.address.clone();
            event.user_agent = caller.origin.user_agent.clone();
        }
    }
    if let Actor::Batch(_, batch) = actor {
        event.event_data = json!({ "batch_id": batch.id, "comment": batch.comment });
    }
    event
}

impl Broker {
    /// An event that happens now.
    pub(super) fn event(&self, kind: Kind, actor: Actor<'_>) -> NewEvent {
        NewEvent { alert: self.config.alerts.is_some(), ..event_at(self.clock.now(), kind, actor) }
    }
}

/// Fills an event in, in the order in which one would say it.
pub(super) trait About: Sized {
    fn about(self, runner: &Runner) -> Self;
    fn about_new(self, id: Uuid, name: &str) -> Self;
    fn with(self, data: Value) -> Self;
    fn because(self, err: &Error) -> Self;
}

impl About for NewEvent {
    fn about(mut self, runner: &Runner) -> NewEvent {
        self.team = Some(runner.team.clone());
        self.target = Some(runner.target.to_string());
        self.about_new(runner.id, &runner.name)
    }

    fn about_new(mut self, id: Uuid, name: &str) -> NewEvent {
        self.runner_id = Some(id);
        self.runner_name = Some(name.to_owned());
        self
    }

    fn with(mut self, data: Value) -> NewEvent {
        match (&mut self.event_data, data) {
            (Value::Object(known), Value::Object(more)) => known.extend(more),
            (known, data) => *known = data,
        }
        self
    }

    fn because(mut self, err: &Error) -> NewEvent {
        self.error_code = Some(err.code().to_owned());
        self.error_message = Some(err.to_string());
        self
    }
}

/// Adds `event` in the transaction of what it records, and tells of it if it is a security event.
pub(super) async fn record(conn: &Conn, event: NewEvent) -> Result<(), Error> {
    match security::of(&event) {
        None => Ok(audit::append(conn, &event).await?),
        Some(_) => security::record(conn, vec![event]).await,
    }
}

/// As `record`, for several at once, in this order.
pub(super) async fn record_all(conn: &mut Conn, events: &[NewEvent]) -> Result<(), Error> {
    match events.iter().any(|event| security::of(event).is_some()) {
        false => Ok(audit::append_all(conn, events).await?),
        true => security::record(conn, events.to_vec()).await,
    }
}
