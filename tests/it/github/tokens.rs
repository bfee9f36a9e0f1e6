//! Who the App is to GitHub: its signature, its installations, its tokens.

use std::time::{Duration, Instant};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::TimeDelta;
use futures_util::future::join_all;
use runner_broker::dev::github::{Action, Canned, Fault, Settings};
use runner_broker::github::{Blame, Error, GitHub};
use runner_broker::model::Method;
use secrecy::SecretString;

use super::{World, config, grant, millis, org, soon};

const MINT: &str = "/access_tokens";
const JIT: &str = "generate-jitconfig";

fn refused_once(status: u16) -> Fault {
    Fault::new("GET", "/actions/runners", Action::Respond(Canned::status(status)))
}

#[tokio::test]
async fn a_token_may_do_only_what_the_call_needs() {
    let world = World::new();
    world.github.runner(&org(), 1, soon()).await.unwrap();
    world.github.runner(&"octo-org/hello".parse().unwrap(), 1, soon()).await.unwrap();
    let tokens: Vec<String> = world.fake.issued();
    assert_eq!(tokens.len(), 2, "one for organisations, one for repositories");
    let status = async |token: &str, path: &str| {
        let url = format!("{}{path}/actions/runners", world.fake.url());
        let ask = reqwest::Client::new().get(url).bearer_auth(token).header("user-agent", "t");
        ask.send().await.unwrap().status().as_u16()
    };
    assert_eq!(status(&tokens[0], "/orgs/octo-org").await, 200);
    assert_eq!(status(&tokens[0], "/repos/octo-org/hello").await, 403);
    assert_eq!(status(&tokens[1], "/orgs/octo-org").await, 403);
    assert_eq!(status(&tokens[1], "/repos/octo-org/hello").await, 200);
}

#[tokio::test]
async fn a_hundred_at_once_share_one_lookup_and_one_token() {
    let world = World::new();
    world.fake.set_latency(Duration::from_millis(50));
    let (target, grant) = (org(), grant(Method::Jit, "octo-org", 1));
    let gets = join_all((0..80).map(|id| world.github.runner(&target, id, soon())));
    let names: Vec<_> = (0..20).map(|i| format!("r-{i}")).collect();
    let posts = join_all(names.iter().map(|name| world.github.generate_jitconfig(&grant, name, soon())));
    let (gets, posts) = tokio::join!(gets, posts);
    assert!(gets.iter().all(Result::is_ok) && posts.iter().all(Result::is_ok));
    assert_eq!((world.asked("GET", "/installation"), world.asked("POST", MINT)), (1, 1));
}

#[tokio::test]
async fn all_who_wait_for_a_token_share_its_failure_and_nothing_was_done() {
    let world = World::new();
    world.fake.set_latency(Duration::from_millis(100));
    world.fail(Fault::new("POST", MINT, Action::Respond(Canned::status(502))));
    let (grant, name) = (grant(Method::Jit, "octo-org", 1), "a");
    let all = join_all((0..20).map(|_| world.github.generate_jitconfig(&grant, name, soon()))).await;
    assert!(all.iter().all(|made| matches!(made, Err(Error::Unavailable { maybe_done: false, .. }))));
    assert_eq!((world.asked("POST", MINT), world.asked("POST", JIT)), (1, 0));
    assert!(world.jit("a").await.is_ok());
}

#[tokio::test]
async fn a_token_that_its_asker_gave_up_on_serves_the_next() {
    let world = World::new();
    world.fail(Fault::new("POST", MINT, Action::Delay { millis: 300 }));
    let lost = world.github.runner(&org(), 1, millis(100)).await.unwrap_err();
    assert!(!lost.lost_answer(), "{lost}");
    world.github.runner(&org(), 1, soon()).await.unwrap();
    assert_eq!(world.asked("POST", MINT), 1);
}

#[tokio::test]
async fn a_token_is_renewed_ahead_of_its_end_while_the_old_one_serves() {
    let world = World::warm().await;
    world.clock.advance(TimeDelta::minutes(53));
    world.github.runner(&org(), 1, soon()).await.unwrap();
    assert_eq!(world.asked("POST", MINT), 0, "six minutes are enough");
    world.clock.advance(TimeDelta::minutes(2));
    world.fail(Fault::new("POST", MINT, Action::Delay { millis: 200 }));
    let begun = Instant::now();
    join_all((0..10).map(|_| async { world.github.runner(&org(), 1, soon()).await.unwrap() })).await;
    assert!(begun.elapsed() < Duration::from_millis(200), "nobody waits for it");
    tokio::time::sleep(Duration::from_millis(400)).await;
    world.clock.advance(TimeDelta::minutes(30));
    world.github.runner(&org(), 1, soon()).await.unwrap();
    assert_eq!(world.asked("POST", MINT), 1);
}

