//! How long a million events take to be sealed, checked, exported and proved, and in how much memory:
//!
//! ```text
//! cargo bench --bench seal
//! SEAL_EVENTS=100000 cargo bench --bench seal
//! ```
//!
//! A private Postgres that does not wait for the disk, and the sealer in this process. The events look like
//! those of provisions and are all there at the beginning, as after an upgrade from a version without a sealer.

#[path = "shared/inside.rs"]
mod inside;

use std::time::Instant;

use runner_broker::broker::audit::export::export;
use runner_broker::broker::audit::sealer::Sealer;
use runner_broker::broker::audit::verify::{Against, verify};
use runner_broker::dev::postgres::{Options, Postgres};
use runner_broker::store::{Store, audit_tree};
use uuid::Uuid;

/// In one transaction, as a rule of thumb for what a busy hour leaves.
const INSERT: &str = "
    INSERT INTO audit_log (timestamp, event_type, severity, success, user_identity, issuer, subject, team,
        runner_id, runner_name, target, request_id, request_ip, user_agent, policy_rule, event_data)
    SELECT clock_timestamp(), 'provisioned', 'info', true, 'repo:octo-org/octo-repo:ref:refs/heads/main',
        'https://token.actions.githubusercontent.com', 'repo:octo-org/octo-repo:ref:refs/heads/main', 'blue',
        gen_random_uuid(), 'runner-' || i, 'octo-org', gen_random_uuid()::text, '10.1.2.3', 'curl/8.5.0',
        'team blue, member 1', jsonb_build_object('labels', array['linux', 'x64'], 'sha256', md5(i::text))
    FROM generate_series(1, 10000) i";

fn memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<f64>().ok()).unwrap_or(f64::NAN)
        / 1024.0
}

#[tokio::main]
async fn main() {
    let given = std::env::var("SEAL_EVENTS").ok().and_then(|text| text.parse::<usize>().ok());
    // Without `--bench` cargo only wants to know whether it runs.
    let count =
        given.unwrap_or(if std::env::args().any(|arg| arg == "--bench") { 1_000_000 } else { 20_000 });
    rustls::crypto::aws_lc_rs::default_provider().install_default().expect("a provider");
    let postgres = Postgres::start(&Options::temporary()).expect("a Postgres");
    let store = Store::new(&postgres.url("postgres").into(), 4).expect("a URL");
    store.migrate().await.expect("the migrations");
    let (client, connection) = tokio_postgres::connect(&postgres.url("postgres"), tokio_postgres::NoTls)
        .await
        .expect("a connection");
    tokio::spawn(connection);
    let began = Instant::now();
    for _ in 0..count.div_ceil(10_000) {
        client.batch_execute(INSERT).await.expect("events");
    }
    client.batch_execute("ANALYZE").await.expect("statistics");
    println!("inserted {count} events in {:.1} s; memory {:.0} MB", began.elapsed().as_secs_f64(), memory());

    let broker = inside::broker(store.clone(), "http://127.0.0.1:1", 1);
    let lease = broker.lead(Uuid::now_v7()).await.expect("a database").expect("the lease");
    let mut sealer = Sealer::default();
    let began = Instant::now();
    let sealed = broker.seal(&lease, &mut sealer).await.expect("a pass");
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "sealed {} in {seconds:.1} s, {:.0}/s; memory at most {:.0} MB",
        sealed.events,
        sealed.events as f64 / seconds,
        memory()
    );
    assert_eq!(sealed.size as usize, count.div_ceil(10_000) * 10_000);

    let began = Instant::now();
    for _ in 0..20 {
        broker.seal(&lease, &mut sealer).await.expect("a pass");
    }
    println!("a pass with nothing to do: {:.1} ms", began.elapsed().as_secs_f64() * 50.0);

    let began = Instant::now();
    for i in 0..100 {
        let from = 1 + i * (sealed.size - 1) / 100;
        broker.consistency(from, None).await.expect("a proof");
    }
    println!("a consistency proof: {:.1} ms", began.elapsed().as_secs_f64() * 10.0);

    let began = Instant::now();
    let outcome = verify(&store, &Against::default(), |_, _| {}).await.expect("an outcome");
    assert_eq!((outcome.found, outcome.sealed), (0, sealed.size), "{:?}", outcome.findings);
    println!("verified in {:.1} s; memory at most {:.0} MB", began.elapsed().as_secs_f64(), memory());

    let began = Instant::now();
    let mut bytes = 0;
    let since = chrono::DateTime::UNIX_EPOCH;
    let seal = export(
        &store,
        since,
        None,
        |_| {},
        |_, line| {
            bytes += line.len();
            Ok(())
        },
    );
    seal.await.expect("an export").expect("no file").expect("a seal");
    println!(
        "exported {} MB in {:.1} s; memory at most {:.0} MB",
        bytes / 1_000_000,
        began.elapsed().as_secs_f64(),
        memory()
    );
    let mut conn = store.conn().await.expect("a connection");
    let size = audit_tree::size(&mut conn).await.expect("a size");
    println!("{size} leaves");
    let tables = client
        .query_one(
            "SELECT pg_total_relation_size('audit_log') / 1000000,
                    (pg_total_relation_size('audit_tree') + pg_total_relation_size('audit_nodes')) / 1000000",
            &[],
        )
        .await
        .expect("sizes");
    println!("audit_log {} MB, its tree {} MB", tables.get::<_, i64>(0), tables.get::<_, i64>(1));
}
