//! The JSON of teams and members.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::schema::{ArrayBuilder, OneOfBuilder, SchemaType};
use utoipa::openapi::{Object, Type};

use crate::broker::policy::roles::RoleMembers;
use crate::broker::policy::teams::{self, TeamPage, TeamPatch, member_id};
use crate::model::{GroupRef, Method};
use crate::policy;

/// A rule for tokens of this issuer whose claims all match.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberRequest {
    /// Compared to the last character.
    #[schema(example = "https://token.actions.githubusercontent.com")]
    issuer: String,
    /// Claim (or JSON Pointer, if it begins with `/`) to a regular expression for its whole value; at least one.
    #[schema(example = json!({ "repository": "octo-org/ml-.*" }))]
    claims: BTreeMap<String, String>,
}

impl From<MemberRequest> for policy::Member {
    fn from(request: MemberRequest) -> policy::Member {
        policy::Member { issuer: request.issuer, claims: request.claims }
    }
}

fn members(requests: Vec<MemberRequest>) -> Vec<policy::Member> {
    requests.into_iter().map(policy::Member::from).collect()
}

/// A new team.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TeamRequest {
    /// It cannot be changed later.
    #[schema(
        min_length = 1,
        max_length = 64,
        pattern = "^[A-Za-z0-9._-]([A-Za-z0-9._ -]*[A-Za-z0-9._-])?$",
        example = "ml"
    )]
    name: String,
    #[serde(default)]
    #[schema(max_length = 4000)]
    description: String,
    /// Put on every runner, asked for or not.
    #[serde(default)]
    required_labels: Vec<String>,
    /// Regular expressions for whole labels, without regard to case.
    #[serde(default)]
    #[schema(example = json!(["gpu", "cuda-[0-9]+"]))]
    allowed_labels: Vec<String>,
    #[serde(default = "jit_only")]
    #[schema(schema_with = methods_schema)]
    methods: Vec<Method>,
    /// Organisations, repositories and patterns such as `octo-org/*`; without it the broker's own organisation.
    #[serde(default)]
    targets: Option<Vec<String>>,
    /// Names or ids; without it the default group.
    #[serde(default)]
    #[schema(schema_with = groups_schema)]
    runner_groups: Option<Vec<GroupRef>>,
    /// Live ones at the same time; without it there is no limit.
    #[serde(default)]
    #[schema(minimum = 0)]
    max_runners: Option<i64>,
    /// Provisions; without it there is no limit.
    #[serde(default)]
    #[schema(minimum = 0)]
    requests_per_minute: Option<i64>,
    #[serde(default)]
    members: Vec<MemberRequest>,
}

fn jit_only() -> Vec<Method> {
    vec![Method::Jit]
}

fn methods_schema() -> utoipa::openapi::schema::Array {
    ArrayBuilder::new().items(crate::http::api::request::method_schema()).build()
}

/// Ids, names, or nothing.
fn groups_schema() -> utoipa::openapi::schema::Array {
    let either =
        OneOfBuilder::new().item(Object::with_type(Type::Integer)).item(Object::with_type(Type::String));
    let kinds = SchemaType::from_iter([Type::Array, Type::Null]);
    ArrayBuilder::new().schema_type(kinds).items(either).build()
}

impl From<TeamRequest> for policy::TeamEntry {
    fn from(request: TeamRequest) -> policy::TeamEntry {
        policy::TeamEntry {
            name: request.name,
            description: request.description,
            required_labels: request.required_labels,
            allowed_labels: request.allowed_labels,
            methods: request.methods,
            targets: request.targets,
            runner_groups: request.runner_groups,
            max_runners: request.max_runners,
            requests_per_minute: request.requests_per_minute,
            member: members(request.members),
        }
    }
}

/// A JSON merge patch (RFC 7396): what is absent stays, `null` is the default or no limit, a list replaces a list.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TeamChange {
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, max_length = 4000)]
    description: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Vec<String>>)]
    required_labels: Option<Option<Vec<String>>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Vec<String>>)]
    allowed_labels: Option<Option<Vec<String>>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Vec<String>>)]
    methods: Option<Option<Vec<Method>>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Vec<String>>)]
    targets: Option<Option<Vec<String>>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(schema_with = groups_schema)]
    runner_groups: Option<Option<Vec<GroupRef>>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<i64>, minimum = 0)]
    max_runners: Option<Option<i64>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<i64>, minimum = 0)]
    requests_per_minute: Option<Option<i64>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Vec<MemberRequest>>)]
    members: Option<Option<Vec<MemberRequest>>>,
}

/// `null` is something that was given.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}

impl From<TeamChange> for TeamPatch {
    fn from(change: TeamChange) -> TeamPatch {
        TeamPatch {
            description: change.description.map(Option::unwrap_or_default),
            required_labels: change.required_labels.map(Option::unwrap_or_default),
            allowed_labels: change.allowed_labels.map(Option::unwrap_or_default),
            methods: change.methods.map(|methods| methods.unwrap_or_else(jit_only)),
            targets: change.targets,
            runner_groups: change.runner_groups,
            max_runners: change.max_runners,
            requests_per_minute: change.requests_per_minute,
            members: change.members.map(|requests| members(requests.unwrap_or_default())),
        }
    }
}

