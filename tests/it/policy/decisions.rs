//! What callers get, and what they are told when they do not.

use runner_broker::model::{GroupRef, Method, Os, Role};
use runner_broker::policy::{Ask, Denial, Memberships, Usage, consider};
use serde_json::json;

use super::{ISSUER, ask, decide, denied, granted, group, label_set, memberships, rules, team};

fn three_teams() -> Memberships {
    let member = format!("member = [{{ issuer = '{ISSUER}', claims = {{ sub = 'me' }} }}]");
    let other = format!("member = [{{ issuer = '{ISSUER}', claims = {{ sub = 'you' }} }}]");
    let rules = rules(&format!(
        "[[team]]\nname = 'a'\n{member}\n[[team]]\nname = 'b'\n{member}\n[[team]]\nname = 'secret'\n{other}"
    ));
    memberships(&rules, json!({ "sub": "me" }))
}

#[test]
fn a_caller_without_a_team_gets_nothing_even_as_an_admin() {
    let admin = Memberships { roles: [(Role::Admin, "admin 1".into())].into(), ..Memberships::default() };
    for nobody in [Memberships::default(), admin] {
        assert_eq!(denied(&nobody, &ask(&[])).code(), "NO_TEAM");
    }
}

#[test]
fn a_caller_with_several_teams_names_one_of_his_own() {
    let me = three_teams();
    let denial = denied(&me, &ask(&[]));
    assert_eq!(denial, Denial::TeamRequired { teams: vec!["a".into(), "b".into()] });
    assert_eq!(denial.code(), "TEAM_REQUIRED");
    let named = |name: &str| Ask { team: Some(name.into()), ..ask(&[]) };
    assert_eq!(granted(&me, &named("B")).team(), "b");
    // Another's team and one that does not exist read the same.
    for not_mine in ["secret", "absent"] {
        let denial = denied(&me, &named(not_mine));
        assert_eq!(denial.code(), "NO_TEAM");
        assert_eq!(denial.to_string(), format!("You are not in a team '{not_mine}'"));
    }
}

#[test]
fn the_only_team_is_used_and_another_name_is_still_refused() {
    let me = team("");
    assert_eq!(granted(&me, &ask(&[])).rule(), "team ml, member 1");
    let other = Ask { team: Some("other".into()), ..ask(&[]) };
    assert_eq!(denied(&me, &other).code(), "NO_TEAM");
}

#[test]
fn only_jit_is_allowed_unless_the_team_says_otherwise() {
    let registration = Ask { method: Method::RegistrationToken, ephemeral: false, ..ask(&[]) };
    assert_eq!(denied(&team(""), &registration).code(), "METHOD_NOT_ALLOWED_BY_POLICY");
    let both = team("methods = ['registration_token', 'jit']");
    assert!(!granted(&both, &registration).ephemeral());
    assert!(granted(&both, &Ask { ephemeral: false, ..ask(&[]) }).ephemeral());
}

#[test]
fn every_runner_has_the_systems_labels_and_the_teams() {
    let me = team("required_labels = ['ML', 'ubuntu-latest']");
    let all = label_set(&["self-hosted", "linux", "x64", "ml", "ubuntu-latest"]);
    assert_eq!(granted(&me, &ask(&[])).labels(), &all);
    // They may be named.
    assert_eq!(granted(&me, &ask(&["Self-Hosted", "LINUX", "X64", "Ml", "Ubuntu-Latest"])).labels(), &all);
    let windows = Ask { os: Os::Windows, ..ask(&[]) };
    assert!(granted(&me, &windows).labels().contains(&"windows".parse().unwrap()));
}

#[test]
fn a_refusal_names_the_labels_that_were_sent_and_no_others() {
    let me = team("allowed_labels = ['gpu']\nrequired_labels = ['hidden']");
    let denial = denied(&me, &ask(&["gpu", "forbidden-label"]));
    assert_eq!(denial.to_string(), "Labels ['forbidden-label'] not permitted by policy");
    assert_eq!(denial.code(), "LABEL_POLICY_VIOLATION");
    let denial = denied(&me, &ask(&["gpu-evil", "my-gpu", "gpu"]));
    assert_eq!(denial.to_string(), "Labels ['gpu-evil', 'my-gpu'] not permitted by policy");
}

#[test]
fn a_wildcard_never_covers_a_name_that_means_something_else() {
    let wild = team("allowed_labels = ['.*', 'ubuntu-.*', 'ubuntu-22.04', 'self-hosted.*']");
    for label in [
        "ubuntu-22.04",
        "Ubuntu-Latest",
        "windows-2025",
        "macos-14",
        "gpu-latest",
        "self-hosted-gpu",
        "self_hosted",
        "selfhosted",
        "windows",
        "macos",
        "arm64",
        "arm",
    ] {
        assert_eq!(denied(&wild, &ask(&[label])).code(), "LABEL_POLICY_VIOLATION", "{label}");
    }
    assert!(granted(&wild, &ask(&["anything-else"])).labels().contains(&"anything-else".parse().unwrap()));
}

