//! The console's pages on teams, and on who has which role.

use super::jobs::{EVIL, escapes, roles};
use crate::browser::Browser;
use crate::support::{Answer, World, team};

const COMMENT: (&str, &str) = ("comment", "nobody is left in it");

/// What a page's hidden field holds, as its browser would send it.
fn hidden(page: &Answer, name: &str) -> String {
    let (_, rest) =
        page.text.split_once(&format!(r#"name="{name}" value=""#)).unwrap_or_else(|| panic!("{}", page.text));
    rest.split('"')
        .next()
        .unwrap()
        .replace("&quot;", "\"")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&")
}

/// The fields of a team's form that are not about what is changed.
async fn seen(browser: &Browser<'_>, path: &str) -> (String, String) {
    let page = browser.get(path).await;
    assert_eq!(page.status, 200, "{}", page.text);
    (hidden(&page, "version"), hidden(&page, "was"))
}

fn members(world: &World, team: &str) -> String {
    format!("{} {{\"team\":\"{team}\"}}", world.issuer.url())
}

#[actix_web::test]
async fn everybody_sees_his_own_teams_and_those_who_see_all_see_all() {
    let world = World::new().await;
    roles(&world).await;
    for who in ["ann", "aud"] {
        let page = world.signed_in(who).await.get("/teams").await.text;
        assert!(page.contains("/teams/blue") && page.contains("/teams/green"), "{page}");
        let page = world.signed_in(who).await.get("/teams/blue").await;
        assert!(page.status == 200 && page.text.contains("Tokens from"), "{}", page.text);
    }
    let page = world.signed_in("blue").await.get("/teams").await.text;
    assert!(page.contains("/teams/blue") && !page.contains("green") && !page.contains("New team"), "{page}");
    let page = world.signed_in("blue").await.get("/teams/BLUE").await;
    assert!(page.status == 200 && page.text.contains("team blue, member 1"), "{}", page.text);
    assert!(!page.text.contains("/edit") && !page.text.contains(world.issuer.url()), "{}", page.text);
    assert!(world.signed_in("nobody").await.get("/teams").await.text.contains("You are in no team"));
    for (who, path) in [("blue", "/teams/green"), ("ann", "/teams/none"), ("ann", "/teams/a%00b")] {
        assert_eq!(world.signed_in(who).await.get(path).await.status, 404, "{who} {path}");
    }
}

#[actix_web::test]
async fn an_administrator_makes_a_team_after_seeing_what_that_changes() {
    let world = World::new().await;
    roles(&world).await;
    let admin = world.signed_in("ann").await;
    let rules = members(&world, "red");
    let fields = [
        ("name", "red"),
        ("description", EVIL),
        ("methods", "jit"),
        ("allowed_labels", "linux\r\ngpu-.*"),
        ("max_runners", "2"),
        ("members", rules.as_str()),
    ];
    let preview = admin.submit("/new-team", "/new-team", &[&fields[..], &[("preview", "")]].concat()).await;
    assert_eq!(preview.status, 200, "{}", preview.text);
    assert!(
        preview.text.contains("team red: added") && preview.text.contains("Save</button>"),
        "{}",
        preview.text
    );
    escapes(&preview.text);
    assert_eq!(world.sql("SELECT count(*) FROM teams WHERE name = 'red'").await, ["0"], "only looked at");
    let saved = admin.submit("/new-team", "/new-team", &[&fields[..], &[("save", "")]].concat()).await;
    assert_eq!((saved.status, saved.header("location")), (303, "/teams/red"), "{}", saved.text);
    let page = admin.get("/teams/red").await.text;
    escapes(&page);
    assert!(page.contains("gpu-.*") && page.contains("of 2"), "{page}");
    assert_eq!(
        world
            .post(
                "/api/v1/runners/jit",
                "red",
                serde_json::json!({ "runner_name": "r1", "labels": ["gpu-1"] })
            )
            .await
            .status,
        201
    );
}

#[actix_web::test]
async fn what_is_wrong_with_a_team_is_told_at_its_field_and_nothing_typed_is_lost() {
    let world = World::new().await;
    roles(&world).await;
    let admin = world.signed_in("ann").await;
    let fields = [
        ("name", "red"),
        ("max_runners", "many"),
        ("members", "no json"),
        ("allowed_labels", "keep-me"),
        ("save", ""),
    ];
    let page = admin.submit("/new-team", "/new-team", &fields).await;
    assert_eq!(page.status, 422);
    for text in ["a whole number", "members[0]", "keep-me", "no json"] {
        assert!(page.text.contains(text), "{text}: {}", page.text);
    }
    // What only the policy's compiler finds.
    let fields = [("name", "red"), ("methods", "jit"), ("allowed_labels", "good\r\n(bad"), ("save", "")];
    let page = admin.submit("/new-team", "/new-team", &fields).await;
    assert!(page.status == 422 && page.text.contains("allowed_labels[1]"), "{}", page.text);
    let page =
        admin.submit("/new-team", "/new-team", &[("name", "BLUE"), ("methods", "jit"), ("save", "")]).await;
    assert_eq!(page.status, 409, "{}", page.text);
}

#[actix_web::test]
async fn a_change_is_previewed_for_whom_it_concerns_and_touches_only_what_was_changed() {
    let world = World::new().await;
    roles(&world).await;
    assert_eq!(world.jit("b1").await.status, 201);
    let admin = world.signed_in("ann").await;
    let (version, was) = seen(&admin, "/teams/blue/edit").await;
    let rules = members(&world, "blue");
    let fields = [
        ("version", version.as_str()),
        ("was", was.as_str()),
        ("methods", "registration_token"),
        ("allowed_labels", "linux.*\r\ndocker"),
        ("targets", "octo-org\r\nocto-org/*"),
        ("max_runners", "1"),
        ("members", rules.as_str()),
    ];
    let page = admin
        .submit("/teams/blue/edit", "/teams/blue/edit", &[&fields[..], &[("preview", "")]].concat())
        .await;
    for text in ["limit would be reached", "would no longer be allowed", "b1", "Save</button>"] {
        assert!(page.text.contains(text), "{text}: {}", page.text);
    }
    let saved =
        admin.submit("/teams/blue/edit", "/teams/blue/edit", &[&fields[..], &[("save", "")]].concat()).await;
    assert_eq!((saved.status, saved.header("location")), (303, "/teams/blue"), "{}", saved.text);
    assert_eq!(world.get("/api/v1/auth/me", "blue").await.body["teams"][0]["max_runners"], 1);
    let event = world.log("event_type = 'team_updated'").await.remove(0);
    assert_eq!((&event["user_identity"], &event["team"]), (&"ann-user".into(), &"blue".into()));
}

#[actix_web::test]
async fn a_preview_warns_of_rules_that_may_match_others_than_meant() {
    let world = World::new().await;
    roles(&world).await;
    let admin = world.signed_in("ann").await;
    let warned = async |labels: &str, rule: &str| {
        let fields = [
            ("name", "new"),
            ("methods", "jit"),
            ("allowed_labels", labels),
            ("members", rule),
            ("preview", ""),
        ];
        let page = admin.submit("/new-team", "/new-team", &fields).await;
        assert_eq!(page.status, 200, "{}", page.text);
        let after = page.text.split_once("Please check:").map(|(_, after)| after.to_owned());
        after.map(|text| text.split("</ul>").next().unwrap_or_default().to_owned()).unwrap_or_default()
    };
    let wide = format!("{} {{\"sub\": \"alice|.*\"}}", world.issuer.url());
    let found = warned("ubuntu-.*", &wide).await;
    assert_eq!(found.matches("<li>").count(), 2, "{found}");
    for text in ["ubuntu-.*", "alice|.*", "nearly everybody", "team 'new'"] {
        assert!(found.contains(text), "{text}: {found}");
    }
    let elsewhere = "https://elsewhere.example {\"oid\": \"7\"}";
    assert!(warned("gpu", elsewhere).await.contains("https://elsewhere.example"));
    assert_eq!(warned("gpu", &members(&world, "new")).await, "");
}

#[actix_web::test]
async fn of_two_administrators_the_second_is_shown_what_the_first_changed() {
    let world = World::new().await;
    roles(&world).await;
    let admin = world.signed_in("ann").await;
    let (version, was) = seen(&admin, "/teams/blue/edit").await;
    let rules = members(&world, "blue");
    let form = |max: &'static str, about: &'static str| {
        vec![
            ("version", version.clone()),
            ("was", was.clone()),
            ("methods", "jit".to_owned()),
            ("methods", "registration_token".to_owned()),
            ("allowed_labels", "linux.*\ndocker".to_owned()),
            ("targets", "octo-org\nocto-org/*".to_owned()),
            ("max_runners", max.to_owned()),
            ("description", about.to_owned()),
            ("members", rules.clone()),
            ("save", String::new()),
        ]
    };
    async fn send(admin: &Browser<'_>, form: &[(&str, String)]) -> Answer {
        let fields: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
        admin.submit("/teams/blue/edit", "/teams/blue/edit", &fields).await
    }
    let first = send(&admin, &form("7", "")).await;
    assert_eq!(first.status, 303, "{}", first.text);
    let second = send(&admin, &form("", "ours")).await;
    assert_eq!(second.status, 412, "{}", second.text);
    assert!(
        second.text.contains("Somebody else changed this team") && second.text.contains("max_runners"),
        "{}",
        second.text
    );
    // Both changes are in the form; saved as it is, neither is lost.
    assert!(
        second.text.contains(r#"name="max_runners" value="7""#) && second.text.contains("ours"),
        "{}",
        second.text
    );
    let (version, was) = (hidden(&second, "version"), hidden(&second, "was"));
    let mut both = form("7", "ours");
    both[0].1 = version;
    both[1].1 = was;
    let saved = send(&admin, &both).await;
    assert_eq!(saved.status, 303, "{}", saved.text);
    assert_eq!(
        world.sql("SELECT max_runners || description FROM teams WHERE name = 'blue'").await,
        ["7ours"]
    );
}

#[actix_web::test]
async fn a_team_is_deactivated_with_a_reason_and_comes_back() {
    let world = World::new().await;
    roles(&world).await;
    let admin = world.signed_in("ann").await;
    let (off, on) = ("/teams/blue/deactivate", "/teams/blue/reactivate");
    let version = hidden(&admin.get(off).await, "version");
    let short = admin.submit(off, off, &[("version", &version), ("comment", "no")]).await;
    assert!(short.status == 422 && short.text.contains("10 to 500 characters"), "{}", short.text);
    let done = admin.submit(off, off, &[("version", &version), COMMENT]).await;
    assert_eq!((done.status, done.header("location")), (303, "/teams/blue"), "{}", done.text);
    assert_eq!(world.jit("b1").await.status, 403);
    let late = admin.submit(off, on, &[("version", &version), COMMENT]).await;
    assert_eq!(late.status, 412, "{}", late.text);
    let version = hidden(&late, "version");
    assert_eq!(admin.submit(on, on, &[("version", &version), COMMENT]).await.status, 303);
    assert_eq!(world.jit("b1").await.status, 201);
}

#[actix_web::test]
async fn roles_are_given_and_taken_and_nobody_takes_his_own() {
    let world = World::new().await;
    roles(&world).await;
    let admin = world.signed_in("ann").await;
    let page = admin.get("/roles").await;
    let versions: Vec<String> = page
        .text
        .split(r#"name="version" value=""#)
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap().to_owned())
        .collect();
    let (admins, auditors) = (versions.first().unwrap(), versions.last().unwrap());
    let green = members(&world, "green");
    let added =
        admin.submit("/roles", "/roles/auditor/add", &[("version", auditors), ("member", &green)]).await;
    assert_eq!((added.status, added.header("location")), (303, "/roles"), "{}", added.text);
    assert_eq!(world.signed_in("green").await.get("/security").await.status, 200);
    let stale =
        admin.submit("/roles", "/roles/auditor/add", &[("version", auditors), ("member", &green)]).await;
    assert_eq!(stale.status, 412, "{}", stale.text);
    let bad =
        admin.submit("/roles", "/roles/auditor/add", &[("version", auditors), ("member", "keep this")]).await;
    assert!(bad.status == 422 && bad.text.contains(r#"value="keep this""#), "{}", bad.text);
    let id = page.text.split(r#"name="id" value=""#).nth(1).unwrap().split('"').next().unwrap();
    let own = admin.submit("/roles", "/roles/admin/remove", &[("version", admins), ("id", id)]).await;
    assert_eq!(own.status, 409, "{}", own.text);
    assert_eq!(admin.submit("/roles", "/roles/king/add", &[]).await.status, 404);
}

#[actix_web::test]
async fn whoever_is_no_administrator_has_no_buttons_and_is_refused_what_he_forges() {
    let world = World::new().await;
    roles(&world).await;
    for who in ["aud", "blue", "nobody"] {
        let browser = world.signed_in(who).await;
        for path in ["/new-team", "/teams/blue/edit", "/teams/blue/deactivate"] {
            let page = browser.get(path).await;
            let refused = page.status == 403 || page.text.contains("You are in no team yet");
            assert!(refused, "{who} {path}: {}", page.text);
            let forged = browser
                .submit("/teams", path, &[("name", "red"), ("methods", "jit"), COMMENT, ("save", "")])
                .await;
            assert_eq!(forged.status, 403, "{who} {path}: {}", forged.text);
        }
        let forged = browser.submit("/teams", "/roles/admin/add", &[("member", &members(&world, who))]).await;
        assert_eq!(forged.status, 403, "{who}");
    }
    let auditor = world.signed_in("aud").await;
    for path in ["/teams", "/teams/blue", "/roles"] {
        let page = auditor.get(path).await;
        assert_eq!(page.status, 200, "{}", page.text);
        for button in ["/edit", "/deactivate", "/new-team", "/remove", ">Add<"] {
            assert!(!page.text.contains(button), "{path} {button}: {}", page.text);
        }
    }
    assert_eq!(world.signed_in("blue").await.get("/roles").await.status, 403);
    assert_eq!(world.sql("SELECT count(*) FROM audit_log WHERE event_type LIKE 'team\\_%'").await, ["0"]);
}

#[actix_web::test]
async fn no_form_counts_without_its_page_s_token() {
    let world = World::new().await;
    roles(&world).await;
    let admin = world.signed_in("ann").await;
    for path in [
        "/new-team",
        "/teams/blue/edit",
        "/teams/blue/deactivate",
        "/roles/admin/add",
        "/roles/auditor/remove",
    ] {
        let answer =
            admin.post_bare(path, &[("name", "red"), ("methods", "jit"), COMMENT, ("save", "")]).await;
        assert_eq!(answer.status, 403, "{path}: {}", answer.text);
        assert!(answer.text.contains("was not sent from a page of your session"), "{path}: {}", answer.text);
    }
}

#[actix_web::test]
async fn where_a_file_owns_the_policy_everything_is_shown_and_nothing_can_be_changed() {
    let world = World::new().await;
    roles(&world).await;
    world.broker.follow_policy_file();
    let admin = world.signed_in("ann").await;
    for path in ["/teams", "/teams/blue", "/roles"] {
        let page = admin.get(path).await;
        assert!(page.status == 200 && page.text.contains("POLICY_FILE"), "{}", page.text);
        assert!(
            !page.text.contains("/edit") && !page.text.contains("/new-team") && !page.text.contains(">Add<"),
            "{path}"
        );
    }
    let forged =
        admin.submit("/teams", "/new-team", &[("name", "red"), ("methods", "jit"), ("save", "")]).await;
    assert_eq!(forged.status, 409, "{}", forged.text);
    world.policy(&team("blue", "")).await;
}
