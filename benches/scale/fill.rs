//! The rows: set-based SQL, with the indexes taken away meanwhile.

use std::time::Instant;

use tokio_postgres::{Client, SimpleQueryMessage};

use crate::process::cpu;

const RUNNERS: &str = include_str!("runners.sql");
const EVENTS: &str = include_str!("events.sql");
const REST: &str = include_str!("rest.sql");

/// In one statement.
const CHUNK: u64 = 500_000;

/// Events that are inserted to see what an index costs, and how often.
const SAMPLE: u32 = 50_000;
const TRIES: usize = 4;

/// How many rows there are to be.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub runners: u64,
    pub live: u64,
    pub events: u64,
    pub identities: u64,
}

impl Size {
    fn filled(self, sql: &str) -> String {
        // What begins with another's name comes first.
        [
            (":runners", format!("{}::bigint", self.runners)),
            (":live", format!("{}::bigint", self.live)),
            (":events", format!("{}::bigint", self.events)),
            (":identities", format!("{}::bigint", self.identities)),
            (":start", "(date_trunc('day', now()) - interval '90 days')".into()),
        ]
        .iter()
        .fold(sql.to_owned(), |sql, (name, value)| sql.replace(name, value))
    }
}

/// All values of a query's first column.
pub async fn column(client: &Client, query: &str) -> Vec<String> {
    let messages = client.simple_query(query).await.unwrap_or_else(|err| panic!("{query}: {err:?}"));
    let value = |message| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
        _ => None,
    };
    messages.into_iter().filter_map(value).collect()
}

async fn run(client: &Client, statement: &str) {
    client.batch_execute(statement).await.unwrap_or_else(|err| panic!("{statement}: {err:?}"));
}

/// Fills a migrated database whose teams are there.
pub async fn fill(client: &Client, size: Size) {
    let begun = Instant::now();
    run(client, "SET maintenance_work_mem = '1GB'; SET work_mem = '256MB'; SET synchronous_commit = off")
        .await;
    let mut indexes = Vec::new();
    for table in ["runners", "audit_log", "jobs"] {
        let query = format!(
            "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename = '{table}' AND indexname NOT IN
             (SELECT conname FROM pg_constraint)"
        );
        indexes.extend(column(client, &query).await);
    }
    for index in &indexes {
        let name = index.split(" INDEX ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a name");
        run(client, &format!("DROP INDEX {name}")).await;
    }
    run(client, &size.filled(RUNNERS)).await;
    println!("{} runners after {:.0} s", size.runners, begun.elapsed().as_secs_f64());
    let mut from = 1;
    while from <= size.events {
        let to = (from + CHUNK - 1).min(size.events);
        let sql = EVENTS.replace(":from", &from.to_string()).replace(":to", &to.to_string());
        run(client, &size.filled(&sql)).await;
        from = to + 1;
    }
    println!("{} events after {:.0} s", size.events, begun.elapsed().as_secs_f64());
    run(client, &size.filled(REST)).await;
    for index in &indexes {
        run(client, index).await;
    }
    println!("{} indexes after {:.0} s", indexes.len(), begun.elapsed().as_secs_f64());
    run(client, "VACUUM (ANALYZE)").await;
    println!("filled in {:.0} s", begun.elapsed().as_secs_f64());
}

/// Megabytes of each table and, beneath it, of its indexes.
pub async fn sizes(client: &Client) {
    for line in column(
        client,
        "SELECT c.relname || ': ' || pg_relation_size(c.oid) / 1000000 || ' MB, with indexes '
             || pg_total_relation_size(c.oid) / 1000000 || ' MB (' || (SELECT string_agg(i.relname || ' '
                 || pg_relation_size(i.oid) / 1000000, ', ' ORDER BY pg_relation_size(i.oid) DESC)
             FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid WHERE x.indrelid = c.oid) || ')'
         FROM pg_class c WHERE c.relname IN ('runners', 'audit_log', 'jobs', 'identities', 'audit_tree', 'audit_nodes') ORDER BY c.relname",
    )
    .await
    {
        println!("{line}");
    }
}

/// What each index of the log costs whoever inserts, in microseconds of CPU an event: with all of them and without this one in
/// turns, the best of some tries each. Leaves nothing behind.
pub async fn costs(client: &Client) {
    let sample =
        format!("CREATE TEMP TABLE sample AS SELECT * FROM audit_log ORDER BY id DESC LIMIT {SAMPLE}");
    run(client, &sample).await;
    let columns = column(
        client,
        "SELECT string_agg(quote_ident(column_name), ', ') FROM information_schema.columns
         WHERE table_name = 'audit_log' AND table_schema = 'public' AND column_name NOT IN ('id', 'xid')",
    )
    .await
    .remove(0);
    let insert = format!("INSERT INTO audit_log ({columns}) SELECT {columns} FROM sample");
    let indexes = column(
        client,
        "SELECT indexname FROM pg_indexes WHERE schemaname = 'public' AND tablename = 'audit_log'
         AND indexname <> 'audit_log_pkey' ORDER BY indexname",
    )
    .await;
    println!(
        "an event inserted: {:.1} us with all indexes of the log",
        inserted(client, &insert, None).await
    );
    for index in &indexes {
        let (mut with, mut without) = (f64::MAX, f64::MAX);
        for _ in 0..TRIES {
            with = with.min(inserted(client, &insert, None).await);
            without = without.min(inserted(client, &insert, Some(index)).await);
        }
        println!("  {index:<28} {:>5.1} us", with - without);
        run(client, "VACUUM audit_log").await;
    }
}

/// Microseconds of the session's CPU for each of the sample's events: unlike time, hardly touched by what else goes on.
async fn inserted(client: &Client, insert: &str, without: Option<&str>) -> f64 {
    run(client, "BEGIN").await;
    if let Some(index) = without {
        run(client, &format!("DROP INDEX {index}")).await;
    }
    let session = column(client, "SELECT pg_backend_pid()").await.remove(0).parse().expect("a process");
    let begun = cpu(session);
    run(client, insert).await;
    let took = (cpu(session) - begun) * 1e6 / f64::from(SAMPLE);
    run(client, "ROLLBACK").await;
    took
}
