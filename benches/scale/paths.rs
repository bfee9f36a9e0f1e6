//! What is asked for, as whom: a line each.

use tokio_postgres::Client;

use crate::fill::column;

/// A caller, and a path: all of the API's and the console's.
pub async fn paths(client: &Client) -> Vec<(&'static str, String)> {
    let api = calls(client).await.into_iter().map(|(caller, path)| (caller, format!("/api/v1{path}")));
    api.chain(pages(client).await).collect()
}

/// What is asked of a small database and of a large one: a caller, and a path whose answer is as long in both.
pub async fn compared(client: &Client) -> Vec<(&'static str, &'static str, String)> {
    let one = async |query: &str| column(client, query).await.pop().unwrap_or_default();
    let of_live = "FROM runners WHERE status = 'active' ORDER BY id LIMIT 1 OFFSET 100";
    let (id, name) =
        (one(&format!("SELECT id {of_live}")).await, one(&format!("SELECT name {of_live}")).await);
    let older =
        "FROM runners WHERE status = 'deleted' ORDER BY id LIMIT 1 OFFSET (SELECT count(*) / 3 FROM runners)";
    let older = one(&format!("SELECT id {older}")).await;
    let event = one("SELECT (min(id) + max(id)) / 2 FROM audit_log").await;
    let yesterday = one("SELECT (date_trunc('day', now()) - interval '1 day')::date::text").await;
    let user = one("SELECT subject FROM runners WHERE subject LIKE 'repo:%' ORDER BY id DESC LIMIT 1").await;
    let (admin, team) = ("admin", "team-07");
    let of_api = [
        ("list", admin, "/runners".to_owned()),
        ("list", admin, format!("/runners?cursor={older}")),
        ("list", admin, "/runners?status=active".into()),
        ("list", admin, "/runners?status=deleted".into()),
        ("list", admin, "/runners?team=team-07&limit=20".into()),
        ("list", team, "/runners?limit=20".into()),
        ("list", admin, "/jobs".into()),
        ("list", admin, "/admin/security-events?limit=20".into()),
        ("get", admin, format!("/runners/{id}")),
        ("get", admin, format!("/runners/{name}")),
        ("get", admin, format!("/runners/{older}")),
        ("audit page", admin, "/audit".into()),
        ("audit page", admin, format!("/audit?cursor={event}")),
        ("audit page", admin, "/audit?event_type=provisioned".into()),
        ("audit page", admin, format!("/audit?runner={id}&limit=5")),
        ("audit page", admin, "/audit?team=team-07".into()),
        ("audit page", admin, format!("/audit?user={user}&limit=5")),
        ("audit page", admin, "/audit?user=system:sync".into()),
        ("audit page", admin, "/audit?success=false".into()),
        ("audit page", admin, format!("/audit?since={yesterday}")),
        ("audit page", team, "/audit".into()),
    ];
    let of_console =
        ["/", "/runners", "/jobs", "/teams", "/audit", "/audit?success=false", "/security", "/system"];
    let of_console = of_console.map(str::to_owned).into_iter().chain([
        format!("/runners/{id}"),
        format!("/audit/{event}"),
        format!("/audit?cursor={event}"),
    ]);
    let of_api = of_api.map(|(group, caller, path)| (group, caller, format!("/api/v1{path}")));
    of_api.into_iter().chain(of_console.map(|path| ("console page", admin, path))).collect()
}

async fn pages(client: &Client) -> Vec<(&'static str, String)> {
    let one = async |query: &str| column(client, query).await.pop().unwrap_or_default();
    let runner = one("SELECT id FROM runners WHERE status = 'active' ORDER BY id LIMIT 1 OFFSET 100").await;
    let event = one("SELECT max(id) / 2 FROM audit_log").await;
    let old_event = format!("/audit?cursor={event}");
    let everybodys =
        ["/", "/runners", "/runners?q=nothing", "/jobs", "/teams", "/audit", "/audit?success=false"];
    let admins = ["/security", "/identities", "/identities?q=nothing", "/system", "/roles", "/teams/team-07"];
    let all = everybodys.iter().flat_map(|path| [("admin", *path), ("team-07", *path), ("few", *path)]);
    let all = all.chain(admins.iter().map(|path| ("admin", *path)));
    let all = all.map(|(caller, path)| (caller, path.to_owned()));
    let some = [format!("/runners/{runner}"), format!("/audit/{event}"), old_event];
    all.chain(some.map(|path| ("admin", path))).chain([("team-07", "/runners/new".to_owned())]).collect()
}

