//! What each kind of provider says of people.

use runner_broker::auth::login::Logins;
use runner_broker::broker::people::caller::Origin;
use runner_broker::config::LoginKind;
use runner_broker::dev::github::Person;
use runner_broker::dev::issuer::{Fault, KEYS, USERINFO};
use serde_json::json;

use super::kept;
use super::visitor::SESSION;
use crate::support::World;

fn mona() -> Person {
    Person {
        id: 583_231,
        login: "mona".into(),
        name: Some("Mona Lisa".into()),
        email: None,
        orgs: vec!["octo-org".into()],
        teams: vec!["octo-org/platform".into(), "octo-org/ml".into()],
    }
}

async fn by_github(world: &World) -> String {
    let visitor = world.visitor();
    let authorize = visitor.begin("github", "/").await;
    assert!(authorize.contains("code_challenge_method=S256"), "{authorize}");
    let back = visitor.choose(&authorize, &[("login", "mona")]).await;
    let answer = visitor.get(&back).await;
    assert_eq!((answer.status, answer.header("location")), (303, "/"), "{}", answer.text);
    assert!(visitor.is_signed_in().await);
    visitor.cookie(SESSION).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn github_says_who_somebody_is_and_in_which_teams() {
    let world = World::new().await;
    world.github.add_person(mona());
    let issuer = world.github.url().to_owned();
    let member = format!(
        "[[team]]\nname = \"ml\"\n[[team.member]]\nissuer = \"{issuer}\"\nclaims = {{ teams = \"octo-org/ml\" }}\n"
    );
    world.policy(&member).await;
    let token = by_github(&world).await;
    let session = world.broker.session(&token.into(), Origin::default()).await.unwrap().expect("a session");
    assert_eq!(session.caller.teams().collect::<Vec<_>>(), ["ml"]);
    let identity = &session.caller.identity;
    assert_eq!(
        (identity.issuer.as_str(), identity.subject.as_str(), identity.display_name.as_str()),
        (issuer.as_str(), "583231", "mona")
    );
    let expected = json!({ "iss": issuer, "sub": "583231", "id": 583_231, "login": "mona",
        "preferred_username": "mona", "name": "Mona Lisa", "orgs": ["octo-org"],
        "teams": ["octo-org/platform", "octo-org/ml"] });
    assert_eq!(serde_json::Value::Object(session.claims), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_that_shows_no_memberships_gives_none() {
    let world = World::new().await;
    world.github.add_person(mona());
    world.github.set_granted_scope("user:email");
    by_github(&world).await;
    let claims = kept(&world).await["claims"].clone();
    assert_eq!((&claims["orgs"], &claims["teams"]), (&json!([]), &json!([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_in_very_many_teams_is_in_all_of_them() {
    let world = World::new().await;
    let teams: Vec<String> = (0..120).map(|number| format!("octo-org/team-{number}")).collect();
    world.github.add_person(Person { teams: teams.clone(), ..mona() });
    by_github(&world).await;
    assert_eq!(kept(&world).await["claims"]["teams"], json!(teams));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_github_that_is_limiting_or_unwell_signs_nobody_in_with_less_than_he_has() {
    use runner_broker::dev::github::{Action, Fault};
    let world = World::new().await;
    world.github.add_person(mona());
    for action in [Action::RateLimited { reset_seconds: 60 }, Action::Html { status: 502 }, Action::Drop] {
        let visitor = world.visitor();
        let authorize = visitor.begin("github", "/").await;
        let back = visitor.choose(&authorize, &[("login", "mona")]).await;
        let fault = json!({ "method": "GET", "path": "/user/teams", "times": 1, "action": action });
        world.github.fail(serde_json::from_value::<Fault>(fault).unwrap());
        let answer = visitor.get(&back).await;
        assert_eq!(answer.status, 503, "{}", answer.text);
        assert!(!visitor.is_signed_in().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_that_only_the_users_info_has_count_as_well() {
    let world = World::new().await;
    world.issuer.hold_back(&["groups", "email", "team"]);
    let claims = json!({ "groups": ["admins"], "email": "carol@example.com",
        "email_verified": true, "sid": "1" });
    world.visitor().sign_in("carol", claims).await;
    let session = kept(&world).await;
    assert_eq!(session["display_name"], "carol@example.com");
    assert_eq!(session["claims"]["groups"], json!(["admins"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_cannot_be_kept_as_it_is_counts_for_nothing() {
    let world = World::new().await;
    let claims = json!({ "team": "bl\u{0}ue", "groups": ["a", ["b\u{0}"]], "o": { "x\u{0}": 1 }, "p\u{0}": 1,
        "email": "erin@example.com", "name": "Erin 🦀" });
    world.visitor().sign_in("erin", claims).await;
    let mut names: Vec<String> = kept(&world).await["claims"].as_object().unwrap().keys().cloned().collect();
    names.retain(|name| !["aud", "exp", "iat", "iss", "sub"].contains(&name.as_str()));
    assert_eq!(names, ["email", "name"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn gitlab_is_always_asked_for_all_groups_of_a_user() {
    let world = World::with(|config| {
        let LoginKind::OpenId { issuer } = config.logins[0].kind.clone() else { panic!("no issuer") };
        config.logins[0].kind = LoginKind::GitLab { issuer };
    })
    .await;
    world.visitor().sign_in("carol", json!({ "groups": ["some"], "email": "carol@example.com" })).await;
    assert_eq!(world.issuer.calls(USERINFO), 1);
    // What the ID token itself says stands.
    assert_eq!(kept(&world).await["claims"]["groups"], json!(["some"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn info_about_somebody_else_or_none_signs_nobody_in() {
    let world = World::new().await;
    let other = json!({ "sub": "mallory", "groups": ["admins"] }).to_string();
    for (fault, status) in [(Fault::Body(other), 403), (Fault::Status(500), 503), (Fault::Status(403), 503)] {
        let visitor = world.visitor();
        world.issuer.fail(USERINFO, fault.clone());
        let answer = visitor.arrive("carol", json!({}), "/").await;
        assert_eq!(answer.status, status, "{fault:?} {}", answer.text);
        assert!(!visitor.is_signed_in().await);
        world.issuer.fail(USERINFO, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_provider_withdrew_makes_no_session() {
    let world = World::new().await;
    world.visitor().sign_in("carol", json!({})).await;
    world.issuer.rotate(false).unwrap();
    world.pass(11);
    world.visitor().sign_in("carol", json!({})).await;
    world.issuer.forge_id_tokens(true);
    assert_eq!(world.visitor().arrive("carol", json!({}), "/").await.status, 403);
    // A key that is known is asked about again after a while: it may have been withdrawn.
    world.issuer.forge_id_tokens(false);
    let asked = world.issuer.calls(KEYS);
    world.visitor().sign_in("carol", json!({})).await;
    assert_eq!(world.issuer.calls(KEYS), asked);
    world.pass(301);
    world.visitor().sign_in("carol", json!({})).await;
    assert_eq!(world.issuer.calls(KEYS), asked + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_was_there_once_may_be_away_for_its_discovery() {
    let world = World::new().await;
    world.visitor().sign_in("carol", json!({})).await;
    world.issuer.fail(runner_broker::dev::issuer::DISCOVERY, Fault::Status(500));
    world.pass(3600);
    world.visitor().begin("dev", "/").await;
}

#[test]
fn the_address_that_people_come_back_to_is_below_the_public_one() {
    let clock = runner_broker::clock::Clock::default();
    let login = runner_broker::config::Login {
        id: "hub".into(),
        name: "Hub".into(),
        kind: LoginKind::GitHub {
            url: "https://github.com/".parse().unwrap(),
            api_url: "https://api.github.com/".parse().unwrap(),
        },
        client_id: "c".into(),
        client_secret: Some("s".into()),
        scopes: vec!["read:org".into()],
        audience: Some("https://api.example".into()),
    };
    for (public, expected) in [
        ("https://b.example", "https%3A%2F%2Fb.example%2Fsign-in%2Fhub%2Fcallback"),
        ("https://b.example/x/", "https%3A%2F%2Fb.example%2Fx%2Fsign-in%2Fhub%2Fcallback"),
    ] {
        let logins = Logins::new(
            std::slice::from_ref(&login),
            &public.parse().unwrap(),
            std::time::Duration::ZERO,
            &clock,
        )
        .unwrap();
        let hub = logins.get("hub").unwrap();
        assert_eq!(hub.issuer(), "https://github.com");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let attempt = runner_broker::auth::login::Attempt::begin();
        let url = runtime.block_on(hub.authorization_url(&attempt)).unwrap();
        assert!(url.as_str().starts_with("https://github.com/login/oauth/authorize?"), "{url}");
        for part in [expected, "scope=read%3Aorg", "audience=https%3A%2F%2Fapi.example", "response_type=code"]
        {
            assert!(url.as_str().contains(part), "{url}");
        }
    }
}