#[test]
fn a_hosted_name_that_is_spelled_out_is_allowed() {
    let me = team(r#"allowed_labels = ["ubuntu-22\\.04", "Self-Hosted-GPU", "ARM64"]"#);
    granted(&me, &ask(&["ubuntu-22.04", "self-hosted-gpu", "arm64"]));
    denied(&me, &ask(&["ubuntu-22x04"]));
}

#[test]
fn a_runner_has_at_most_a_hundred_labels() {
    let me = team("allowed_labels = ['l[0-9]+']\nrequired_labels = ['ml']");
    let many = |count: usize| {
        let names: Vec<String> = (0..count).map(|n| format!("l{n}")).collect();
        ask(&names.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert_eq!(granted(&me, &many(96)).labels().len(), 100);
    let denial = denied(&me, &many(97));
    assert_eq!((denial.clone(), denial.code()), (Denial::TooManyLabels, "INVALID_REQUEST"));
}

#[test]
fn a_target_is_the_default_one_unless_the_team_names_others() {
    let on = |target: &str| Ask { target: Some(target.parse().unwrap()), ..ask(&[]) };
    let me = team("");
    assert_eq!(granted(&me, &ask(&[])).target().to_string(), "octo-org");
    for other in ["octo-org/repo", "other-org"] {
        let denial = denied(&me, &on(other));
        assert_eq!(denial.code(), "TARGET_NOT_ALLOWED");
        assert_eq!(denial.to_string(), format!("Target '{other}' not permitted by policy"));
    }
    let repos = team("targets = ['Octo-Org/ML-*']");
    assert_eq!(granted(&repos, &on("octo-org/ml-1")).target().to_string(), "octo-org/ml-1");
    assert_eq!(denied(&repos, &on("octo-org")).code(), "TARGET_NOT_ALLOWED");
    // Nothing was sent, so nothing is named.
    assert!(!denied(&repos, &ask(&[])).to_string().contains("octo"));
}

#[test]
fn a_team_without_groups_has_the_default_one_alone() {
    let me = team("");
    assert!(consider(&me, &ask(&[])).unwrap().group_names().is_empty());
    let with = |group: GroupRef| Ask { group: Some(group), ..ask(&[]) };
    assert_eq!(granted(&me, &ask(&[])).group_id(), 1);
    assert_eq!(granted(&me, &with(GroupRef::Id(1))).group_id(), 1);
    assert_eq!(granted(&me, &with(GroupRef::Name("Default".into()))).group_id(), 1);
    for other in [GroupRef::Id(2), GroupRef::Name("ml".into()), GroupRef::Name("absent".into())] {
        let denial = denied(&me, &with(other.clone()));
        assert_eq!(denial.code(), "RUNNER_GROUP_NOT_ALLOWED");
        assert_eq!(denial.to_string(), format!("Runner group '{other}' not permitted by policy"));
    }
}

#[test]
fn groups_are_compared_by_id_however_they_are_named() {
    let me = team("runner_groups = ['ml', 3]");
    let with = |group: Option<GroupRef>| Ask { group, ..ask(&[]) };
    assert_eq!(granted(&me, &with(group("ml"))).group_id(), 2);
    assert_eq!(granted(&me, &with(Some(GroupRef::Id(2)))).group_id(), 2);
    assert_eq!(granted(&me, &with(group("other"))).group_id(), 3);
    assert_eq!(denied(&me, &with(group("Default"))).code(), "RUNNER_GROUP_NOT_ALLOWED");
    // The default group is not the team's, so the first of its own is.
    assert_eq!(granted(&me, &ask(&[])).group_id(), 2);
    assert_eq!(granted(&team("runner_groups = ['ml', 'Default']"), &ask(&[])).group_id(), 1);
    assert_eq!(denied(&team("runner_groups = ['absent']"), &ask(&[])), Denial::RunnerGroup(None));
    // An id that the team names needs no look-up.
    assert!(consider(&me, &with(Some(GroupRef::Id(3)))).unwrap().group_names().is_empty());
}

#[test]
fn a_repository_has_the_default_group_alone() {
    let me = team("targets = ['octo-org/*']\nrunner_groups = ['ml', 3]");
    let with =
        |group: Option<GroupRef>| Ask { target: Some("octo-org/r".parse().unwrap()), group, ..ask(&[]) };
    for ok in [None, Some(GroupRef::Id(1)), group("default")] {
        assert!(consider(&me, &with(ok.clone())).unwrap().group_names().is_empty());
        assert_eq!(granted(&me, &with(ok)).group_id(), 1);
    }
    for not in [Some(GroupRef::Id(3)), group("ml")] {
        assert_eq!(denied(&me, &with(not)).code(), "RUNNER_GROUP_NOT_ALLOWED");
    }
}

#[test]
fn a_quota_is_full_when_it_is_reached_and_nought_allows_nothing() {
    let me = team("max_runners = 2\nrequests_per_minute = 3");
    let used = |live_runners, recent_requests| {
        decide(&me, &ask(&[]), Usage { live_runners, recent_requests }).map_err(|denial| denial.code())
    };
    assert!(used(1, 2).is_ok());
    assert_eq!(used(2, 0).unwrap_err(), "QUOTA_EXCEEDED");
    assert_eq!(used(0, 3).unwrap_err(), "RATE_LIMITED");
    assert_eq!(denied(&team("max_runners = 0"), &ask(&[])).code(), "QUOTA_EXCEEDED");
    assert_eq!(denied(&team("requests_per_minute = 0"), &ask(&[])).code(), "RATE_LIMITED");
    let free = Usage { live_runners: i64::MAX, recent_requests: i64::MAX };
    assert!(decide(&team(""), &ask(&[]), free).is_ok());
}
