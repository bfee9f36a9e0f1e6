//! What a check can find, by a name that programs can rely on. `docs/DOCTOR.md` has a row for each.

macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident = $name:literal,)*) => {
        /// What a check found.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code {
            $($(#[$doc])* $code,)*
        }

        impl Code {
            /// Every code.
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
    /// A variable is missing or invalid.
    Configuration = "configuration",
    /// Because of something else that has its own check.
    NotChecked = "not_checked",

    /// Postgres cannot be reached.
    DatabaseUnavailable = "database_unavailable",
    /// A pooler in transaction mode stands before Postgres.
    DatabasePooled = "database_pooled",
    /// Postgres is older than 13.
    DatabaseTooOld = "database_too_old",
    /// Postgres answers slowly.
    DatabaseSlow = "database_slow",
    /// Postgres refused a statement.
    DatabaseRefuses = "database_refuses",
    /// Migrations are missing.
    SchemaOld = "schema_old",
    /// The role lacks privileges.
    PrivilegesMissing = "privileges_missing",
    /// The role has more privileges than it needs.
    PrivilegesExcess = "privileges_excess",
    /// The stored policy cannot be read by this version.
    PolicyUnreadable = "policy_unreadable",
    /// The policy may not say what its author meant.
    PolicyDoubtful = "policy_doubtful",

    /// An issuer cannot be reached.
    IssuerUnreachable = "issuer_unreachable",
    /// An issuer's documents are malformed.
    IssuerMalformed = "issuer_malformed",
    /// An issuer calls itself by another name.
    IssuerMismatch = "issuer_mismatch",
    /// An issuer publishes no usable key.
    IssuerWithoutKeys = "issuer_without_keys",
    /// An issuer's clock differs from ours.
    IssuerClock = "issuer_clock",

    /// GitHub cannot be reached.
    GitHubUnreachable = "github_unreachable",
    /// GitHub refused a call.
    GitHubRefuses = "github_refuses",
    /// GitHub's clock differs from ours.
    GitHubClock = "github_clock",
    /// GitHub does not know the private key of the App.
    AppKey = "app_key",
    /// GitHub does not know the id of the App.
    AppId = "app_id",

    /// The App is not installed on a target.
    AppNotInstalled = "app_not_installed",
    /// The installation is suspended.
    AppSuspended = "app_suspended",
    /// The configured installation is not that of the target.
    InstallationId = "installation_id",
    /// The App lacks a permission.
    PermissionMissing = "permission_missing",
    /// The App is not subscribed to an event.
    EventMissing = "event_missing",

    /// Less than a quarter of the rate limit is left.
    BudgetLow = "rate_limit_low",
    /// The rate limit is used up.
    BudgetUsedUp = "rate_limit_used_up",

    /// No webhook secret is set.
    WebhookOff = "webhook_off",
    /// The App has no webhook.
    WebhookAbsent = "webhook_absent",
    /// The webhook goes to another URL.
    WebhookUrl = "webhook_url",
    /// The webhook has the wrong content type.
    WebhookContentType = "webhook_content_type",
    /// GitHub does not verify the certificate.
    WebhookInsecure = "webhook_insecure",
    /// The secrets differ.
    WebhookSecret = "webhook_secret",
    /// Deliveries fail.
    WebhookUndelivered = "webhook_undelivered",
    /// No delivery has arrived.
    WebhookSilent = "webhook_silent",
    /// Many deliveries wait.
    WebhookBacklog = "webhook_backlog",
    /// A delivery failed for good within the last day.
    WebhookSetAside = "webhook_set_aside",

    /// The certificate or its key cannot be used.
    CertificateUnusable = "certificate_unusable",
    /// The key does not belong to the certificate.
    CertificateKey = "certificate_key",
    /// The certificate has expired.
    CertificateExpired = "certificate_expired",
    /// The certificate expires within two weeks.
    CertificateExpires = "certificate_expires",
    /// The certificate is not valid yet.
    CertificateNotYet = "certificate_not_yet",
    /// The certificate is for another host.
    CertificateName = "certificate_name",

    /// No replica leads.
    NoLeader = "no_leader",
    /// Rows wait for the sweep.
    SweepOverdue = "sweep_overdue",
    /// A target could not be swept.
    SweepFails = "sweep_fails",

    /// Checkpoints are not signed.
    CheckpointsUnsigned = "checkpoints_unsigned",
    /// Events wait long to be sealed.
    SealingLate = "sealing_late",

    /// Alerts wait to be posted.
    AlertsWait = "alerts_wait",
}