#[tokio::test]
async fn a_renewal_that_fails_harms_nobody_while_the_old_token_serves() {
    let world = World::warm().await;
    world.clock.advance(TimeDelta::minutes(55));
    world.fail(Fault::new("POST", MINT, Action::Respond(Canned::status(500))).always());
    for _ in 0..5 {
        world.github.runner(&org(), 1, soon()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(world.asked("POST", MINT), 1, "not asked at every call");
}

#[tokio::test]
async fn an_ended_token_is_replaced_before_it_is_used() {
    let world = World::warm().await;
    world.clock.advance(TimeDelta::hours(3));
    world.github.runner(&org(), 1, soon()).await.unwrap();
    let calls = world.fake.calls();
    let seen: Vec<_> = calls.iter().map(|call| (call.method.as_str(), call.status)).collect();
    assert_eq!(seen, [("POST", Some(201)), ("GET", Some(404))]);
}

#[tokio::test]
async fn a_refused_old_token_is_dropped_and_the_call_tried_once_more() {
    let world = World::warm().await;
    world.fail(refused_once(401));
    assert!(world.github.runner(&org(), 1, soon()).await.is_ok());
    assert_eq!((world.asked("POST", MINT), world.asked("GET", "/runners/1")), (1, 2));
    // For a JIT runner too: a refused call was not made.
    world.clock.advance(TimeDelta::minutes(1));
    world.fail(Fault::new("POST", JIT, Action::Respond(Canned::status(401))));
    assert!(world.jit("a").await.is_ok());
    assert_eq!((world.asked("POST", MINT), world.asked("POST", JIT)), (2, 2));
}

#[tokio::test]
async fn a_credential_that_stays_refused_is_an_error_of_ours() {
    let world = World::warm().await;
    world.fail(refused_once(401).always());
    let refused = world.github.runner(&org(), 1, millis(1500)).await.unwrap_err();
    assert!(matches!(refused, Error::Unauthorized { .. }), "{refused}");
    assert_eq!(world.asked("POST", MINT), 1);
}

#[tokio::test]
async fn a_fresh_token_is_waited_for_until_all_of_github_knows_it() {
    for status in [401, 403] {
        let world = World::new();
        world.fail(Fault::new("POST", MINT, Action::RefuseFreshToken { status, uses: 2 }));
        assert!(world.jit("a").await.is_ok(), "{status}");
        let statuses: Vec<_> = world
            .fake
            .calls()
            .iter()
            .filter(|call| call.path.contains(JIT))
            .map(|call| call.status)
            .collect();
        assert_eq!(statuses, [Some(status), Some(status), Some(201)]);
        assert_eq!(world.asked("POST", MINT), 1);
    }
}

#[tokio::test]
async fn a_configured_installation_is_not_looked_up() {
    let probe = World::new();
    let id = probe.fake.installation_id("octo-org");
    let world = World::with(Settings::default(), |config| config.installation_id = id);
    world.jit("a").await.unwrap();
    assert_eq!(world.asked("GET", "/installation"), 0);
    world.fake.uninstall("octo-org");
    world.clock.advance(TimeDelta::hours(2));
    let gone = world.jit("b").await.unwrap_err();
    assert!(matches!(&gone, Error::NotFound { what } if what.contains("installation")), "{gone}");
    assert_eq!(world.asked("GET", "/installation"), 0);
}

#[tokio::test]
async fn where_the_app_is_not_installed_is_remembered_for_a_minute() {
    let world = World::new();
    for target in ["other-org", "octo-org/absent"] {
        let target = target.parse().unwrap();
        for _ in 0..3 {
            let absent = world.github.runner(&target, 1, soon()).await.unwrap_err();
            assert!(matches!(absent, Error::NotFound { .. }), "never `None`: {absent}");
        }
    }
    assert_eq!(world.asked("GET", "/installation"), 2);
    world.fake.add_org("other-org");
    world.clock.advance(TimeDelta::seconds(61));
    assert!(world.github.runner(&"other-org".parse().unwrap(), 1, soon()).await.is_ok());
}

#[tokio::test]
async fn an_owner_is_looked_up_once_for_all_his_targets() {
    let world = World::new();
    world.fake.add_repo("octo-org/second");
    for target in ["octo-org/hello", "octo-org/second", "octo-org"] {
        world.github.runner(&target.parse().unwrap(), 1, soon()).await.unwrap();
    }
    assert_eq!(world.asked("GET", "/installation"), 1);
    let id = world.github.installation_id(&org(), soon()).await.unwrap();
    assert_eq!(Some(id), world.fake.installation_id("octo-org"));
}

#[tokio::test]
async fn an_app_that_was_installed_anew_is_found_again() {
    let world = World::warm().await;
    world.fake.uninstall("octo-org");
    world.fake.install("octo-org").unwrap();
    let (grant, names) = (grant(Method::Jit, "octo-org", 1), ["a", "b", "c"]);
    let all = join_all(names.iter().map(|name| world.github.generate_jitconfig(&grant, name, soon()))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
}

#[tokio::test]
async fn new_permissions_are_used_once_the_tokens_are_forgotten() {
    let world = World::warm().await;
    world.github.forget_tokens("Octo-Org");
    world.github.runner(&org(), 1, soon()).await.unwrap();
    assert_eq!(world.asked("POST", MINT), 1);
}

#[tokio::test]
async fn a_permission_that_was_never_granted_is_named() {
    let world = World::new();
    world.fake.set_permissions("octo-org", &[("administration", "write")]);
    let Err(Error::PermissionMissing { needed, .. }) = world.jit("a").await else { panic!() };
    assert_eq!(needed, "organization_self_hosted_runners=write");
    assert!(world.github.runner(&"octo-org/hello".parse().unwrap(), 1, soon()).await.is_ok());
}

#[tokio::test]
async fn a_refused_signature_says_what_may_be_wrong() {
    let refused = async |world: &World| match world.github.runner(&org(), 1, soon()).await {
        Err(Error::Unauthorized { why, blame }) => (why, blame),
        other => panic!("{other:?}"),
    };
    let world = World::with(Settings::default(), |config| config.app_id = 7);
    let (why, blame) = refused(&world).await;
    assert!(why.contains("GitHub has no App 7") && blame == Blame::AppId, "{why}");

    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let other = AsDer::<Pkcs8V1Der>::as_der(&pair).unwrap();
    let world =
        World::with(Settings::default(), |config| config.private_key = pem("PRIVATE KEY", other.as_ref()));
    let (why, blame) = refused(&world).await;
    assert!(why.contains("the private key is not one of App 424242's") && blame == Blame::Key, "{why}");

    for (ours, expected) in [(700, "700 s ahead of"), (-700, "700 s behind")] {
        let world = World::new();
        let clock = runner_broker::clock::Clock::default();
        clock.advance(TimeDelta::seconds(ours));
        let github = GitHub::new(&config(&world.fake), clock.clone()).unwrap();
        let world = World { github, clock, fake: world.fake };
        let (said, blame) = refused(&world).await;
        assert_eq!(blame, Blame::Clock);
        assert!(said.contains(expected) || said.contains(&expected.replace("700", "699")), "{said}");
    }
}

fn pem(kind: &str, der: &[u8]) -> SecretString {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", lines.join("\n")).into()
}

#[tokio::test]
async fn a_key_may_be_pkcs1_as_github_hands_it_out() {
    let probe = World::new();
    let body: String = probe.fake.private_key_pem().lines().filter(|line| !line.starts_with('-')).collect();
    let pkcs8 = BASE64_STANDARD.decode(body).unwrap();
    // The envelope around a 2048-bit key's PKCS#1 has 26 bytes.
    let pkcs1 = pem("RSA PRIVATE KEY", &pkcs8[26..]);
    let world = World::with(Settings::default(), |config| config.private_key = pkcs1);
    assert!(world.jit("a").await.is_ok());
}

#[tokio::test]
async fn a_key_that_is_none_is_refused_at_start_with_the_reason() {
    let world = World::new();
    let refusal = |pem: &str| {
        let config = runner_broker::config::GitHub { private_key: pem.into(), ..config(&world.fake) };
        match GitHub::new(&config, world.clock.clone()) {
            Err(Error::BadKey { why }) => why,
            other => panic!("{other:?}"),
        }
    };
    let good = world.fake.private_key_pem();
    assert!(refusal("").contains("no PEM"));
    assert!(refusal(&good.replace("PRIVATE", "PUBLIC")).contains("public key"));
    assert!(refusal(&good.replace("PRIVATE", "ENCRYPTED PRIVATE")).contains("encrypted"));
    assert!(refusal(&good.replace("PRIVATE", "EC PRIVATE")).contains("elliptic-curve"));
    assert!(refusal(&good.replace("PRIVATE", "OPENSSH PRIVATE")).contains("OpenSSH"));
    let cut: String =
        good.lines().take(5).chain(["-----END PRIVATE KEY-----"]).collect::<Vec<_>>().join("\n");
    assert!(refusal(&cut).contains("cut short"), "{}", refusal(&cut));
}
