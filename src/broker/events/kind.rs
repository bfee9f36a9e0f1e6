//! The kinds of events: how the log spells each, how severe it is, whether something succeeded, and which security
//! event it is. A new kind does not compile until its row says all four.

use super::security_type::{Severity, Type};
use crate::seal::TAMPERED;

/// Whether events of a kind are security events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Security {
    Never,
    /// Each one is of this type.
    Always(Type),
    /// The event's `error_code` decides, see [`Type::of_refusal`].
    ByErrorCode,
}

/// `Kind = event_type, severity, outcome, security;`
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $text:expr, $severity:ident, $outcome:ident, $security:expr;)*) => {
        /// What an event is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Kind] = &[$(Kind::$kind,)*];

            /// As the column `event_type` spells it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Kind::$kind => $text,)*
                }
            }

            /// The usual severity. A refused provision that is a security event has that of its [`Type`].
            pub(super) fn severity(self) -> Severity {
                match self {
                    $(Kind::$kind => Severity::$severity,)*
                }
            }

            /// Whether what an event of this kind records did succeed.
            pub(in crate::broker) fn success(self) -> bool {
                match self {
                    $(Kind::$kind => Outcome::$outcome == Outcome::Succeeded,)*
                }
            }

            fn security(self) -> Security {
                use Security::{Always, ByErrorCode, Never};
                match self {
                    $(Kind::$kind => $security,)*
                }
            }
        }
    };
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Succeeded,
    Failed,
}

kinds! {
    /// A provision was permitted and its row written, before GitHub was asked.
    ProvisionRequested = "provision_requested", Info, Succeeded, Never;
    /// A caller got the credential of a runner.
    Provisioned = "provisioned", Info, Succeeded, Never;
    /// A caller got no runner, by the policy or because of what the request said.
    ProvisionRefused = "provision_refused", Warning, Failed, ByErrorCode;
    /// A caller got no runner, because GitHub or the broker failed.
    ProvisionFailed = "provision_failed", Warning, Failed, Never;
    /// The removal of a runner was requested; GitHub has not been asked yet.
    DeprovisionRequested = "deprovision_requested", Info, Succeeded, Never;
    /// A runner was removed.
    Deprovisioned = "deprovisioned", Info, Succeeded, Never;
    /// A runner was not removed, because it is busy with a job.
    DeprovisionRefused = "deprovision_refused", Warning, Failed, Never;
    /// A runner was not removed, because GitHub did not answer or refused.
    DeprovisionFailed = "deprovision_failed", Warning, Failed, Never;
    /// A caller got a token for `config.sh remove`.
    RemoveTokenIssued = "remove_token_issued", Info, Succeeded, Never;
    /// A caller got no token for `config.sh remove`.
    RemoveTokenFailed = "remove_token_failed", Warning, Failed, Never;
    /// A caller with a team or role tried something that their role does not allow.
    AccessRefused = "access_refused", Warning, Failed, Always(Type::AccessRefused);
    /// A runner's row changed its state.
    RunnerStateChanged = "runner_state_changed", Info, Succeeded, Never;
    /// A runner that no caller was given was taken off GitHub.
    OrphanRemoved = "orphan_removed", Warning, Succeeded, Never;
    /// A runner has other labels on GitHub than were asked for.
    LabelDriftDetected = "label_drift_detected", High, Succeeded, Always(Type::LabelDriftDetected);
    /// GitHub lists a runner that nobody asked the broker for.
    UnmanagedRunnerDetected = "unmanaged_runner_detected", High, Succeeded, Always(Type::UnmanagedRunnerDetected);
    /// Such a runner was taken off GitHub.
    UnmanagedRunnerRemoved = "unmanaged_runner_removed", Warning, Succeeded, Never;
    /// A policy document was applied.
    PolicyApplied = "policy_applied", Info, Succeeded, Never;
    /// An administrator created a team.
    TeamCreated = "team_created", Info, Succeeded, Never;
    /// An administrator changed a team.
    TeamUpdated = "team_updated", Info, Succeeded, Never;
    /// An administrator deactivated a team.
    TeamDeactivated = "team_deactivated", Info, Succeeded, Never;
    /// An administrator reactivated a team.
    TeamReactivated = "team_reactivated", Info, Succeeded, Never;
    /// An administrator changed who has a role.
    RoleMembersChanged = "role_members_changed", Info, Succeeded, Never;
    /// An administrator changed many things with one call.
    BatchExecuted = "batch_executed", Info, Succeeded, Never;
    /// A token was refused; written once a minute for each issuer, with a count.
    TokenRefused = "token_refused", Warning, Failed, Never;
    /// A caller with neither team nor role was refused; written once a minute for each issuer, with a count.
    CallerRefused = "caller_refused", Warning, Failed, Never;
    /// An administrator deactivated an identity.
    IdentityDeactivated = "identity_deactivated", Info, Succeeded, Always(Type::IdentityDeactivated);
    /// An administrator reactivated an identity.
    IdentityActivated = "identity_activated", Info, Succeeded, Always(Type::IdentityActivated);
    /// A deactivated identity tried to call.
    IdentityRefused = "identity_refused", Warning, Failed, Always(Type::IdentityRefused);
    /// A caller whom a deny rule matches tried to call; written once a minute for each issuer, with a count.
    AccessDenied = "access_denied", Warning, Failed, Always(Type::AccessDenied);
    /// An administrator changed the deny rules.
    DenyRulesChanged = "deny_rules_changed", Warning, Succeeded, Always(Type::DenyRulesChanged);
    /// A person signed in to the console.
    SignedIn = "signed_in", Info, Succeeded, Never;
    /// A person signed out of the console.
    SignedOut = "signed_out", Info, Succeeded, Never;
    /// A sign-in was refused.
    SignInRefused = "sign_in_refused", Warning, Failed, Never;
    /// Very many tokens of one issuer were refused within a minute.
    InvalidTokenBurst = "invalid_token_burst", Warning, Failed, Always(Type::InvalidTokenBurst);
    /// A team or a caller asks for far more runners than usual.
    ProvisionBurst = "provision_burst", High, Succeeded, Always(Type::ProvisionBurst);
    /// A webhook came without a valid signature; written once a minute, with a count.
    WebhookSignatureInvalid = "webhook_signature_invalid", Warning, Failed, Always(Type::WebhookSignatureInvalid);
    /// A webhook delivery failed too often and is not tried again.
    WebhookDeliverySetAside = "webhook_delivery_set_aside", Warning, Failed, Never;
    /// An installation of the GitHub App was blocked or unblocked, or has new permissions.
    InstallationChanged = "installation_changed", Info, Succeeded, Never;
    /// A job ran on a runner whose labels the policy does not permit.
    LabelPolicyViolationWorkflow = "label_policy_violation_workflow", High, Failed, Always(Type::LabelPolicyViolationWorkflow);
    /// A queued job has waited for long, and no live runner has its labels.
    JobNoMatch = "job.no_match", Warning, Failed, Never;
    /// A row of the audit log was added or changed by someone else.
    AuditLogTampered = TAMPERED, High, Failed, Always(Type::AuditLogTampered);
    /// The audit log is in another database or cluster than before.
    AuditLogMoved = "audit_log_moved", Warning, Succeeded, Always(Type::AuditLogMoved);
}

