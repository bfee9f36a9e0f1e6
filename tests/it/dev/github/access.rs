//! Who may: the App by its JWT, an installation by its token.

use chrono::TimeDelta;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::client::World;

#[test]
fn the_app_finds_itself_and_its_installations() {
    let world = World::new();
    assert_eq!(world.get("/app", &world.jwt()).body["id"], world.github.app_id());
    let id = world.github.installation_id("OCTO-org").unwrap();
    assert_eq!(world.get("/app/installations", &world.jwt()).body[0]["id"], id);
    for path in [
        format!("/app/installations/{id}"),
        "/orgs/octo-org/installation".into(),
        "/api/v3/orgs/octo-org/installation".into(),
        "/repos/octo-org/hello/installation".into(),
    ] {
        let found = world.get(&path, &world.jwt());
        assert_eq!((found.status, &found.body["id"]), (200, &json!(id)), "{path}");
    }
    for path in ["/orgs/other/installation", "/repos/octo-org/other/installation", "/app/installations/1"] {
        assert_eq!(world.get(path, &world.jwt()).status, 404, "{path}");
    }
}

#[test]
fn the_app_reads_its_webhook_but_not_the_secret() {
    let world = World::new();
    let config = || world.get("/app/hook/config", &world.jwt()).body;
    assert!(config()["url"].is_null() && config()["secret"].is_null());
    world.github.set_webhook("https://broker.example.com/hook", "a secret");
    let secret = json!({ "url": "https://broker.example.com/hook", "content_type": "json",
        "insecure_ssl": "0", "secret": "********" });
    assert_eq!(config(), secret);
    world.github.set_webhook_manner("form", true);
    assert_eq!((&config()["content_type"], &config()["insecure_ssl"]), (&json!("form"), &json!("1")));
    world.github.set_webhook("https://broker.example.com/hook", "");
    assert!(config()["secret"].is_null());
    assert_eq!(world.get("/app/hook/config", &world.token(Value::Null)).status, 401);
}

#[test]
fn a_jwt_is_checked_as_github_checks_it() {
    let world = World::new();
    let now = world.clock.now().timestamp();
    let app = world.github.app_id();
    let refused = |jwt: &str, why: &str| {
        let answer = world.get("/app", jwt);
        assert_eq!(answer.status, 401, "{why}");
        assert!(answer.message().contains(why), "{why}: {}", answer.message());
    };
    refused("nonsense", "could not be decoded");
    refused(&world.jwt_of(json!({ "iss": 7, "iat": now, "exp": now + 60 })), "Integration not found");
    refused(&world.jwt_of(json!({ "iss": app, "iat": now, "exp": now + 660 })), "too far in the future");
    refused(&world.jwt_of(json!({ "iss": app, "iat": now, "exp": now - 1 })), "('exp')");
    refused(&world.jwt_of(json!({ "iss": app, "iat": now + 5, "exp": now + 60 })), "('iat')");
    refused(&world.jwt_of(json!({ "iss": app, "exp": now + 60 })), "('iat')");
    let claims = json!({ "iss": app, "iat": now, "exp": now + 60 });
    let by_secret =
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(b"x"));
    refused(&by_secret.unwrap(), "could not be decoded");
    let mut forged = world.jwt();
    forged.replace_range(forged.len() - 8.., "AAAAAAAA");
    refused(&forged, "could not be decoded");
    let as_text = json!({ "iss": app.to_string(), "iat": now, "exp": now + 600 });
    assert_eq!(world.get("/app", &world.jwt_of(as_text)).status, 200);
}

#[test]
fn a_jwt_dies_of_age() {
    let world = World::new();
    let jwt = world.jwt();
    world.clock.advance(TimeDelta::minutes(9));
    assert_eq!(world.get("/app", &jwt).status, 401);
}

#[test]
fn an_installation_token_is_long_random_and_lives_an_hour() {
    let world = World::new();
    let (token, other) = (world.token(Value::Null), world.token(Value::Null));
    assert!(token.starts_with(&format!("ghs_{}_", world.github.app_id())) && token.contains('.'));
    assert!((500..=520).contains(&token.len()), "{}", token.len());
    assert_ne!(token, other);
    assert_eq!(world.get("/orgs/octo-org/actions/runners", &token).status, 200);
    world.clock.advance(TimeDelta::minutes(61));
    let late = world.get("/orgs/octo-org/actions/runners", &token);
    assert_eq!((late.status, late.message()), (401, "Bad credentials"));
    assert!(world.github.issued().contains(&token));
}

