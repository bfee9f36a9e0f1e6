//! The types of security events and how severe each is. There is no second log: the type follows from what an
//! event of the log says.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

/// How grave something is, as `severity` spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// For the record.
    Info,
    /// Somebody should look at it.
    Warning,
    /// Somebody should look at it today.
    High,
}

impl Severity {
    /// Every one of them.
    pub const ALL: [Severity; 3] = [Severity::Info, Severity::Warning, Severity::High];

    /// As events and answers spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::High => "high",
        }
    }
}

/// What kind of security event something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A provision asked for labels that the policy does not permit.
    LabelPolicyViolation,
    /// A provision asked for a method, target or runner group that the policy does not permit.
    PolicyViolation,
    /// A provision exceeded the team's quota.
    QuotaExceeded,
    /// A runner has other labels than were asked for.
    LabelDriftDetected,
    /// GitHub lists a runner that nobody asked the broker for.
    UnmanagedRunnerDetected,
    /// A job ran on a runner with labels that the policy does not permit.
    LabelPolicyViolationWorkflow,
    /// Very many tokens of one issuer were refused.
    InvalidTokenBurst,
    /// A team or caller asks for far more runners than usual.
    ProvisionBurst,
    /// A webhook without a valid signature arrived.
    WebhookSignatureInvalid,
    /// The audit log was changed by someone else.
    AuditLogTampered,
    /// The audit log is in another database or cluster.
    AuditLogMoved,
    /// A caller tried something that their role does not allow.
    AccessRefused,
    /// A deactivated identity tried to call.
    IdentityRefused,
    /// An administrator deactivated an identity.
    IdentityDeactivated,
    /// An administrator reactivated an identity.
    IdentityActivated,
    /// A caller whom a deny rule matches tried to call.
    AccessDenied,
    /// An administrator changed the deny rules.
    DenyRulesChanged,
}

impl Type {
    /// Every one of them.
    pub const ALL: [Type; 17] = [
        Type::LabelPolicyViolation,
        Type::PolicyViolation,
        Type::QuotaExceeded,
        Type::LabelDriftDetected,
        Type::UnmanagedRunnerDetected,
        Type::LabelPolicyViolationWorkflow,
        Type::InvalidTokenBurst,
        Type::ProvisionBurst,
        Type::WebhookSignatureInvalid,
        Type::AuditLogTampered,
        Type::AuditLogMoved,
        Type::AccessRefused,
        Type::IdentityRefused,
        Type::IdentityDeactivated,
        Type::IdentityActivated,
        Type::AccessDenied,
        Type::DenyRulesChanged,
    ];

    /// As events and answers spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Type::LabelPolicyViolation => "label_policy_violation",
            Type::PolicyViolation => "policy_violation",
            Type::QuotaExceeded => "quota_exceeded",
            Type::LabelDriftDetected => "label_drift_detected",
            Type::UnmanagedRunnerDetected => "unmanaged_runner_detected",
            Type::LabelPolicyViolationWorkflow => "label_policy_violation_workflow",
            Type::InvalidTokenBurst => "invalid_token_burst",
            Type::ProvisionBurst => "provision_burst",
            Type::WebhookSignatureInvalid => "webhook_signature_invalid",
            Type::AuditLogTampered => "audit_log_tampered",
            Type::AuditLogMoved => "audit_log_moved",
            Type::AccessRefused => "access_refused",
            Type::IdentityRefused => "identity_refused",
            Type::IdentityDeactivated => "identity_deactivated",
            Type::IdentityActivated => "identity_activated",
            Type::AccessDenied => "access_denied",
            Type::DenyRulesChanged => "deny_rules_changed",
        }
    }

    /// High is what somebody should look at today: something ran, or was changed, that should not have been.
    pub fn severity(self) -> Severity {
        match self {
            Type::QuotaExceeded | Type::IdentityDeactivated | Type::IdentityActivated => Severity::Info,
            Type::LabelPolicyViolation
            | Type::PolicyViolation
            | Type::InvalidTokenBurst
            | Type::WebhookSignatureInvalid
            | Type::AuditLogMoved
            | Type::AccessRefused
            | Type::IdentityRefused
            | Type::AccessDenied
            | Type::DenyRulesChanged => Severity::Warning,
            Type::LabelDriftDetected
            | Type::UnmanagedRunnerDetected
            | Type::LabelPolicyViolationWorkflow
            | Type::ProvisionBurst
            | Type::AuditLogTampered => Severity::High,
        }
    }

    /// What the broker does about it by itself, where that is always the same.
    fn usual_action(self) -> Option<&'static str> {
        match self {
            Type::LabelPolicyViolation
            | Type::PolicyViolation
            | Type::QuotaExceeded
            | Type::InvalidTokenBurst
            | Type::WebhookSignatureInvalid
            | Type::AccessRefused
            | Type::IdentityRefused
            | Type::AccessDenied => Some("refused"),
            Type::IdentityDeactivated => Some("deactivated"),
            Type::IdentityActivated => Some("activated"),
            Type::ProvisionBurst | Type::AuditLogMoved | Type::DenyRulesChanged => Some("reported"),
            Type::LabelDriftDetected
            | Type::UnmanagedRunnerDetected
            | Type::LabelPolicyViolationWorkflow
            | Type::AuditLogTampered => None,
        }
    }

    /// What was done about this event: as it says itself, else as always.
    pub fn action_taken(self, event_data: &Value) -> Option<String> {
        let own = event_data.get("action_taken").and_then(Value::as_str);
        own.or(self.usual_action()).map(str::to_owned)
    }
}

impl Type {
    /// The type of a refused provision, by its `error_code`; `None`: such a refusal is no security event.
    pub(super) fn of_refusal(error_code: &str) -> Option<Type> {
        match error_code {
            "LABEL_POLICY_VIOLATION" => Some(Type::LabelPolicyViolation),
            "QUOTA_EXCEEDED" => Some(Type::QuotaExceeded),
            "IDENTITY_DEACTIVATED" => Some(Type::IdentityRefused),
            "ACCESS_DENIED" => Some(Type::AccessDenied),
            "METHOD_NOT_ALLOWED_BY_POLICY" | "TARGET_NOT_ALLOWED" | "RUNNER_GROUP_NOT_ALLOWED" => {
                Some(Type::PolicyViolation)
            }
            _ => None,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn listed(names: impl Iterator<Item = &'static str>) -> String {
    format!("one of {}", names.collect::<Vec<_>>().join(", "))
}

impl FromStr for Type {
    type Err = String;

    fn from_str(text: &str) -> Result<Type, String> {
        let found = Type::ALL.into_iter().find(|one| one.as_str() == text);
        found.ok_or_else(|| listed(Type::ALL.into_iter().map(Type::as_str)))
    }
}

impl FromStr for Severity {
    type Err = String;

    fn from_str(text: &str) -> Result<Severity, String> {
        let found = Severity::ALL.into_iter().find(|one| one.as_str() == text);
        found.ok_or_else(|| listed(Severity::ALL.into_iter().map(Severity::as_str)))
    }
}
