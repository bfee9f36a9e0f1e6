//! Pages of the audit log beside plain SQL: the same events in the same order, whatever the filter.

use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use runner_broker::store::audit::{self, Filter, Scope};

use crate::support::World;

/// More rows than one page looks at, so that pages end early.
const ROWS: i32 = 12_000;

fn begin() -> DateTime<Utc> {
    DateTime::from_timestamp(1_780_000_000, 0).unwrap()
}

/// Rows ten seconds apart, up to two minutes out of order.
async fn fill(world: &World, seed: u64) {
    let fraction = (seed % 1_000) as f64 / 1_000.0;
    world
        .sql(&format!(
            "SELECT setseed({fraction});
             INSERT INTO audit_log (timestamp, event_type, severity, success, user_identity, issuer, subject, team,
                 runner_id, runner_name)
             SELECT '{}'::timestamptz + i * interval '10 s' + random() * interval '2 min',
                 'e' || (random() * 40)::int, 'info', random() < 0.9, 'u' || (random() * 9)::int,
                 CASE WHEN random() < 0.8 THEN 'i' || (random() * 2)::int END,
                 CASE WHEN random() < 0.8 THEN 's' || (random() * 9)::int END,
                 CASE WHEN random() < 0.7 THEN 't' || (random() * 30)::int END,
                 CASE WHEN random() < 0.5 THEN ('00000000-0000-0000-0000-00000000000' || (random() * 9)::int)::uuid END,
                 CASE WHEN random() < 0.5 THEN 'R' || (random() * 300)::int END
             FROM generate_series(1, {ROWS}) i",
            begin().to_rfc3339()
        ))
        .await;
    world.sql("ANALYZE audit_log").await;
}

fn filter(random: &mut StdRng) -> Filter {
    let mut some = |often: f64, make: &mut dyn FnMut(&mut StdRng) -> String| {
        random.random_bool(often).then(|| make(random))
    };
    let event_type = some(0.3, &mut |r| format!("e{}", r.random_range(0..42)));
    let runner = some(0.2, &mut |r| match r.random_bool(0.5) {
        true => format!("00000000-0000-0000-0000-00000000000{}", r.random_range(0..10)),
        false => format!("r{}", r.random_range(0..310)),
    });
    let team = some(0.3, &mut |r| format!("t{}", r.random_range(0..32)));
    let user = some(0.3, &mut |r| format!("{}{}", ["u", "s"][r.random_range(0..2)], r.random_range(0..11)));
    let success = random.random_bool(0.3).then(|| random.random_bool(0.5));
    let mut time = || {
        let seconds = random.random_range(-1_000..i64::from(ROWS) * 10 + 1_000);
        random.random_bool(0.3).then(|| begin() + TimeDelta::seconds(seconds))
    };
    let (since, until) = (time(), time());
    Filter { event_type, runner, team, user, success, since, until }
}

fn scope(random: &mut StdRng) -> Scope {
    match random.random_bool(0.5) {
        true => Scope::All,
        false => Scope::Own {
            issuer: format!("i{}", random.random_range(0..3)),
            subject: format!("s{}", random.random_range(0..10)),
            teams: (0..random.random_range(0..4))
                .map(|_| format!("t{}", random.random_range(0..32)))
                .collect(),
        },
    }
}

/// The same in SQL, written apart from the broker's own.
fn sql(scope: &Scope, filter: &Filter) -> String {
    let mut all = vec!["true".to_owned()];
    if let Scope::Own { issuer, subject, teams } = scope {
        let teams: String = teams.iter().map(|team| format!(" OR team = '{team}'")).collect();
        all.push(format!("((subject = '{subject}' AND issuer = '{issuer}'){teams})"));
    }
    all.extend(filter.event_type.iter().map(|is| format!("event_type = '{is}'")));
    all.extend(filter.runner.iter().map(|is| format!("'{is}' IN (runner_id::text, lower(runner_name))")));
    all.extend(filter.team.iter().map(|is| format!("team = '{is}'")));
    all.extend(filter.user.iter().map(|is| format!("'{is}' IN (user_identity, subject)")));
    all.extend(filter.success.map(|is| format!("success = {is}")));
    all.extend(filter.since.map(|at| format!("timestamp >= '{}'", at.to_rfc3339())));
    all.extend(filter.until.map(|at| format!("timestamp < '{}'", at.to_rfc3339())));
    all.join(" AND ")
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_counts_and_exports_of_the_log_have_what_plain_sql_has() {
    for seed in [1, 2, rand::random()] {
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let world = World::new().await;
        fill(&world, seed).await;
        let mut conn = world.broker.store().conn().await.unwrap();
        for _ in 0..60 {
            let (scope, filter) = (scope(&mut random), filter(&mut random));
            let said = format!("seed {seed}: {scope:?} {filter:?}");
            let query =
                |end: &str| format!("SELECT id::text FROM audit_log WHERE {} {end}", sql(&scope, &filter));
            let wanted = world.sql(&query("ORDER BY audit_log.id DESC LIMIT 300")).await;
            let limit = random.random_range(1..120);
            let (mut ids, mut before) = (Vec::new(), None);
            loop {
                let (events, next) = audit::page(&mut conn, &scope, &filter, before, limit).await.unwrap();
                assert!(events.len() as i64 <= limit, "{said}");
                assert!(next.is_none() || before.is_none_or(|before| next < Some(before)), "{said}: no end");
                ids.extend(events.iter().map(|event| event.id.to_string()));
                before = next;
                if before.is_none() || ids.len() >= 300 {
                    break;
                }
            }
            ids.truncate(300);
            assert_eq!(ids, wanted, "{said}, {limit} a page");
            if let Some(id) = ids.first().and_then(|id| id.parse().ok()) {
                assert!(audit::find(&mut conn, &scope, id).await.unwrap().is_some(), "{said}");
            }
            if matches!(scope, Scope::All) {
                let oldest = world.sql(&query("ORDER BY audit_log.id LIMIT 50")).await;
                let next = audit::next(&mut conn, &filter, i64::MIN, 50).await.unwrap();
                let next: Vec<String> = next.iter().map(|event| event.id.to_string()).collect();
                assert_eq!(next, oldest, "{said}");
                let count = world.sql(&query("").replacen("id::text", "count(*)::text", 1)).await;
                assert_eq!([audit::count(&mut conn, &filter).await.unwrap().to_string()], *count, "{said}");
            }
        }
    }
}
