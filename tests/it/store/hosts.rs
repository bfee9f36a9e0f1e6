//! Several hosts in `DATABASE_URL`: the one that takes writes is found, at first and when it becomes another one.

use std::time::{Duration, Instant};

use runner_broker::dev::postgres::{Options, Postgres};
use runner_broker::store::{Error, Store, leases};
use rustix::process::{Pid, Signal, kill_process};
use uuid::Uuid;

use crate::database::connect;
use crate::support::eventually;

async fn postgres() -> Postgres {
    let postgres = tokio::task::spawn_blocking(|| Postgres::start(&Options::temporary()));
    let postgres = postgres.await.expect("a thread").expect("a Postgres");
    Store::new(&postgres.url("postgres").into(), 1).expect("a URL").migrate().await.expect("a schema");
    postgres
}

fn url(hosts: &[&str], more: &str) -> String {
    format!("postgres:///postgres?user=postgres&host={}{more}", hosts.join(","))
}

fn socket(postgres: &Postgres) -> &str {
    postgres.socket_folder().to_str().expect("a plain path")
}

/// As a server is that was demoted, for connections that are there and those to come.
async fn takes_writes(postgres: &Postgres, writes: bool) {
    let (admin, _connection) = connect(&postgres.url("postgres")).await;
    let value = if writes { "off" } else { "on" };
    admin
        .batch_execute(&format!("ALTER SYSTEM SET default_transaction_read_only = {value}"))
        .await
        .expect("set");
    admin.batch_execute("SELECT pg_reload_conf()").await.expect("reloaded");
    eventually("the setting", async || {
        let (client, _connection) = connect(&postgres.url("postgres")).await;
        let row = client.query_one("SHOW default_transaction_read_only", &[]).await.expect("an answer");
        row.get::<_, &str>(0) == value
    })
    .await;
}

/// Writes by a connection of the pool.
async fn write(store: &Store) -> Result<(), Error> {
    let taken = store.transaction::<_, Error, _>(async |conn| {
        leases::acquire(conn, "test", Uuid::now_v7(), Duration::ZERO).await
    });
    taken.await.map(drop)
}

async fn written(postgres: &Postgres) -> i64 {
    let (client, _connection) = connect(&postgres.url("postgres")).await;
    let row = client.query_one("SELECT coalesce(sum(epoch), 0)::bigint FROM leases", &[]).await;
    row.expect("an answer").get(0)
}

/// To the server and all its processes, each of which has a group of its own.
fn signal(postgres: &Postgres, signal: Signal) {
    let server = postgres.pid().expect("a server").to_string();
    let processes = std::fs::read_dir("/proc").expect("Linux").flatten();
    for process in processes {
        let stat = std::fs::read_to_string(process.path().join("stat")).unwrap_or_default();
        let (Some((pid, _)), Some((_, fields))) = (stat.split_once(' '), stat.rsplit_once(") ")) else {
            continue;
        };
        if pid == server || fields.split(' ').nth(1) == Some(&server) {
            let pid = Pid::from_raw(pid.parse().expect("a number")).expect("a process");
            // A backend may have ended meanwhile.
            let _ = kill_process(pid, signal);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_hosts_the_one_that_takes_writes_is_taken_and_followed_when_it_changes() {
    let (one, two) = (postgres().await, postgres().await);
    takes_writes(&one, false).await;
    let hosts = ["/nowhere-at-all", socket(&one), socket(&two)];
    let store = Store::new(&url(&hosts, "").into(), 4).expect("a URL");
    store.is_ready().await.expect("a database");
    write(&store).await.expect("written");
    assert_eq!((written(&one).await, written(&two).await), (0, 1));

    // The roles change under connections that live on: the statement that notices is told that the database is
    // away, and no further one.
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(store.conn().await.expect("a connection"));
    }
    drop(held);
    takes_writes(&two, false).await;
    takes_writes(&one, true).await;
    // Each connection's server process reads the new settings in its own time.
    eventually("a write is refused", async || matches!(write(&store).await, Err(Error::Unavailable(_))))
        .await;
    for _ in 0..4 {
        write(&store).await.expect("written by another connection");
    }
    assert_eq!(written(&one).await, 4);

    // It is gone, and the other one is back.
    takes_writes(&two, true).await;
    one.kill();
    eventually("the other one", async || write(&store).await.is_ok()).await;
    assert!(written(&two).await > 1);
    two.kill();
    let away = store.ping().await;
    let Err(Error::Unavailable(why)) = away else { panic!("{away:?}") };
    let all_are_named = hosts.iter().all(|host| why.contains(host));
    assert!(all_are_named || why.contains("closed") || why.contains("terminating"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_host_will_do_if_the_url_says_so_and_a_standby_is_the_databases_fault() {
    let one = postgres().await;
    takes_writes(&one, false).await;
    let store = Store::new(&url(&[socket(&one)], "&target_session_attrs=any").into(), 1).expect("a URL");
    store.is_ready().await.expect("it answers");
    assert!(matches!(write(&store).await, Err(Error::Unavailable(_))));
    let store = Store::new(&url(&[socket(&one)], "&target_session_attrs=primary").into(), 1).expect("a URL");
    let Err(Error::Unavailable(why)) = store.is_ready().await else { panic!("it only reads") };
    assert!(why.contains("does not allow writes"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(target_os = "linux"), ignore = "looks for the server's processes in /proc")]
async fn a_server_that_hangs_is_given_up_for_one_that_answers() {
    let (one, two) = (postgres().await, postgres().await);
    let store = Store::new(&url(&[socket(&one), socket(&two)], "").into(), 2).expect("a URL");
    write(&store).await.expect("written");
    assert_eq!(written(&one).await, 1);
    signal(&one, Signal::STOP);
    let since = Instant::now();
    eventually("the other one", async || write(&store).await.is_ok()).await;
    assert!(since.elapsed() < Duration::from_secs(15), "{:?}", since.elapsed());
    signal(&one, Signal::CONT);
    assert!(written(&two).await > 0);
}
