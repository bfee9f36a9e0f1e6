//! What callers see: runners, and themselves.

use chrono::{DateTime, Utc};
use secrecy::ExposeSecret;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::audit::Event;
use crate::broker::people::own_teams::TeamUse;
use crate::broker::provision::Provisioned;
use crate::broker::provision::explain::Explanation;
use crate::broker::runners::list::RunnerPage;
use crate::broker::runners::remove::Outcome;
use crate::github::IssuedToken;
use crate::http::command::{self, Registration};
use crate::model::{Os, Status};
use crate::policy::Team;
use crate::store::{audit, runners};

/// A runner that registers itself, with its token: shown this once.
#[derive(Serialize, ToSchema)]
pub struct RegistrationRunner {
    runner_id: Uuid,
    runner_name: String,
    registration_token: String,
    /// When the token ends.
    expires_at: DateTime<Utc>,
    #[schema(example = "https://github.com/octo-org")]
    github_url: String,
    labels: Vec<String>,
    ephemeral: bool,
    /// For a shell in the runner's folder (PowerShell on Windows).
    configuration_command: String,
}

impl RegistrationRunner {
    pub fn new(made: Provisioned, github_url: String, os: Os) -> RegistrationRunner {
        let token = made.credential.expose_secret();
        let custom: Vec<String> =
            made.runner.labels.iter().filter(|label| !made.system_labels.contains(*label)).cloned().collect();
        let configuration_command = command::configure(
            os,
            &Registration {
                url: &github_url,
                token: Some(token),
                name: &made.runner.name,
                labels: &custom,
                group: made.group_name.as_deref(),
                work_folder: made.grant.work_folder(),
                ephemeral: made.grant.ephemeral(),
                disable_update: made.grant.disable_update(),
            },
        );
        RegistrationRunner {
            runner_id: made.runner.id,
            registration_token: token.to_owned(),
            expires_at: made.expires_at,
            labels: made.runner.labels,
            ephemeral: made.runner.ephemeral,
            runner_name: made.runner.name,
            github_url,
            configuration_command,
        }
    }
}

/// A JIT runner with its configuration: shown this once.
#[derive(Serialize, ToSchema)]
pub struct JitRunner {
    runner_id: Uuid,
    runner_name: String,
    github_runner_id: i64,
    /// Holds the runner's private key: a secret until it is used.
    encoded_jit_config: String,
    labels: Vec<String>,
    /// The runner must have connected by then.
    expires_at: DateTime<Utc>,
    /// For a shell in the runner's folder (PowerShell on Windows).
    run_command: String,
}

impl JitRunner {
    pub fn new(made: Provisioned, os: Os) -> JitRunner {
        let config = made.credential.expose_secret();
        JitRunner {
            runner_id: made.runner.id,
            github_runner_id: made.runner.github_runner_id.unwrap_or_default(),
            run_command: command::run(os, config),
            encoded_jit_config: config.to_owned(),
            labels: made.runner.labels,
            expires_at: made.expires_at,
            runner_name: made.runner.name,
        }
    }
}

/// A runner as the broker knows it. Times are in UTC.
#[derive(Serialize, ToSchema)]
pub struct Runner {
    runner_id: Uuid,
    runner_name: String,
    #[schema(schema_with = status_schema)]
    status: Status,
    #[schema(required)]
    github_runner_id: Option<i64>,
    runner_group_id: i64,
    labels: Vec<String>,
    ephemeral: bool,
    busy: bool,
    #[schema(example = "jit")]
    method: &'static str,
    team: String,
    #[schema(example = "octo-org")]
    target: String,
    provisioned_by: String,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    #[schema(required)]
    registered_at: Option<DateTime<Utc>>,
    #[schema(required)]
    last_seen_at: Option<DateTime<Utc>>,
    #[schema(required)]
    deleted_at: Option<DateTime<Utc>>,
}

fn status_schema() -> utoipa::openapi::Object {
    super::request::one_of(Status::ALL.iter().map(|status| status.as_str()), None)
}

impl From<runners::Runner> for Runner {
    fn from(row: runners::Runner) -> Runner {
        Runner {
            runner_id: row.id,
            runner_name: row.name,
            status: row.status,
            github_runner_id: row.github_runner_id,
            runner_group_id: row.runner_group_id,
            labels: row.labels,
            ephemeral: row.ephemeral,
            busy: row.busy,
            method: row.method.as_str(),
            team: row.team,
            target: row.target.to_string(),
            provisioned_by: row.provisioned_by,
            created_at: row.created_at,
            updated_at: row.updated_at,
            registered_at: row.registered_at,
            last_seen_at: row.last_seen_at,
            deleted_at: row.deleted_at,
        }
    }
}

/// A runner with its latest events, newest first.
#[derive(Serialize, ToSchema)]
pub struct RunnerDetail {
    #[serde(flatten)]
    runner: Runner,
    events: Vec<Event>,
}

impl RunnerDetail {
    pub fn new(runner: runners::Runner, events: Vec<audit::Event>) -> RunnerDetail {
        RunnerDetail { runner: runner.into(), events: events.into_iter().map(Event::from).collect() }
    }
}

