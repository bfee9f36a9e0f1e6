//! Sign-in in a browser, from the first page to the last.

mod limits;
mod providers;
mod refused;
mod sessions;
pub mod visitor;

use runner_broker::broker::people::caller::Origin;
use serde_json::{Value, json};

use crate::support::{World, eventually};
use visitor::{ATTEMPT, SESSION, set_cookie};

/// The claims of whoever signed in last, as they are kept.
async fn kept(world: &World) -> Value {
    let rows = world.sql("SELECT to_json(s) FROM sessions s ORDER BY created_at DESC LIMIT 1").await;
    serde_json::from_str(&rows[0]).expect("a session")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_clicks_himself_in_and_lands_where_he_was_going() {
    let world = World::new().await;
    let visitor = world.visitor();
    let first = visitor.get("/?state=active").await;
    assert_eq!((first.status, first.header("location")), (303, "/sign-in?return_to=%2F%3Fstate%3Dactive"));
    let back = visitor
        .arrive(
            "alice",
            json!({ "team": "blue", "email": "alice@example.com", "email_verified": true }),
            "/?state=active",
        )
        .await;
    assert_eq!((back.status, back.header("location")), (303, "/?state=active"), "{}", back.text);
    assert_eq!(back.header("cache-control"), "no-store");
    let page = visitor.get(back.header("location")).await;
    assert!(page.status == 200 && page.text.contains("alice@example.com"), "{}", page.text);
    assert_eq!(visitor.cookie(ATTEMPT), None, "the attempt is over");

    let events = world.log("event_type = 'signed_in'").await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(
        (&events[0]["user_identity"], &events[0]["subject"], &events[0]["event_data"]),
        (&json!("alice@example.com"), &json!("alice"), &json!({ "provider": "dev" }))
    );
    assert_eq!(events[0]["request_ip"], "127.0.0.1");
    let metrics = world.call(reqwest::Method::GET, "/metrics", "", &[], None).await;
    assert!(
        metrics.text.contains(r#"sign_ins_total{provider="dev",outcome="signed_in"}"#),
        "{}",
        metrics.text
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn cookies_are_for_this_host_alone_and_out_of_reach_of_scripts() {
    let world =
        World::with(|config| config.http.public_url = "https://broker.example.com/".parse().unwrap()).await;
    let visitor = world.visitor();
    let begun = visitor.get("/sign-in/dev?return_to=/").await;
    let attempt = set_cookie(&begun, &format!("__Host-{ATTEMPT}"));
    for attribute in ["; HttpOnly", "; SameSite=Lax", "; Secure", "; Path=/", "; Max-Age=600"] {
        assert!(attempt.contains(attribute), "{attempt}");
    }
    assert!(!attempt.contains("Domain"), "{attempt}");
    // The development provider sends people to loopback only, so the rest goes by plain HTTP.
    let world = World::new().await;
    let visitor = world.visitor();
    let session = set_cookie(&visitor.arrive("alice", json!({}), "/").await, SESSION);
    for attribute in ["; HttpOnly", "; SameSite=Lax", "; Path=/"] {
        assert!(session.contains(attribute), "{session}");
    }
    assert!(!session.contains("Domain") && !session.contains("Secure"), "{session}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_signs_in_and_whoever_shows_a_token_of_the_same_issuer_are_one_identity() {
    let world = World::new().await;
    let claims = json!({ "team": "blue", "email": "alice@example.com", "email_verified": false,
        "preferred_username": "Alice\u{202e}" });
    let visitor = world.visitor();
    visitor.sign_in("alice", claims.clone()).await;
    let mut with_sub = claims.clone();
    with_sub["sub"] = json!("alice");
    let token = world.issuer.mint(with_sub);
    let me = world.call(reqwest::Method::GET, "/api/v1/auth/me", &token, &[], None).await;
    let session = kept(&world).await;
    assert_eq!(
        (session["issuer"].as_str(), session["subject"].as_str(), session["display_name"].as_str()),
        (Some(me.str("issuer")), Some("alice"), Some("Alice"))
    );
    world.broker.flush_identities().await.unwrap();
    assert_eq!(world.sql("SELECT display_name FROM identities").await, ["Alice"]);

    let token = visitor.cookie(SESSION).unwrap().into();
    let session = world.broker.session(&token, Origin::default()).await.unwrap().expect("a session");
    assert_eq!(session.caller.teams().collect::<Vec<_>>(), ["blue"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_what_a_provider_hands_out_is_kept() {
    let world = World::new().await;
    let visitor = world.visitor();
    let back = visitor.code_for("alice", json!({ "team": "blue", "groups": [] }), "/").await;
    let attempt = visitor.cookie(ATTEMPT).unwrap();
    visitor.get(&back).await;
    assert!(visitor.is_signed_in().await);
    let query = "SELECT to_json(t)::text FROM sessions t UNION ALL SELECT to_json(t)::text FROM audit_log t
                 UNION ALL SELECT to_json(t)::text FROM sign_in_attempts t";
    let kept = world.sql(query).await.join("\n");
    let mut secrets = world.issuer.issued();
    assert!(secrets.len() >= 3, "a code, an access token, an ID token: {secrets:?}");
    secrets.extend([visitor.cookie(SESSION).unwrap(), attempt]);
    let state = back.split("state=").nth(1).unwrap().split('&').next().unwrap();
    secrets.push(state.to_owned());
    assert!(secrets.iter().all(|secret| !kept.contains(secret.as_str())), "{kept}");
    assert!(!kept.contains("nonce"), "{kept}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_led_elsewhere_by_an_address_that_somebody_sent_him() {
    let world = World::new().await;
    for elsewhere in ["https://evil.example", "//evil.example", "/\\evil.example", "/\t/evil.example"] {
        let visitor = world.visitor();
        let answer = visitor.arrive("alice", json!({ "team": "blue" }), elsewhere).await;
        assert_eq!((answer.status, answer.header("location")), (303, "/"), "{elsewhere}");
    }
    // Nor by a cookie that was planted: it is looked at again.
    let visitor = world.visitor();
    let back = visitor.code_for("alice", json!({ "team": "blue" }), "/").await;
    let secret = visitor.cookie(ATTEMPT).unwrap().split('.').next().unwrap().to_owned();
    // https://evil.example
    visitor.set_cookie(ATTEMPT, &format!("{secret}.aHR0cHM6Ly9ldmlsLmV4YW1wbGU"));
    let answer = visitor.get(&back).await;
    assert_eq!((answer.status, answer.header("location")), (303, "/"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_provider_the_page_says_what_to_set() {
    let world = World::with(|config| config.logins.clear()).await;
    let page = world.visitor().get("/sign-in").await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("LOGIN_PROVIDERS") && page.text.contains("PUBLIC_URL"), "{}", page.text);
    assert_eq!(world.visitor().get("/sign-in/dev").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_the_sign_in_can_be_framed_by_nobody() {
    let world = World::new().await;
    let visitor = world.visitor();
    for path in ["/sign-in", "/sign-in/dev", "/sign-in/nobody", "/sign-in/dev/callback", "/"] {
        let answer = visitor.get(path).await;
        assert_eq!(answer.header("x-frame-options"), "DENY", "{path}");
        let policy = answer.header("content-security-policy");
        assert!(
            policy.contains("frame-ancestors 'none'") && policy.contains("form-action 'self'"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe-inline"), "{policy}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_may_sign_in_and_are_logged_in_bulk() {
    let world = World::new().await;
    for name in ["erin", "frank", "grace"] {
        let visitor = world.visitor();
        visitor.sign_in(name, json!({})).await;
        assert!(visitor.is_signed_in().await);
        let token = visitor.csrf_token().await;
        assert_eq!(visitor.post("/sign-out", &[("csrf_token", &token)], &[]).await.status, 200);
    }
    eventually("the first of each is written", async || {
        world.log("event_type LIKE 'signed_%'").await.len() == 2
    })
    .await;
    world.broker.flush_refusals().await.unwrap();
    let counted = world.log("event_type = 'signed_in' AND event_data ? 'further'").await;
    assert_eq!(counted.len(), 1);
    assert_eq!(counted[0]["event_data"], json!({ "further": 2 }));
    assert_eq!((&counted[0]["success"], &counted[0]["error_code"]), (&json!(true), &Value::Null));
    assert!(world.sql("SELECT 1 FROM identities").await.is_empty());
}
