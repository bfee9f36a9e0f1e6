//! SIGKILL once at each step of a provision.

use runner_broker::dev::github::{Action, Fault};
use serde_json::json;

use crate::crash::{HandedOut, agree};
use crate::database::connect;
use crate::process::{Replica, Site, until};
use crate::support::{ORG, answer};

/// Starts again after a kill, lets the repair do its work, and checks that all agree.
async fn recovered(site: &Site, handed_out: &HandedOut) -> Replica {
    site.github.clear_faults();
    let replica = site.serve().await;
    site.settled().await;
    agree(site, &replica, handed_out).await;
    replica
}

/// One more provision, of the same name: nothing of the first is in its way.
async fn the_name_is_free(site: &Site, replica: &Replica) {
    let again = answer(site.jit(replica, "r1")).await;
    assert_eq!(again.status, 201, "{}", again.text);
    agree(site, replica, &HandedOut::from([("r1".to_owned(), again.body)])).await;
}

const REPAIRED: [&str; 3] = ["provision_requested", "runner_state_changed", "provision_failed"];

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_the_intent_before_github_is_asked_the_row_is_failed_and_its_name_free() {
    let site = Site::new().await;
    // Without a sweep nobody else asks for a token.
    let replica = site.serve_with(&[("SYNC_ENABLED", "false")]).await;
    // The installation token comes between the intent and the request.
    site.github.fail(Fault::new("POST", "access_tokens", Action::Delay { millis: 900 }));
    let caller = tokio::spawn(site.jit(&replica, "r1").send());
    until("the token is asked for", async || site.asked("POST", "access_tokens") > 0).await;
    assert_eq!(site.status("r1").await, "requested");
    replica.kill().await;
    assert!(caller.await.expect("no panic").is_err());
    assert_eq!(site.asked("POST", "jitconfig"), 0);

    let replica = recovered(&site, &HandedOut::new()).await;
    assert_eq!(site.events("r1").await, REPAIRED);
    the_name_is_free(&site, &replica).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_github_acted_before_its_answer_the_runner_is_taken_off_again() {
    let site = Site::new().await;
    let replica = site.serve().await;
    site.github.fail(Fault::new("POST", "jitconfig", Action::ActThenDelay { millis: 900 }));
    let caller = tokio::spawn(site.jit(&replica, "r1").send());
    until("GitHub has acted", async || site.github.runner(ORG, "r1").is_some()).await;
    assert_eq!(site.status("r1").await, "requested");
    replica.kill().await;
    assert!(caller.await.expect("no panic").is_err());

    let replica = recovered(&site, &HandedOut::new()).await;
    assert_eq!(site.events("r1").await, REPAIRED);
    assert!(site.github.runner(ORG, "r1").is_none());
    the_name_is_free(&site, &replica).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_githubs_answer_before_it_is_written_the_runner_is_taken_off_again() {
    let site = Site::new().await;
    let replica = site.serve().await;
    site.github.fail(Fault::new("POST", "jitconfig", Action::Delay { millis: 500 }));
    let caller = tokio::spawn(site.jit(&replica, "r1").send());
    until("the intent is written", async || site.status("r1").await == "requested").await;
    let (holder, connection) = connect(site.database_url()).await;
    holder.batch_execute("BEGIN; SELECT FROM runners FOR UPDATE").await.expect("a lock");
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND wait_event_type = 'Lock' AND query LIKE 'UPDATE runners%'";
    until("the result is being written", async || site.one(waiting).await == "1").await;
    assert!(site.github.runner(ORG, "r1").is_some());
    replica.kill().await;
    drop((holder, connection));
    assert!(caller.await.expect("no panic").is_err());
    assert_eq!(site.status("r1").await, "requested");

    let replica = recovered(&site, &HandedOut::new()).await;
    assert_eq!(site.events("r1").await, REPAIRED);
    assert!(site.github.runner(ORG, "r1").is_none());
    the_name_is_free(&site, &replica).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_the_result_is_written_before_the_answer_the_key_gets_the_runner_anew() {
    let site = Site::new().await;
    let replica = site.serve().await;
    // Commits of a result wait for this lock.
    let (holder, _connection) = connect(site.database_url()).await;
    let trigger = "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER wait AFTER UPDATE ON runners DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW WHEN (NEW.status = 'pending') EXECUTE FUNCTION wait();
        SELECT pg_advisory_lock(1)";
    holder.batch_execute(trigger).await.expect("a trigger");
    let keyed = |replica: &Replica| site.jit(replica, "r1").header("idempotency-key", "k1");
    let caller = tokio::spawn(keyed(&replica).send());
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND wait_event = 'advisory' AND query ILIKE 'COMMIT%'";
    until("the result is being committed", async || site.one(waiting).await == "1").await;
    // Frozen, it cannot answer between the commit and the kill.
    replica.signal(rustix::process::Signal::STOP);
    holder.batch_execute("SELECT pg_advisory_unlock(1)").await.expect("the lock is ours");
    until("the result is committed", async || site.status("r1").await == "pending").await;
    replica.kill().await;
    assert!(caller.await.expect("no panic").is_err());

    let replica = recovered(&site, &HandedOut::new()).await;
    let first = site.github.runner(ORG, "r1").expect("nobody took it away");
    assert_eq!(site.status("r1").await, "pending");
    let again = answer(keyed(&replica)).await;
    assert_eq!(again.status, 201, "{}", again.text);
    let id = site.one("SELECT id FROM runners").await;
    assert_eq!(again.body["runner_id"], json!(id), "the same row");
    let second = site.github.runner(ORG, "r1").expect("a runner");
    assert_ne!(first.id, second.id);
    assert_eq!(again.body["github_runner_id"], json!(second.id));
    assert_eq!(site.github.runners(ORG).len(), 1);
}