async fn calls(client: &Client) -> Vec<(&'static str, String)> {
    let one = async |query: &str| column(client, query).await.pop().unwrap_or_default();
    let runner = one("SELECT id FROM runners WHERE status = 'active' ORDER BY id LIMIT 1 OFFSET 100").await;
    let name = one("SELECT name FROM runners WHERE status = 'active' ORDER BY id LIMIT 1 OFFSET 100").await;
    let old_runner =
        one("SELECT id FROM runners ORDER BY id LIMIT 1 OFFSET (SELECT count(*) / 2 FROM runners)").await;
    let old_event = one("SELECT max(id) / 2 FROM audit_log").await;
    let subject = one("SELECT subject FROM runners ORDER BY id DESC LIMIT 1").await;
    let person = one("SELECT provisioned_by FROM runners WHERE provisioned_by LIKE 'person%' LIMIT 1").await;
    let day = |days: u32| format!("(date_trunc('day', now()) - interval '{days} days')::date::text");
    let yesterday = one(&format!("SELECT {}", day(1))).await;
    let long_ago = one(&format!("SELECT {}", day(80))).await;
    let longer_ago = one(&format!("SELECT {}", day(81))).await;
    let (admin, team, small, few) = ("admin", "team-07", "team-48", "few");
    let all = [
        (admin, "/runners".to_owned()),
        (admin, "/runners?limit=200".into()),
        (admin, format!("/runners?cursor={old_runner}")),
        (admin, "/runners?status=active".into()),
        (admin, "/runners?status=deleting".into()),
        (admin, "/runners?status=deleted".into()),
        (admin, "/runners?status=failed".into()),
        (admin, "/runners?status=requested".into()),
        (admin, "/runners?team=team-07".into()),
        (admin, "/runners?team=nobody".into()),
        (admin, "/runners?team=team-07&status=failed".into()),
        (admin, "/runners?team=team-00&status=active".into()),
        (admin, "/runners?label=linux".into()),
        (admin, "/runners?label=gpu".into()),
        (admin, "/runners?label=rare".into()),
        (admin, "/runners?label=debian-11".into()),
        (admin, "/runners?label=nothing".into()),
        (admin, "/runners?label=gpu&status=active".into()),
        (admin, "/runners?ephemeral=true".into()),
        (admin, "/runners?ephemeral=false".into()),
        (admin, "/runners?ephemeral=false&status=active".into()),
        (admin, "/runners?q=ci-".into()),
        (admin, "/runners?q=legacy".into()),
        (admin, "/runners?q=needle".into()),
        (admin, "/runners?q=nothing".into()),
        (admin, "/runners?q=ab12&status=active".into()),
        (admin, "/runners?q=nothing&team=team-07".into()),
        (admin, format!("/runners/{runner}")),
        (admin, format!("/runners/{name}")),
        (admin, "/runners/builder-7".into()),
        (team, "/runners".into()),
        (team, "/runners?status=active".into()),
        (team, "/runners?q=nothing".into()),
        (team, "/runners?label=rare".into()),
        (small, "/runners?status=failed".into()),
        (few, "/runners".into()),
        (few, "/runners?q=nothing".into()),
        (admin, "/audit".into()),
        (admin, format!("/audit?cursor={old_event}")),
        (admin, "/audit?event_type=provisioned".into()),
        (admin, "/audit?event_type=policy_applied".into()),
        (admin, "/audit?event_type=audit_log_moved".into()),
        (admin, "/audit?event_type=nothing".into()),
        (admin, format!("/audit?runner={runner}")),
        (admin, format!("/audit?runner={name}")),
        (admin, "/audit?runner=builder-7".into()),
        (admin, "/audit?runner=nobody".into()),
        (admin, "/audit?team=team-07".into()),
        (admin, "/audit?team=nobody".into()),
        (admin, "/audit?team=team-07&event_type=provision_failed".into()),
        (admin, "/audit?team=team-00&event_type=nothing".into()),
        (admin, format!("/audit?user={subject}")),
        (admin, format!("/audit?user={person}")),
        (admin, "/audit?user=system:sync".into()),
        (admin, "/audit?user=nobody".into()),
        (admin, "/audit?success=true".into()),
        (admin, "/audit?success=false".into()),
        (admin, "/audit?success=false&event_type=provisioned".into()),
        (admin, format!("/audit?since={yesterday}")),
        (admin, format!("/audit?since={yesterday}&event_type=policy_applied")),
        (admin, format!("/audit?until={long_ago}")),
        (admin, format!("/audit?since={longer_ago}&until={long_ago}&team=team-07")),
        (
            admin,
            format!("/audit?since={longer_ago}&until={long_ago}&success=false&event_type=provision_failed"),
        ),
        (admin, "/audit?since=2000-01-01&until=2000-01-02".into()),
        (team, "/audit".into()),
        (team, "/audit?event_type=provision_failed".into()),
        (team, "/audit?user=nobody".into()),
        (few, "/audit".into()),
        (few, "/audit?success=false".into()),
        (admin, "/jobs".into()),
        (admin, "/jobs?state=queued".into()),
        (admin, "/jobs?state=waiting".into()),
        (admin, "/jobs?repository=octo-org/repo-7".into()),
        (admin, "/jobs?repository=octo-org/nothing".into()),
        (admin, "/jobs?label=rare".into()),
        (admin, "/jobs?label=nothing".into()),
        (team, "/jobs".into()),
        (small, "/jobs?label=rare".into()),
        (admin, "/admin/security-events".into()),
        (admin, "/admin/security-events?severity=high".into()),
        (admin, "/admin/security-events?type=audit_log_moved".into()),
        (admin, "/admin/security-events?team=team-07".into()),
        (admin, format!("/admin/security-events?since={longer_ago}&until={long_ago}")),
        (admin, "/admin/identities".into()),
        (admin, "/admin/identities?q=person-77".into()),
        (admin, "/admin/identities?q=nothing".into()),
        (admin, "/admin/identities?active=false".into()),
        (admin, "/admin/teams".into()),
        (admin, "/admin/stats".into()),
    ];
    all.into()
}