/// One page of runners, newest first.
#[derive(Serialize, ToSchema)]
pub struct RunnerList {
    runners: Vec<Runner>,
    /// Of all pages; counting stops at 10,000, and with `label` or `q` at what a page looks at.
    total: i64,
    /// There may be more than `total`.
    total_capped: bool,
    /// Give it back as `cursor` for the next page; `null` on the last, and only there: a page may be short, or empty.
    #[schema(required)]
    next_cursor: Option<String>,
}

impl From<RunnerPage> for RunnerList {
    fn from(page: RunnerPage) -> RunnerList {
        RunnerList {
            runners: page.runners.into_iter().map(Runner::from).collect(),
            total: page.total,
            total_capped: page.total_capped,
            next_cursor: page.next.map(|id| id.to_string()),
        }
    }
}

/// What became of a removal.
#[derive(Serialize, ToSchema)]
pub struct Removed {
    runner_id: Uuid,
    runner_name: String,
    #[schema(schema_with = status_schema)]
    status: Status,
    #[schema(example = "removed from GitHub")]
    message: &'static str,
}

impl Removed {
    pub fn new(runner: runners::Runner, outcome: &Outcome) -> Removed {
        Removed {
            runner_id: runner.id,
            runner_name: runner.name,
            status: runner.status,
            message: match outcome {
                Outcome::Deleted => "removed from GitHub",
                Outcome::AlreadyGone => "it was gone already",
                Outcome::NeverRegistered => {
                    "GitHub never had it: nobody has used its registration token, which stays good until it \
                     ends and counts in the quota until then"
                }
                Outcome::WhenIdle => "busy with a job; it will be removed once idle",
            },
        }
    }
}

/// A token for `config.sh remove`: shown this once.
#[derive(Serialize, ToSchema)]
pub struct RemoveToken {
    remove_token: String,
    expires_at: DateTime<Utc>,
}

impl From<IssuedToken> for RemoveToken {
    fn from(issued: IssuedToken) -> RemoveToken {
        RemoveToken { remove_token: issued.token.expose_secret().to_owned(), expires_at: issued.expires_at }
    }
}

/// The caller as the broker sees him.
#[derive(Serialize, ToSchema)]
pub struct Me {
    pub issuer: String,
    pub subject: String,
    pub display_name: String,
    #[schema(example = json!(["auditor"]))]
    pub roles: Vec<&'static str>,
    pub teams: Vec<MyTeam>,
}

/// One of the caller's teams.
#[derive(Serialize, ToSchema)]
pub struct MyTeam {
    name: String,
    #[schema(example = json!(["jit"]))]
    methods: Vec<&'static str>,
    #[schema(required)]
    max_runners: Option<i64>,
    /// What counts against `max_runners` now.
    live_runners: i64,
}

impl From<TeamUse> for MyTeam {
    fn from(used: TeamUse) -> MyTeam {
        MyTeam {
            name: used.team.name().to_owned(),
            methods: used.team.methods().iter().map(|method| method.as_str()).collect(),
            max_runners: used.team.max_runners(),
            live_runners: used.live_runners,
        }
    }
}

/// What the caller may ask for, by team.
#[derive(Serialize, ToSchema)]
pub struct MyLabelPolicy {
    pub teams: Vec<TeamPolicy>,
}

/// What members of a team may ask for.
#[derive(Serialize, ToSchema)]
pub struct TeamPolicy {
    team: String,
    description: String,
    /// Put on every runner, asked for or not.
    required_labels: Vec<String>,
    /// Regular expressions for whole labels, without regard to case.
    allowed_labels: Vec<String>,
    #[schema(example = json!(["jit"]))]
    methods: Vec<&'static str>,
    targets: Vec<String>,
    /// Names or ids.
    runner_groups: Vec<String>,
    #[schema(required)]
    max_runners: Option<i64>,
    #[schema(required)]
    requests_per_minute: Option<i64>,
}

impl From<&Team> for TeamPolicy {
    fn from(team: &Team) -> TeamPolicy {
        TeamPolicy {
            team: team.name().to_owned(),
            description: team.description().to_owned(),
            required_labels: team.required_labels().iter().map(ToString::to_string).collect(),
            allowed_labels: team.allowed_labels().map(str::to_owned).collect(),
            methods: team.methods().iter().map(|method| method.as_str()).collect(),
            targets: team.targets().map(str::to_owned).collect(),
            runner_groups: team.runner_groups().iter().map(ToString::to_string).collect(),
            max_runners: team.max_runners(),
            requests_per_minute: team.requests_per_minute(),
        }
    }
}

/// The decision that a provision would get now.
#[derive(Serialize, ToSchema)]
pub struct Explained {
    allowed: bool,
    #[schema(required)]
    team: Option<String>,
    /// All that the runner would have.
    labels: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "LABEL_POLICY_VIOLATION")]
    error_code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl From<Explanation> for Explained {
    fn from(explanation: Explanation) -> Explained {
        Explained {
            allowed: explanation.refusal.is_none(),
            team: explanation.team,
            labels: explanation.labels.iter().map(ToString::to_string).collect(),
            error_code: explanation.refusal.as_ref().map(|refusal| refusal.code()),
            detail: explanation.refusal.map(|refusal| refusal.to_string()),
        }
    }
}
