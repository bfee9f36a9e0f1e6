//! What a check says: what was looked at, how it is, and what to do about it.

use super::code::Code;

/// What a check is about, in the order in which people are shown it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Area {
    /// The variables themselves. Where they are wrong nothing serves, so only `doctor` shows this.
    Configuration,
    /// Postgres: connection, schema and privileges.
    Database,
    /// OpenID Connect issuers: their keys and clocks.
    Issuers,
    /// The GitHub App and the clock.
    GitHub,
    /// The installation of each target.
    Targets,
    /// GitHub's rate limit.
    Budget,
    /// The webhook of the App, and its deliveries.
    Webhooks,
    /// The certificate for HTTPS.
    Certificate,
    /// The leader and its sweeps.
    Sweep,
    /// Signing and sealing.
    AuditLog,
    /// Posts of security events.
    Alerts,
}

impl Area {
    /// Every area, in the order in which people see them.
    pub const ALL: [Area; 11] = [
        Area::Configuration,
        Area::Database,
        Area::Issuers,
        Area::GitHub,
        Area::Targets,
        Area::Budget,
        Area::Webhooks,
        Area::Certificate,
        Area::Sweep,
        Area::AuditLog,
        Area::Alerts,
    ];

    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Area::Configuration => "Configuration",
            Area::Database => "Postgres",
            Area::Issuers => "Identity providers",
            Area::GitHub => "GitHub App",
            Area::Targets => "Targets",
            Area::Budget => "GitHub's rate limit",
            Area::Webhooks => "Webhooks",
            Area::Certificate => "Certificate",
            Area::Sweep => "Sweep",
            Area::AuditLog => "Audit log",
            Area::Alerts => "Alerts",
        }
    }

    /// For programs; stays.
    pub fn key(self) -> &'static str {
        match self {
            Area::Configuration => "configuration",
            Area::Database => "postgres",
            Area::Issuers => "issuers",
            Area::GitHub => "github",
            Area::Targets => "targets",
            Area::Budget => "rate_limit",
            Area::Webhooks => "webhooks",
            Area::Certificate => "certificate",
            Area::Sweep => "sweep",
            Area::AuditLog => "audit_log",
            Area::Alerts => "alerts",
        }
    }
}

/// How something is. The gravest is the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// It works.
    Ok,
    /// It works, but somebody should look.
    Warning,
    /// Something does not work.
    Fault,
}

impl Health {
    /// As answers spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Health::Ok => "ok",
            Health::Warning => "warning",
            Health::Fault => "fault",
        }
    }
}

/// One thing that was checked. No text holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What the check is about.
    pub area: Area,
    /// The subject, for people.
    pub what: String,
    /// The result.
    pub state: Health,
    /// What was found; `None` exactly if all is well.
    pub code: Option<Code>,
    /// What was found, for people.
    pub detail: String,
    /// What to do about it; `None`: nothing.
    pub advice: Option<String>,
}

impl Check {
    pub(super) fn ok(area: Area, what: impl Into<String>, detail: impl Into<String>) -> Check {
        let (what, detail) = (what.into(), detail.into());
        Check { area, what, state: Health::Ok, code: None, detail, advice: None }
    }

    pub(super) fn warning(
        area: Area,
        what: impl Into<String>,
        code: Code,
        detail: impl Into<String>,
    ) -> Check {
        Check { state: Health::Warning, code: Some(code), ..Check::ok(area, what, detail) }
    }

    pub(super) fn fault(area: Area, what: impl Into<String>, code: Code, detail: impl Into<String>) -> Check {
        Check { state: Health::Fault, code: Some(code), ..Check::ok(area, what, detail) }
    }

    /// What could not be looked at because of something that has its own check.
    pub(super) fn not_checked(area: Area, what: impl Into<String>, why: impl Into<String>) -> Check {
        Check::warning(area, what, Code::NotChecked, format!("not checked: {}", why.into()))
    }

    /// A variable that nothing can be started with.
    pub fn configuration(variable: &str, why: &str) -> Check {
        Check::fault(Area::Configuration, variable, Code::Configuration, why)
            .advise("correct it in the environment or in .env; .env.example says what each variable means")
    }

    pub(super) fn advise(mut self, advice: impl Into<String>) -> Check {
        self.advice = Some(advice.into());
        self
    }

    /// Lowers the state to `state` if it is worse: a fault that is expected is only a warning.
    pub(super) fn no_worse_than(mut self, state: Health) -> Check {
        self.state = self.state.min(state);
        self
    }
}

/// The gravest of them; nothing is no worse for being nothing.
pub fn worst<'a>(checks: impl IntoIterator<Item = &'a Check>) -> Health {
    checks.into_iter().map(|check| check.state).max().unwrap_or(Health::Ok)
}
