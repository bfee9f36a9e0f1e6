//! The console's page on the system, and the checks behind it.

use runner_broker::broker::checks::{Area, Check, Code, Health, System};
use runner_broker::config::Enforcement;
use secrecy::ExposeSecret;

use super::jobs::roles;
use crate::support::{ORG, World, eventually};

async fn checked(world: &World) -> System {
    world.broker.system(&world.verifier.issuers()).await
}

fn only(system: &System, area: Area, what: &str) -> Check {
    let mut found = system.of(area).filter(|check| check.what == what);
    found.next().unwrap_or_else(|| panic!("{what}: {:#?}", system.checks)).clone()
}

#[actix_web::test]
async fn administrators_and_auditors_see_everything_but_secrets_and_others_whether_it_works() {
    let world = World::new().await;
    roles(&world).await;
    world.sweep().await;
    for who in ["ann", "aud"] {
        let page = world.signed_in(who).await.get("/system").await;
        assert_eq!(page.status, 200, "{}", page.text);
        for text in [
            "GITHUB_WEBHOOK_SECRET",
            "JIT_START_DEADLINE_SECONDS",
            "runner-broker (dev)",
            "Sweep of octo-org",
        ] {
            assert!(page.text.contains(text), "{text}: {}", page.text);
        }
        let key = world.config.github.private_key.expose_secret().lines().nth(1).unwrap().to_owned();
        for secret in [crate::support::WEBHOOK_SECRET, world.database_url(), &key] {
            assert!(!page.text.contains(secret), "{secret}");
        }
    }
    let page = world.signed_in("blue").await.get("/system").await;
    assert_eq!(page.status, 200, "{}", page.text);
    assert!(page.text.contains("Postgres") && page.text.contains(env!("CARGO_PKG_VERSION")), "{}", page.text);
    for text in ["GITHUB_", "octo-org", "installation", world.issuer.url()] {
        assert!(!page.text.contains(text), "{text}: {}", page.text);
    }
}

#[actix_web::test]
async fn a_target_says_exactly_which_permission_is_missing() {
    let world = World::with(|config| config.broker.label_policy_enforcement = Enforcement::Enforce).await;
    let target = async |world: &World| {
        world.pass(61);
        only(&checked(world).await, Area::Targets, ORG)
    };
    assert_eq!(target(&world).await.state, Health::Ok);
    world.github.set_permissions(ORG, &[("organization_self_hosted_runners", "read"), ("actions", "write")]);
    let check = target(&world).await;
    assert_eq!(check.state, Health::Fault);
    assert!(check.detail.ends_with("lacks organization_self_hosted_runners=write"), "{check:?}");
    world.github.set_permissions(ORG, &[("organization_self_hosted_runners", "write"), ("actions", "read")]);
    let check = target(&world).await;
    assert_eq!(check.state, Health::Warning);
    assert!(check.detail.ends_with("lacks actions=write") && check.advice.is_some(), "{check:?}");
    world.github.uninstall(ORG);
    let check = target(&world).await;
    assert!(check.state == Health::Fault && check.detail.contains("not installed"), "{check:?}");
}

#[actix_web::test]
async fn the_page_looks_at_what_doctor_looks_at() {
    let world = World::new().await;
    world.github.set_webhook("https://elsewhere.example.com/hook", crate::support::WEBHOOK_SECRET);
    world.github.leave(ORG, "core", 10);
    world.issuer.set_ahead(300);
    world.pass(301);
    world.verifier.refresh().await;
    let system = checked(&world).await;
    let code = |area, what: &str| only(&system, area, what).code;
    assert_eq!(code(Area::Database, "Privileges"), Some(Code::PrivilegesExcess));
    assert_eq!(code(Area::Database, "Schema"), None);
    let clock = format!("Clock of {}", world.issuer.url());
    assert_eq!(code(Area::Issuers, &clock), Some(Code::IssuerClock));
    assert_eq!(code(Area::GitHub, "Clock"), None);
    assert_eq!(code(Area::Webhooks, "Address"), Some(Code::WebhookUrl));
    assert_eq!(code(Area::Certificate, "Certificate"), None);
    let budget = system.of(Area::Budget).next().expect("an installation");
    assert_eq!(budget.code, Some(Code::BudgetUsedUp), "{budget:?}");
    // None of it costs the hour of an installation.
    let of_app = |path: &str| path.starts_with("/app") || path.ends_with("/installation");
    for call in world.github.calls() {
        assert!(of_app(&call.path) || call.path == "/rate_limit", "{call:?}");
    }
}

#[actix_web::test]
async fn github_is_asked_once_a_minute_however_often_the_page_is_loaded() {
    let world = World::new().await;
    let asked = || world.github.calls().iter().filter(|call| call.path == "/app").count();
    for _ in 0..3 {
        assert_eq!(only(&checked(&world).await, Area::GitHub, "The App").state, Health::Ok);
    }
    assert_eq!(asked(), 1);
    world.pass(61);
    checked(&world).await;
    assert_eq!(asked(), 2);
}

#[actix_web::test]
async fn a_github_that_hangs_does_not_hang_the_page() {
    let world = World::new().await;
    world.github.set_latency(std::time::Duration::from_secs(30));
    let begun = std::time::Instant::now();
    let system = checked(&world).await;
    assert!(begun.elapsed() < std::time::Duration::from_millis(2_500), "{:?}", begun.elapsed());
    let check = only(&system, Area::GitHub, "The App");
    assert!(check.state == Health::Fault && check.detail.contains("unavailable"), "{check:?}");
}

#[actix_web::test]
async fn what_is_wrong_inside_is_a_check_with_advice() {
    let world = World::new().await;
    let system = checked(&world).await;
    let leader = only(&system, Area::Sweep, "Leader");
    assert!(leader.state == Health::Fault && leader.advice.is_some(), "{leader:?}");
    assert_eq!(only(&system, Area::AuditLog, "Signature").state, Health::Warning);
    assert_eq!(only(&system, Area::Webhooks, "Deliveries").state, Health::Warning);
    assert_eq!(only(&system, Area::Issuers, world.issuer.url()).state, Health::Ok);
    world.sweep().await;
    world.happen("workflow_job", &crate::webhook::job(1, &["self-hosted"])).await;
    let system = checked(&world).await;
    assert_eq!(only(&system, Area::Sweep, "Leader").state, Health::Ok);
    assert_eq!(only(&system, Area::Sweep, "Sweep of octo-org").state, Health::Ok);
    let last = only(&system, Area::Webhooks, "Deliveries");
    assert!(last.state == Health::Ok && last.detail.contains("workflow_job"), "{last:?}");
    world.pass(600);
    eventually("an old list is told", async || {
        only(&checked(&world).await, Area::Sweep, "Sweep of octo-org").state == Health::Fault
    })
    .await;
}

#[actix_web::test]
async fn every_variable_is_shown_and_no_secret() {
    let world = World::new().await;
    let shown = world.config.shown();
    let elsewhere: Vec<_> = shown
        .iter()
        .filter(|setting| setting.shown == runner_broker::config::Shown::Elsewhere)
        .map(|setting| setting.name)
        .filter(|name| !name.starts_with("LOG_"))
        .collect();
    assert_eq!(elsewhere, Vec::<&str>::new());
    let text = format!("{shown:?}");
    assert!(!text.contains(crate::support::WEBHOOK_SECRET) && !text.contains(world.database_url()), "{text}");
}
