//! What a check can find, by a name that programs can rely on. `docs/DOCTOR.md` has a row for each.

macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident = $name:literal,)*) => {
        /// What a check found.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code {
            $($(#[$doc])* $code,)*
        }

        impl Code {
            pub const ALL: &[Code] = &[$(Code::$code,)*];

            /// For programs; stays.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Code::$code => $name,)*
                }
            }
        }
    };
}

codes! {
    Configuration = "configuration",
    /// Because of something else that has its own check.
    NotChecked = "not_checked",

    DatabaseUnavailable = "database_unavailable",
    DatabasePooled = "database_pooled",
    DatabaseTooOld = "database_too_old",
    DatabaseSlow = "database_slow",
    DatabaseRefuses = "database_refuses",
    SchemaOld = "schema_old",
    PrivilegesMissing = "privileges_missing",
    PrivilegesExcess = "privileges_excess",
    PolicyUnreadable = "policy_unreadable",

    IssuerUnreachable = "issuer_unreachable",
    IssuerMalformed = "issuer_malformed",
    IssuerMismatch = "issuer_mismatch",
    IssuerWithoutKeys = "issuer_without_keys",
    IssuerClock = "issuer_clock",

    GitHubUnreachable = "github_unreachable",
    GitHubRefuses = "github_refuses",
    GitHubClock = "github_clock",
    AppKey = "app_key",
    AppId = "app_id",

    AppNotInstalled = "app_not_installed",
    AppSuspended = "app_suspended",
    InstallationId = "installation_id",
    PermissionMissing = "permission_missing",
    EventMissing = "event_missing",

    BudgetLow = "rate_limit_low",
    BudgetUsedUp = "rate_limit_used_up",

    WebhookOff = "webhook_off",
    WebhookAbsent = "webhook_absent",
    WebhookUrl = "webhook_url",
    WebhookContentType = "webhook_content_type",
    WebhookInsecure = "webhook_insecure",
    WebhookSecret = "webhook_secret",
    WebhookUndelivered = "webhook_undelivered",
    WebhookSilent = "webhook_silent",
    WebhookBacklog = "webhook_backlog",
    WebhookSetAside = "webhook_set_aside",

    CertificateUnusable = "certificate_unusable",
    CertificateKey = "certificate_key",
    CertificateExpired = "certificate_expired",
    CertificateExpires = "certificate_expires",
    CertificateNotYet = "certificate_not_yet",
    CertificateName = "certificate_name",

    NoLeader = "no_leader",
    SweepOverdue = "sweep_overdue",
    SweepFails = "sweep_fails",

    CheckpointsUnsigned = "checkpoints_unsigned",
    SealingLate = "sealing_late",

    AlertsWait = "alerts_wait",
}
