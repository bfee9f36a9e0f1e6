//! GitHub's budget: never spent to the last, waited for by nobody, told to everybody.

use chrono::TimeDelta;
use futures_util::future::join_all;
use metrics_exporter_prometheus::PrometheusBuilder;
use runner_broker::dev::github::{Action, Fault, Limits, Settings};
use runner_broker::github::{Error, Removal};
use runner_broker::model::Method;

use super::{World, grant, org, soon};

fn limited(limits: Limits) -> World {
    World::with(Settings { limits: Some(limits), ..Settings::default() }, |_| ())
}

fn few(core: u64, registration: u64) -> Limits {
    Limits { core, registration, points: 1_000_000, concurrent: 100 }
}

#[tokio::test]
async fn the_last_of_the_budget_is_kept_for_deletes() {
    let world = limited(few(100, 10_000));
    let id = world.fake.plant("octo-org", "a", &["x"], true).unwrap();
    let all = join_all((0..200).map(|id| {
        let github = world.github.clone();
        async move { github.runner(&org(), 9_000_000 + id, soon()).await }
    }))
    .await;
    let refused = all.iter().filter(|read| matches!(read, Err(Error::RateLimited { .. }))).count();
    let read = all.iter().filter(|read| matches!(read, Ok(None))).count();
    assert_eq!((read + refused, world.asked("GET", "/actions/runners/")), (200, read));
    assert!((85..=90).contains(&read), "a tenth of so small a budget stays: {read}");
    let seen = world.fake.calls().len();
    let Err(Error::RateLimited { until }) = world.github.runner(&org(), id, soon()).await else { panic!() };
    assert_eq!(world.fake.calls().len(), seen, "GitHub is not asked");
    assert_eq!(world.github.delete_runner(&org(), id, soon()).await.unwrap(), Removal::Removed);
    assert!(world.jit("b").await.is_ok(), "JIT runners have a budget of their own");

    let wait = until - world.clock.now();
    assert!(wait > TimeDelta::minutes(55) && wait <= TimeDelta::hours(1));
    world.clock.advance(wait + TimeDelta::seconds(2));
    assert!(world.github.runner(&org(), id, soon()).await.is_ok(), "a new hour");
}

#[tokio::test]
async fn a_budget_that_is_all_gone_is_gone_for_deletes_too() {
    let world = World::warm().await;
    world.fail(Fault::new("GET", "/actions/runners/", Action::RateLimited { reset_seconds: 600 }));
    assert!(matches!(world.github.runner(&org(), 1, soon()).await, Err(Error::RateLimited { .. })));
    assert!(matches!(world.github.delete_runner(&org(), 1, soon()).await, Err(Error::RateLimited { .. })));
    assert_eq!(world.fake.calls().len(), 1);
    assert!(world.jit("a").await.is_ok());
}

#[tokio::test]
async fn an_exhausted_registration_budget_stops_provisions_alone() {
    let world = limited(few(5_000, 20));
    let grant = grant(Method::Jit, "octo-org", 1);
    let mut made = 0;
    let refused = loop {
        match world.github.generate_jitconfig(&grant, &format!("r-{made}"), soon()).await {
            Ok(_) => made += 1,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, Error::RateLimited { .. }), "{refused:?}");
    assert_eq!((made, world.fake.runners("octo-org").len()), (18, 18));
    assert!(world.github.runner_named(&org(), "r-0", soon()).await.unwrap().is_some());
}

#[tokio::test]
async fn after_a_secondary_limit_nothing_but_deletes_is_sent() {
    let world = World::warm().await;
    world.fake.add_org("other-org");
    world.fail(Fault::new("POST", "generate-jitconfig", Action::SecondaryLimit { retry_after_seconds: 90 }));
    assert!(matches!(world.jit("a").await, Err(Error::RateLimited { .. })));
    world.fake.clear_calls();
    assert!(matches!(world.jit("a").await, Err(Error::RateLimited { .. })));
    assert!(matches!(world.github.runner(&org(), 1, soon()).await, Err(Error::RateLimited { .. })));
    assert!(world.fake.calls().is_empty());
    assert_eq!(world.github.delete_runner(&org(), 1, soon()).await.unwrap(), Removal::NotThere);
    assert!(world.github.runner(&"other-org".parse().unwrap(), 1, soon()).await.is_ok(), "another's limit");
    assert!(world.github.budgets().iter().any(|budget| budget.paused_until.is_some()));
    world.clock.advance(TimeDelta::seconds(91));
    assert!(world.jit("a").await.is_ok());
}

#[tokio::test]
async fn no_more_than_eighty_calls_are_under_way() {
    let world = limited(Limits { concurrent: 80, ..few(5_000, 10_000) });
    world.github.runner(&org(), 1, soon()).await.unwrap();
    world.fake.set_latency(std::time::Duration::from_millis(30));
    let target = org();
    let all = join_all((0..400).map(|id| world.github.runner(&target, id, soon()))).await;
    assert!(all.iter().all(Result::is_ok));
}

#[tokio::test]
async fn calls_and_budgets_are_measured() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _here = metrics::set_default_local_recorder(&recorder);
    let world = World::new();
    world.jit("a").await.unwrap();
    world.jit("a").await.unwrap_err();
    let text = recorder.handle().render();
    let id = world.fake.installation_id("octo-org").unwrap();
    for line in [
        "github_requests_total{operation=\"generate_jitconfig\",status=\"201\"} 1".to_owned(),
        "github_requests_total{operation=\"generate_jitconfig\",status=\"409\"} 1".to_owned(),
        "github_requests_total{operation=\"installation_token\",status=\"201\"} 1".to_owned(),
        "github_request_duration_seconds_count{operation=\"generate_jitconfig\"} 2".to_owned(),
        format!(
            "github_rate_limit_remaining{{installation=\"{id}\",resource=\"actions_runner_registration\"}} "
        ),
        format!("github_rate_limit_limit{{installation=\"{id}\",resource=\"actions_runner_registration\"}} "),
        "github_rate_limit_reset_timestamp_seconds{installation=\"app\",resource=\"core\"} ".to_owned(),
    ] {
        assert!(text.contains(&line), "{line} is not in\n{text}");
    }
}