impl Kind {
    /// The kind that the column `event_type` spells so. `None`: a later version wrote it.
    pub fn parse(event_type: &str) -> Option<Kind> {
        Kind::ALL.iter().copied().find(|kind| kind.as_str() == event_type)
    }

    /// Which security event an event with this error code is; `None`: none. The function `audit_security_type`
    /// in the database says the same, for its index.
    pub fn security_type(self, error_code: Option<&str>) -> Option<Type> {
        match self.security() {
            Security::Never => None,
            Security::Always(kind) => Some(kind),
            Security::ByErrorCode => error_code.and_then(Type::of_refusal),
        }
    }
}

/// Which security event a stored event is, by its columns `event_type` and `error_code`; `None`: none. See
/// [`Kind::security_type`].
pub fn classify(event_type: &str, error_code: Option<&str>) -> Option<Type> {
    Kind::parse(event_type)?.security_type(error_code)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::broker::Error;
    use crate::model::Method;
    use crate::policy::Denial;

    #[test]
    fn no_two_kinds_are_spelled_alike_and_each_is_read_back() {
        let texts: HashSet<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(texts.len(), Kind::ALL.len());
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.as_str()), Some(*kind));
        }
    }

    #[test]
    fn a_security_event_is_as_severe_as_its_type() {
        for kind in Kind::ALL {
            if let Security::Always(of) = kind.security() {
                assert_eq!(kind.severity(), of.severity(), "{}", kind.as_str());
            }
        }
    }

    #[test]
    fn what_did_not_succeed_is_never_mere_information() {
        for kind in Kind::ALL.iter().filter(|kind| !kind.success()) {
            assert!(kind.severity() >= Severity::Warning, "{}", kind.as_str());
        }
    }

    /// What each denial is. A new one does not compile here until it has a type, or none.
    fn wanted(denial: &Denial) -> Option<Type> {
        match denial {
            Denial::Labels(_) => Some(Type::LabelPolicyViolation),
            Denial::Method(_) | Denial::Target(_) | Denial::RunnerGroup(_) => Some(Type::PolicyViolation),
            Denial::QuotaExceeded { .. } => Some(Type::QuotaExceeded),
            Denial::NoTeam { .. }
            | Denial::TeamRequired { .. }
            | Denial::TooManyLabels
            | Denial::RateLimited { .. } => None,
        }
    }

    #[test]
    fn the_error_code_of_each_denial_leads_to_its_security_type() {
        let denials = [
            Denial::NoTeam { asked: None },
            Denial::TeamRequired { teams: Vec::new() },
            Denial::Method(Method::Jit),
            Denial::Labels(Vec::new()),
            Denial::TooManyLabels,
            Denial::Target(None),
            Denial::RunnerGroup(None),
            Denial::QuotaExceeded { team: "a".into(), live: 1, most: 1 },
            Denial::RateLimited { team: "a".into(), most: 1 },
        ];
        for denial in denials {
            let found = classify("provision_refused", Some(denial.code()));
            assert_eq!(found, wanted(&denial), "{}", denial.code());
        }
        let inactive = classify("provision_refused", Some(Error::IdentityDeactivated.code()));
        assert_eq!(inactive, Some(Type::IdentityRefused));
        let denied = classify("provision_refused", Some(Error::AccessDenied.code()));
        assert_eq!(denied, Some(Type::AccessDenied));
    }

    #[test]
    fn an_error_code_says_nothing_about_events_of_other_kinds() {
        assert_eq!(classify("provision_failed", Some("QUOTA_EXCEEDED")), None);
        assert_eq!(classify("provision_refused", None), None);
        assert_eq!(classify("written by a later version", Some("QUOTA_EXCEEDED")), None);
        assert_eq!(classify("access_refused", None), Some(Type::AccessRefused));
    }
}
