//! Every way in which a sign-in fails is a page for people, and signs nobody in.

use runner_broker::dev::issuer::{DISCOVERY, Fault, KEYS, TOKEN};
use serde_json::{Value, json};

use super::visitor::{ATTEMPT, SESSION, Visitor};
use crate::people::identities::{id_of, set};
use crate::support::{Answer, World, eventually, team};

/// That this is a page, of this status and code, and that nobody is signed in.
async fn refused(visitor: &Visitor, answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{}", answer.text);
    assert!(answer.header("content-type").starts_with("text/html"), "{:?}", answer.headers);
    assert!(answer.text.contains(&format!("<code>{code}</code>")), "{}", answer.text);
    assert!(answer.text.contains("Back to sign-in"), "{}", answer.text);
    assert_eq!(visitor.cookie(SESSION), None);
    assert!(!visitor.is_signed_in().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_that_this_browser_did_not_begin_signs_nobody_in() {
    let world = World::new().await;
    let blue = json!({ "team": "blue" });

    // Without its cookie, as when it is too old.
    let visitor = world.visitor();
    let back = visitor.code_for("alice", blue.clone(), "/").await;
    visitor.forget(ATTEMPT);
    refused(&visitor, &visitor.get(&back).await, 400, "SIGN_IN_NOT_BEGUN").await;

    // Login CSRF: an attacker's own callback in his victim's browser, which has begun one of its own.
    let (attacker, victim) = (world.visitor(), world.visitor());
    let back = attacker.code_for("mallory", blue.clone(), "/").await;
    victim.begin("dev", "/").await;
    refused(&victim, &victim.get(&back).await, 400, "SIGN_IN_NOT_BEGUN").await;
    // And with the victim's own state but the attacker's code: PKCE.
    let own = victim.code_for("alice", blue.clone(), "/").await;
    let code_of = |url: &str| url.split("code=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    let mixed = own.replace(&code_of(&own), &code_of(&back));
    refused(&victim, &victim.get(&mixed).await, 403, "SIGN_IN_REFUSED").await;

    // Another state, none, two; a state of this attempt at another provider.
    for change in ["state=", "state=x&other=", "nothing=", "state=x&state="] {
        let visitor = world.visitor();
        let back = visitor.code_for("alice", blue.clone(), "/").await.replace("state=", change);
        let back = if change == "state=" { back + "x" } else { back };
        refused(&visitor, &visitor.get(&back).await, 400, "SIGN_IN_NOT_BEGUN").await;
    }
    let visitor = world.visitor();
    let back = visitor.code_for("alice", blue, "/").await.replace("/sign-in/dev/", "/sign-in/github/");
    refused(&visitor, &visitor.get(&back).await, 400, "SIGN_IN_NOT_BEGUN").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_good_once_and_for_a_minute() {
    let world = World::new().await;
    let visitor = world.visitor();
    let back = visitor.code_for("alice", json!({ "team": "blue" }), "/").await;
    let attempt = visitor.cookie(ATTEMPT).unwrap();
    assert_eq!(visitor.get(&back).await.status, 303);
    let thief = world.visitor();
    thief.set_cookie(ATTEMPT, &attempt);
    refused(&thief, &thief.get(&back).await, 403, "SIGN_IN_REFUSED").await;
    assert!(visitor.is_signed_in().await);

    let slow = world.visitor();
    let back = slow.code_for("alice", json!({ "team": "blue" }), "/").await;
    world.pass(61);
    refused(&slow, &slow.get(&back).await, 403, "SIGN_IN_REFUSED").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_token_that_is_not_for_us_now_and_about_somebody_signs_nobody_in() {
    let world = World::new().await;
    let past = world.clock.now().timestamp() - 61;
    let spoiled = [
        (json!({ "nonce": "another" }), "nonce"),
        (json!({ "nonce": null }), "nonce"),
        (json!({ "aud": "runner-broker" }), "aud"),
        (json!({ "aud": null }), "aud"),
        (json!({ "aud": ["runner-broker-console", "another"] }), "azp"),
        (json!({ "azp": "another" }), "azp"),
        (json!({ "iss": "https://evil.example" }), "issuer"),
        (json!({ "exp": past }), "expired"),
        (json!({ "exp": null }), "exp"),
        (json!({ "iat": past + 3600 }), "iat"),
        (json!({ "sub": null }), "sub"),
        (json!({ "sub": "a\u{0}b" }), "sub"),
    ];
    for (claims, why) in spoiled {
        world.issuer.spoil_id_tokens(claims.clone());
        let visitor = world.visitor().with_header("x-forwarded-for", "192.0.2.1");
        let answer = visitor.arrive("alice", json!({ "team": "blue" }), "/").await;
        refused(&visitor, &answer, 403, "SIGN_IN_REFUSED").await;
        assert!(answer.text.contains(why), "{claims}: {}", answer.text);
    }
    world.issuer.spoil_id_tokens(json!({}));
    world.issuer.forge_id_tokens(true);
    let visitor = world.visitor();
    let answer = visitor.arrive("alice", json!({ "team": "blue" }), "/").await;
    refused(&visitor, &answer, 403, "SIGN_IN_REFUSED").await;
    assert!(answer.text.contains("signature is wrong"), "{}", answer.text);
    assert!(world.sql("SELECT 1 FROM sessions").await.is_empty());

    // Anybody can do this: it is counted.
    world.broker.flush_refusals().await.unwrap();
    eventually("both are written", async || world.log("event_type = 'sign_in_refused'").await.len() == 2)
        .await;
    let events = world.log("event_type = 'sign_in_refused'").await;
    let further: Vec<&Value> = events.iter().map(|event| &event["event_data"]["further"]).collect();
    assert!(further.contains(&&json!(12)) && further.contains(&&Value::Null), "{events:?}");
    assert!(events.iter().all(|event| event["error_code"] == "SIGN_IN_REFUSED"), "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_provider_says_instead_of_a_code_is_told() {
    let world = World::new().await;
    let visitor = world.visitor();
    let authorize = visitor.begin("dev", "/?a=b").await;
    let back = visitor.choose(&authorize, &[("deny", "1"), ("sub", "")]).await;
    let answer = visitor.get(&back).await;
    refused(&visitor, &answer, 403, "SIGN_IN_REFUSED").await;
    assert!(answer.text.contains("access_denied") && answer.text.contains("%2F%3Fa%3Db"), "{}", answer.text);

    for (said, status, code) in [
        ("temporarily_unavailable", 503, "ISSUER_UNAVAILABLE"),
        ("<script>alert(1)</script>", 403, "SIGN_IN_REFUSED"),
    ] {
        let visitor = world.visitor();
        let back = visitor.code_for("alice", json!({}), "/").await;
        let said: String = url::form_urlencoded::byte_serialize(said.as_bytes()).collect();
        let back = back.replace("code=", &format!("error={said}&error_description=x&code="));
        let answer = visitor.get(&back).await;
        assert!(!answer.text.contains("alert(1)"), "{}", answer.text);
        refused(&visitor, &answer, status, code).await;
    }
    // Without a state of ours it is not even believed.
    let visitor = world.visitor();
    let answer = visitor.get("/sign-in/dev/callback?error=access_denied").await;
    refused(&visitor, &answer, 400, "SIGN_IN_NOT_BEGUN").await;
    // Nor is an answer that another provider says it gave (RFC 9207).
    let visitor = world.visitor();
    let back = visitor.code_for("alice", json!({}), "/").await;
    let iss = back.split('&').find(|part| part.contains("iss=")).unwrap().to_owned();
    let answer = visitor.get(&back.replace(&iss, "iss=https://evil.example")).await;
    refused(&visitor, &answer, 403, "SIGN_IN_REFUSED").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_down_slow_or_talks_nonsense_is_a_page_and_no_crash() {
    let world = World::new().await;
    let visitor = world.visitor();
    world.issuer.fail(DISCOVERY, Fault::Status(500));
    let answer = visitor.get("/sign-in/dev?return_to=/").await;
    assert_eq!(answer.status, 503, "{}", answer.text);
    assert!(
        !answer.header("retry-after").is_empty() && answer.text.contains("Back to sign-in"),
        "{}",
        answer.text
    );
    let asked = world.issuer.calls(DISCOVERY);
    visitor.get("/sign-in/dev?return_to=/").await;
    assert_eq!(world.issuer.calls(DISCOVERY), asked, "not again at once");
    world.issuer.fail(DISCOVERY, Fault::Hang);
    world.pass(11);
    let answer = visitor.get("/sign-in/dev?return_to=/").await;
    assert_eq!(answer.status, 503, "{}", answer.text);
    let elsewhere = json!({ "issuer": "https://evil.example", "authorization_endpoint": "https://evil.example",
        "token_endpoint": "https://evil.example" });
    world.issuer.fail(DISCOVERY, Fault::Body(elsewhere.to_string()));
    world.pass(11);
    assert_eq!(visitor.get("/sign-in/dev?return_to=/").await.status, 503);
    world.issuer.fail(DISCOVERY, None);
    world.pass(11);

    for (path, fault, status) in [
        (TOKEN, Fault::Status(500), 503),
        (TOKEN, Fault::Redirect("http://127.0.0.1:1/".into()), 503),
        (TOKEN, Fault::Endless, 503),
        (TOKEN, Fault::Body("<html>".into()), 403),
        (TOKEN, Fault::Body(r#"{"access_token": "x", "token_type": "bearer"}"#.into()), 403),
        (
            TOKEN,
            Fault::Body(r#"{"access_token": "x", "token_type": "bearer", "id_token": "a.b.c"}"#.into()),
            403,
        ),
        (KEYS, Fault::Status(500), 503),
    ] {
        let visitor = world.visitor();
        let back = visitor.code_for("alice", json!({}), "/").await;
        world.issuer.fail(path, fault.clone());
        let answer = visitor.get(&back).await;
        assert_eq!(answer.status, status, "{fault:?}: {}", answer.text);
        assert!(answer.text.contains("Back to sign-in") && !visitor.is_signed_in().await, "{fault:?}");
        world.issuer.fail(path, None);
    }
    // The keys' issuer is not asked again sooner than this.
    world.pass(11);
    visitor.sign_in("alice", json!({})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_the_provider_does_not_know_is_told_to_whoever_runs_this() {
    let world = World::with(|config| {
        config.logins.iter_mut().for_each(|login| login.client_secret = Some("wrong".into()));
    })
    .await;
    let visitor = world.visitor();
    let answer = visitor.arrive("alice", json!({}), "/").await;
    refused(&visitor, &answer, 502, "SIGN_IN_UNFIT").await;
    assert!(answer.text.contains("LOGIN_PROVIDERS"), "{}", answer.text);
    world
        .github
        .add_person(runner_broker::dev::github::Person { login: "mona".into(), ..Default::default() });
    let authorize = visitor.begin("github", "/").await;
    let back = visitor.choose(&authorize, &[("login", "mona")]).await;
    refused(&visitor, &visitor.get(&back).await, 502, "SIGN_IN_UNFIT").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_deactivated_is_out_at_once_and_does_not_come_back_in() {
    let world = World::new().await;
    let admin = "[[admin]]\nissuer = \"ISSUER\"\nclaims = { team = \"boss\" }\n";
    world.policy(&(team("blue", "") + admin)).await;
    let (visitor, claims) = (world.visitor(), json!({ "team": "blue" }));
    visitor.sign_in("blue-user", claims.clone()).await;
    assert!(visitor.is_signed_in().await);
    world.broker.flush_identities().await.unwrap();
    assert!(!id_of(&world, "blue").await.is_empty());
    assert_eq!(set(&world, "deactivate", "blue", "boss").await.status, 200);
    assert!(world.sql("SELECT 1 FROM sessions").await.is_empty());
    assert!(!visitor.is_signed_in().await);

    let answer = visitor.arrive("blue-user", claims.clone(), "/").await;
    assert_eq!(answer.status, 403);
    assert!(answer.text.contains("deactivated by an administrator"), "{}", answer.text);
    assert!(world.sql("SELECT 1 FROM sessions").await.is_empty());

    assert_eq!(set(&world, "activate", "blue", "boss").await.status, 200);
    assert!(!visitor.is_signed_in().await, "what ended stays ended");
    visitor.sign_in("blue-user", claims).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_has_not_heard_of_a_deactivation_makes_no_session_either() {
    let world = World::new().await;
    world.visitor().sign_in("blue-user", json!({ "team": "blue" })).await;
    world.broker.flush_identities().await.unwrap();
    world
        .sql("UPDATE identities SET active = false, deactivated_at = now(), comment = 'by another replica'")
        .await;
    let visitor = world.visitor();
    let answer = visitor.arrive("blue-user", json!({ "team": "blue" }), "/").await;
    assert_eq!((answer.status, visitor.cookie(SESSION)), (403, None), "{}", answer.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_sites_page_cannot_begin_a_sign_in() {
    let world = World::new().await;
    for site in ["cross-site", "same-site"] {
        let visitor = world.visitor().with_header("sec-fetch-site", site);
        let answer = visitor.get("/sign-in/dev?return_to=/%3Fa").await;
        assert_eq!((answer.status, answer.header("location")), (303, "/sign-in?return_to=%2F%3Fa"), "{site}");
        assert_eq!(visitor.cookie(ATTEMPT), None);
    }
}
