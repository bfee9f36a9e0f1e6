//! GitHub's JSON for what `state` holds.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use super::records::{Account, Group, Installation, RunnerState};
use super::state::State;

/// RFC 3339, whole seconds, `Z`.
pub(super) fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// A runner as lists and look-ups show it.
pub(super) fn runner(runner: &RunnerState) -> Value {
    with_labels(runner, runner.labels.iter().map(|name| label(name)).collect())
}

/// A runner as `generate-jitconfig` shows it: its labels have only a name.
pub(super) fn jit_runner(runner: &RunnerState) -> Value {
    with_labels(runner, runner.labels.iter().map(|name| json!({ "name": name })).collect())
}

fn with_labels(runner: &RunnerState, labels: Vec<Value>) -> Value {
    json!({
        "id": runner.id, "name": runner.name, "os": runner.os, "busy": runner.busy,
        "status": if runner.online { "online" } else { "offline" },
        "ephemeral": runner.ephemeral, "version": runner.version,
        "runner_group_id": runner.group_id, "labels": labels,
    })
}

fn label(name: &str) -> Value {
    // Every runner here is a Linux machine; any other system's name is a label that somebody gave it.
    const SYSTEM: &[&str] = &["self-hosted", "linux", "x64"];
    let is_system = SYSTEM.iter().any(|system| system.eq_ignore_ascii_case(name));
    // The same label has the same id everywhere; which one does not matter.
    let id = name.bytes().fold(7_u32, |id, byte| id.wrapping_mul(31).wrapping_add(byte.into()));
    json!({ "id": id, "name": name, "type": if is_system { "read-only" } else { "custom" } })
}

pub(super) fn group(group: &Group, org_url: &str) -> Value {
    let url = format!("{org_url}/actions/runner-groups/{}", group.id);
    json!({
        "id": group.id, "name": group.name, "visibility": "all", "default": group.id == 1,
        "runners_url": format!("{url}/runners"), "hosted_runners_url": format!("{url}/hosted-runners"),
        "inherited": false, "allows_public_repositories": false, "restricted_to_workflows": false,
        "selected_workflows": [], "workflow_restrictions_read_only": false,
    })
}

pub(super) fn account(account: &Account, base: &str) -> Value {
    let login = &account.login;
    let url = format!("{base}/users/{login}");
    let at = |rest: &str| format!("{url}/{rest}");
    json!({
        "login": login, "id": account.id, "node_id": format!("O_{}", account.id),
        "avatar_url": at("avatar"), "gravatar_id": "", "url": url, "html_url": format!("{base}/{login}"),
        "followers_url": at("followers"), "following_url": at("following"), "gists_url": at("gists"),
        "starred_url": at("starred"), "subscriptions_url": at("subscriptions"),
        "organizations_url": at("orgs"), "repos_url": at("repos"), "events_url": at("events"),
        "received_events_url": at("received_events"), "site_admin": false,
        "type": if account.is_org { "Organization" } else { "User" },
    })
}

pub(super) fn installation(state: &State, of: &Installation, base: &str) -> Value {
    let owner = state.accounts.get(&of.account);
    let id = of.id;
    json!({
        "id": id, "app_id": state.app_id, "app_slug": "runner-broker-dev",
        "account": owner.map(|owner| account(owner, base)),
        "target_id": owner.map_or(0, |owner| owner.id),
        "target_type": if owner.is_some_and(|owner| owner.is_org) { "Organization" } else { "User" },
        "repository_selection": "all", "permissions": of.permissions, "events": ["workflow_job"],
        "access_tokens_url": format!("{base}/app/installations/{id}/access_tokens"),
        "repositories_url": format!("{base}/installation/repositories"),
        "html_url": format!("{base}/settings/installations/{id}"),
        "single_file_name": null, "single_file_paths": [], "has_multiple_single_files": false,
        "created_at": time(of.created_at), "updated_at": time(of.created_at),
        "suspended_by": null, "suspended_at": of.suspended_at.map(time),
    })
}

/// As `installation`; GitHub's description of the list wants an enterprise's fields in the account as well.
pub(super) fn listed_installation(state: &State, of: &Installation, base: &str) -> Value {
    let mut listed = installation(state, of, base);
    listed["account"]["name"] = json!(of.account);
    listed["account"]["slug"] = json!(of.account);
    listed["account"]["created_at"] = json!("2026-01-01T00:00:00Z");
    listed["account"]["updated_at"] = json!("2026-01-01T00:00:00Z");
    listed
}

pub(super) fn app(state: &State, base: &str) -> Value {
    let maker = Account { login: "octo-maker".into(), id: 1, is_org: true, installation: None };
    json!({
        "id": state.app_id, "slug": "runner-broker-dev", "node_id": "A_1", "name": "runner-broker (dev)",
        "owner": account(&maker, base), "description": null, "external_url": base,
        "html_url": format!("{base}/apps/runner-broker-dev"),
        "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
        "permissions": {
            "organization_self_hosted_runners": "write", "administration": "write", "metadata": "read",
        },
        "events": ["workflow_job"], "installations_count": state.installations.len(),
    })
}