#[test]
fn a_token_holds_what_it_asked_for_and_no_more() {
    let world = World::new();
    let read = world.token(json!({ "permissions": { "organization_self_hosted_runners": "read" } }));
    assert_eq!(world.get("/orgs/octo-org/actions/runners", &read).status, 200);
    let refused = world.jit(&read, "a");
    assert_eq!((refused.status, refused.message()), (403, "Resource not accessible by integration"));
    let accepted = refused.header("x-accepted-github-permissions");
    assert_eq!(accepted, Some("organization_self_hosted_runners=write"));
    let repo = world.get("/repos/octo-org/hello/actions/runners", &read);
    assert_eq!(repo.header("x-accepted-github-permissions"), Some("administration=read"));

    let id = world.github.installation_id("octo-org").unwrap();
    let path = format!("/app/installations/{id}/access_tokens");
    for body in [
        json!({ "permissions": { "secrets": "read" } }),
        json!({ "permissions": { "metadata": "write" } }),
        json!({ "repositories": ["nowhere"] }),
    ] {
        assert_eq!(world.ask("POST", &path, &world.jwt(), body).status, 422);
    }
    world.github.add_repo("octo-org/second");
    let one = world.token(json!({ "repositories": ["hello"] }));
    assert_eq!(world.get("/repos/octo-org/hello/actions/runners", &one).status, 200);
    assert_eq!(world.get("/repos/octo-org/second/actions/runners", &one).status, 403);
}

#[test]
fn a_token_opens_only_what_its_installation_owns() {
    let world = World::new();
    world.github.add_org("rival");
    world.github.add_repo("someone/theirs");
    let token = world.token(Value::Null);
    assert_eq!(world.get("/orgs/rival/actions/runners", &token).status, 403);
    assert_eq!(world.get("/repos/someone/theirs/actions/runners", &token).status, 403);
    assert_eq!(world.get("/orgs/nowhere/actions/runners", &token).status, 404);
    let stranger = world.get("/orgs/octo-org/actions/runners", "ghs_1_a.b.c");
    assert_eq!((stranger.status, stranger.message()), (401, "Bad credentials"));
    assert_eq!(world.get("/orgs/octo-org/actions/runners", &world.jwt()).status, 401);
    assert_eq!(world.get("/app", &token).status, 401);
}

#[test]
fn what_the_owner_takes_back_is_gone_at_once() {
    let world = World::new();
    let token = world.token(Value::Null);
    let runners = "/orgs/octo-org/actions/runners";

    world.github.set_permissions("octo-org", &[("administration", "write")]);
    assert_eq!(world.get(runners, &token).status, 403);
    world.github.set_permissions("octo-org", &[("organization_self_hosted_runners", "write")]);
    assert_eq!(world.get(runners, &token).status, 200);

    world.github.suspend("octo-org");
    let id = world.github.installation_id("octo-org").unwrap();
    let mint = format!("/app/installations/{id}/access_tokens");
    for answer in [world.get(runners, &token), world.ask("POST", &mint, &world.jwt(), Value::Null)] {
        assert_eq!((answer.status, answer.message()), (403, "This installation has been suspended"));
    }
    assert!(world.get("/orgs/octo-org/installation", &world.jwt()).body["suspended_at"].is_string());
    world.github.unsuspend("octo-org");
    assert_eq!(world.get(runners, &token).status, 200);

    world.github.uninstall("octo-org");
    assert_eq!(world.get(runners, &token).status, 401);
    assert_eq!(world.ask("POST", &mint, &world.jwt(), Value::Null).status, 404);
    assert_eq!(world.get("/orgs/octo-org/installation", &world.jwt()).status, 404);
    assert_ne!(world.github.install("octo-org"), Some(id));
    assert_eq!(world.get(runners, &world.token(Value::Null)).status, 200);
}
