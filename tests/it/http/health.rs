//! What load balancers ask.

use chrono::{DateTime, Utc};
use reqwest::Method;
use runner_broker::dev::issuer::{DISCOVERY, Fault, Issuer, Settings};
use runner_broker::dev::postgres::{Options, Postgres};
use runner_broker::store::Store;

use crate::support::{AUDIENCE, Answer, World, eventually};

async fn get(world: &World, path: &str) -> Answer {
    world.call(Method::GET, path, "", &[], None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_serves_is_alive() {
    let world = World::new().await;
    for path in ["/health", "/health/live"] {
        let answer = get(&world, path).await;
        assert_eq!((answer.status, answer.str("status")), (200, "ok"));
        assert_eq!(answer.str("version"), env!("CARGO_PKG_VERSION"));
        assert!(answer.str("timestamp").parse::<DateTime<Utc>>().is_ok());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_can_do_its_work_is_ready() {
    let world = World::new().await;
    let answer = get(&world, "/health/ready").await;
    assert_eq!((answer.status, answer.str("status")), (200, "ok"), "{}", answer.text);
    assert_eq!((answer.str("database"), answer.str("issuers")), ("ok", "ok"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_issuers_keys_it_is_alive_but_not_ready() {
    let other = World::new().await;
    let settings = Settings { port: 0, audience: AUDIENCE.into(), clock: other.clock.clone() };
    let down = Issuer::start(settings).unwrap();
    down.fail(DISCOVERY, Fault::Status(503));
    let url = down.url().to_owned();
    let world = World::with(|config| config.oidc.issuers[0].issuer = url).await;
    let answer = get(&world, "/health/ready").await;
    assert_eq!((answer.status, answer.str("status")), (503, "unavailable"));
    assert_eq!((answer.str("database"), answer.str("issuers")), ("ok", "unavailable"));
    assert_eq!(get(&world, "/health/live").await.status, 200);

    down.fail(DISCOVERY, None);
    world.pass(11);
    world.verifier.refresh().await;
    assert_eq!(get(&world, "/health/ready").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_postgres_is_away_it_is_alive_but_not_ready() {
    let postgres = Postgres::start(&Options::temporary()).unwrap();
    let url = postgres.url("postgres");
    Store::new(&url.as_str().into(), 1).unwrap().migrate().await.unwrap();
    let world = World::with(|config| config.database_url = url.into()).await;
    assert_eq!(get(&world, "/health/ready").await.status, 200);

    // Not killed: a temporary one would lose what it had not written yet.
    postgres.stop();
    let answer = get(&world, "/health/ready").await;
    assert_eq!((answer.status, answer.str("database"), answer.str("issuers")), (503, "unavailable", "ok"));
    assert_eq!(get(&world, "/health").await.status, 200);
    let refused = world.jit("b1").await;
    assert_eq!(refused.refusal(), (503, "DATABASE_UNAVAILABLE"));
    assert!(refused.header("retry-after").parse::<u64>().is_ok());
    assert!(world.github.calls().is_empty());

    postgres.restart().unwrap();
    eventually("ready again", async || get(&world, "/health/ready").await.status == 200).await;
    assert_eq!(world.jit("b1").await.status, 201);
}