/// A rule that makes callers members.
#[derive(Serialize, ToSchema)]
pub struct Member {
    /// Derived from issuer and claims.
    #[schema(example = "0123456789abcdef")]
    id: String,
    issuer: String,
    claims: BTreeMap<String, String>,
}

impl From<policy::Member> for Member {
    fn from(member: policy::Member) -> Member {
        Member { id: member_id(&member), issuer: member.issuer, claims: member.claims }
    }
}

/// The rules that make callers members of a team, or give them a role.
#[derive(Serialize, ToSchema)]
pub struct MemberList {
    members: Vec<Member>,
    /// Whether the policy is managed by `POLICY_FILE`: then it is read-only here.
    managed_by_file: bool,
}

impl MemberList {
    pub fn new(members: Vec<policy::Member>, managed_by_file: bool) -> MemberList {
        MemberList { members: members.into_iter().map(Member::from).collect(), managed_by_file }
    }

    pub fn of_role(role: RoleMembers, managed_by_file: bool) -> MemberList {
        MemberList::new(role.members, managed_by_file)
    }
}

/// A team with its current state.
#[derive(Serialize, ToSchema)]
pub struct Team {
    #[schema(example = "ml")]
    name: String,
    description: String,
    required_labels: Vec<String>,
    allowed_labels: Vec<String>,
    #[schema(example = json!(["jit"]))]
    methods: Vec<&'static str>,
    /// `null`: the broker's own organisation.
    #[schema(required)]
    targets: Option<Vec<String>>,
    /// Names or ids; `null`: the default group.
    #[schema(required, schema_with = groups_schema)]
    runner_groups: Option<Vec<GroupRef>>,
    #[schema(required)]
    max_runners: Option<i64>,
    #[schema(required)]
    requests_per_minute: Option<i64>,
    /// A deactivated team keeps its runners, but gets no new ones.
    active: bool,
    /// Whether the policy is managed by `POLICY_FILE`: then it is read-only here.
    managed_by_file: bool,
    /// As they count in `max_runners`.
    live_runners: i64,
    members: Vec<Member>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl Team {
    pub fn new(team: teams::Team, managed_by_file: bool) -> Team {
        let entry = team.entry;
        Team {
            name: entry.name,
            description: entry.description,
            required_labels: entry.required_labels,
            allowed_labels: entry.allowed_labels,
            methods: entry.methods.into_iter().map(Method::as_str).collect(),
            targets: entry.targets,
            runner_groups: entry.runner_groups,
            max_runners: entry.max_runners,
            requests_per_minute: entry.requests_per_minute,
            active: team.active,
            managed_by_file,
            live_runners: team.live_runners,
            members: entry.member.into_iter().map(Member::from).collect(),
            created_at: team.created_at,
            updated_at: team.updated_at,
        }
    }
}

/// One page of teams, by name.
#[derive(Serialize, ToSchema)]
pub struct TeamList {
    teams: Vec<Team>,
    /// Give it back as `cursor` for the next page; `null` on the last.
    #[schema(required)]
    next_cursor: Option<String>,
}

impl TeamList {
    pub fn new(page: TeamPage, managed_by_file: bool) -> TeamList {
        TeamList {
            teams: page.teams.into_iter().map(|team| Team::new(team, managed_by_file)).collect(),
            next_cursor: page.next,
        }
    }
}

/// The team after a change; of a dry run, what would change.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum Changed {
    Team(Team),
    Preview(TeamPreview),
}

/// What a change would do, and to which runners.
#[derive(Serialize, ToSchema)]
pub struct TeamPreview {
    /// A line a change; empty: none.
    #[schema(example = json!(["team ml: max_runners: unset → 50"]))]
    changes: Vec<String>,
    /// As they count in `max_runners`.
    live_runners: i64,
    /// Live runners whose labels, target or method would no longer be allowed. They are kept.
    runners_outside: i64,
    /// The names of the newest of them, at most 20.
    runners_outside_names: Vec<String>,
    /// Whether the limit would be reached: no new runners until the team has fewer.
    quota_used_up: bool,
    /// What the team's rules may say that nobody meant, a line each; absent: nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!(["team 'ml': member 1: claims: 'actor': a name that can pass to somebody else: use actor_id"]))]
    warnings: Vec<String>,
}

impl From<teams::Preview> for TeamPreview {
    fn from(preview: teams::Preview) -> TeamPreview {
        TeamPreview {
            changes: preview.changes,
            live_runners: preview.live_runners,
            runners_outside: preview.outside,
            runners_outside_names: preview.outside_names,
            quota_used_up: preview.quota_used_up,
            warnings: preview.warnings,
        }
    }
}
