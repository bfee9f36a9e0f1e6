//! Every variable: its name, its default, what it means.

/// A variable as `.env.example` and `--help` show it.
pub struct Variable {
    pub name: &'static str,
    /// As text; `None`: required or simply absent.
    pub default: Option<&'static str>,
    pub required: bool,
    pub meaning: &'static str,
}

const fn required(name: &'static str, meaning: &'static str) -> Variable {
    Variable { name, default: None, required: true, meaning }
}

const fn optional(name: &'static str, meaning: &'static str) -> Variable {
    Variable { name, default: None, required: false, meaning }
}

const fn defaulted(name: &'static str, default: &'static str, meaning: &'static str) -> Variable {
    Variable { name, default: Some(default), required: false, meaning }
}

/// Every variable that is read, in the order of `.env.example`; a test holds the two together.
pub const VARIABLES: &[Variable] = &[
    required(
        "DATABASE_URL",
        "Postgres: postgres://user:password@host1,host2:5432/database?sslmode=verify-full",
    ),
    defaulted("HOST", "0.0.0.0", "address to listen on"),
    defaulted("PORT", "8000", "port to listen on"),
    optional("PUBLIC_URL", "how people reach this service; default http(s)://HOST:PORT"),
    defaulted("HTTPS_ENABLED", "true", "false for development or behind a proxy that ends TLS"),
    optional("HTTPS_CERT_FILE", "certificate chain (PEM), required with HTTPS_ENABLED=true"),
    optional("HTTPS_KEY_FILE", "its private key (PEM), required with HTTPS_ENABLED=true"),
    optional("TRUSTED_PROXIES", "CIDRs, separated by commas, whose X-Forwarded-For is believed"),
    required("GITHUB_APP_ID", "the GitHub App's id, a number"),
    optional(
        "GITHUB_APP_PRIVATE_KEY_PATH",
        "file with the App's private key (PEM); this or GITHUB_APP_PRIVATE_KEY",
    ),
    optional("GITHUB_APP_PRIVATE_KEY", "the App's private key itself (PEM; \\n may stand for a line's end)"),
    required("GITHUB_ORG", "the organisation, or owner/name, used when a request names none"),
    optional("GITHUB_APP_INSTALLATION_ID", "the installation of GITHUB_ORG; default: looked up"),
    defaulted("GITHUB_API_URL", "https://api.github.com", "Enterprise Server: https://HOST/api/v3"),
    defaulted("GITHUB_URL", "https://github.com", "Enterprise Server: https://HOST"),
    defaulted(
        "GITHUB_TIMEOUT_SECONDS",
        "10",
        "for one call to GitHub; a provision ends within three times that",
    ),
    optional("GITHUB_WEBHOOK_SECRET", "the App's webhook secret; without it the webhook routes answer 404"),
    required("OIDC_ISSUER", "the identity provider whose tokens are accepted"),
    required("OIDC_AUDIENCE", "the audience that a token must name"),
    optional("OIDC_JWKS_URL", "where the issuer's keys are; default: as discovery says"),
    optional(
        "OIDC_EXTRA_ISSUERS",
        "more issuers: [{\"issuer\":\"https://…\",\"audience\":\"…\",\"jwks_url\":\"https://…\"}]",
    ),
    defaulted("OIDC_LEEWAY_SECONDS", "60", "clock skew allowed on exp, nbf and iat"),
    optional(
        "POLICY_FILE",
        "the policy document (TOML), applied at start; admins do not change the policy then",
    ),
    defaulted("DEFAULT_RUNNER_GROUP_ID", "1", "runner group of teams that name none"),
    defaulted("JIT_START_DEADLINE_SECONDS", "3600", "a JIT runner that has not connected by then is removed"),
    defaulted(
        "SYNC_ENABLED",
        "true",
        "the sweep; false still finishes interrupted provisions and keeps deadlines",
    ),
    defaulted("SYNC_INTERVAL_SECONDS", "120", "time between two sweeps"),
    defaulted("LEASE_SECONDS", "10", "how long a dead leader is waited for"),
    defaulted("CLEANUP_STALE_RUNNERS_HOURS", "24", "runners offline for longer are removed"),
    defaulted(
        "UNMANAGED_RUNNERS",
        "report",
        "runners that nobody asked for: report, remove (never a busy one) or ignore",
    ),
    defaulted(
        "LABEL_DRIFT_DELETE_BUSY_RUNNERS",
        "false",
        "true: a busy runner whose labels were changed is removed as soon as it is idle",
    ),
    defaulted(
        "LABEL_POLICY_ENFORCEMENT",
        "audit",
        "enforce cancels the workflow run of a job on a runner whose labels its team may not have",
    ),
    optional("AUDIT_SIGNING_KEY_PATH", "the Ed25519 key that signs the audit log's checkpoints (PKCS#8 PEM)"),
    optional("ALERT_WEBHOOK_URL", "where security events are posted, as JSON"),
    optional("ALERT_WEBHOOK_SECRET", "signs them (HMAC-SHA256); required with ALERT_WEBHOOK_URL"),
    defaulted("LOG_LEVEL", "info", "error, warn, info, debug, trace, or tracing directives"),
    optional("LOG_FORMAT", "pretty or json; default: pretty on a terminal, else json"),
];

/// `.env.example`: every variable with its meaning. Those that are required are ready to be filled in, the
/// others are comments that show their default.
pub fn env_example() -> String {
    let mut text = "\
# The configuration of runner-broker: copy this file to .env, or set the same variables in the environment.
# An empty variable counts as unset. Lines without a leading # are required.
"
    .to_owned();
    for variable in VARIABLES {
        let mark = if variable.required { "" } else { "# " };
        let default = variable.default.unwrap_or_default();
        text.push_str(&format!("\n# {}\n{mark}{}={default}\n", variable.meaning, variable.name));
    }
    text
}
