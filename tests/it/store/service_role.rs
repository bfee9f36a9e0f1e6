//! The service's role in Postgres: it can do its whole work, and nothing else.

use serde_json::json;
use url::Url;

use crate::audit::sealer::{Signed, seal, write};
use crate::cli::commands::runner_broker;
use crate::database::connect;
use crate::support::{World, team};

/// A role of this test's own, on the shared server, and the URL with which it logs in.
pub async fn role_on(world_url: &str, name: &str) -> String {
    let (client, _connection) = connect(world_url).await;
    let make = format!("DROP ROLE IF EXISTS {name}; CREATE ROLE {name} LOGIN PASSWORD 'secret'");
    client.batch_execute(&make).await.expect("a role");
    let mut url = Url::parse(world_url).expect("a URL");
    let separator = if url.query().is_some() { "&" } else { "" };
    let query = format!("{}{separator}options=-c%20role%3D{name}", url.query().unwrap_or_default());
    url.set_query(Some(&query));
    url.into()
}

pub async fn forget(url: &str, name: &str) {
    let (client, _connection) = connect(url).await;
    client.batch_execute(&format!("DROP OWNED BY {name}; DROP ROLE {name}")).await.expect("no role");
}

fn migrate(url: &str, arguments: &[&str]) -> crate::cli::commands::Ended {
    runner_broker(&[&["migrate"], arguments].concat(), &[("DATABASE_URL", url.to_owned())])
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_lives_its_whole_life_with_nothing_but_its_rights() {
    let signed = Signed::new().await;
    let world = &signed.world;
    let name = format!("svc_{}", std::process::id());
    let own = role_on(world.database_url(), &name).await;
    let ended = migrate(world.database_url(), &["--service-role", &name]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(ended.out.contains("exactly what serve needs"), "{}", ended.out);
    let service = World::served_by(world, &own).await;
    assert!(service.broker.store().excess_rights().await.unwrap().is_empty());
    service.policy(&[team("blue", ""), team("green", "")].concat()).await;
    let ask = json!({ "runner_name": "b1" });
    assert_eq!(service.post("/api/v1/runners/jit", "blue", ask.clone()).await.status, 201);
    let ask = json!({ "runner_name": "b2" });
    let registered = service.post("/api/v1/runners/provision", "green", ask).await;
    assert_eq!(registered.status, 201, "{}", registered.text);
    let with_key = service.jit_with_key(json!({ "runner_name": "b3" }), "key-of-the-test").await;
    assert_eq!(with_key.status, 201, "{}", with_key.text);
    assert_eq!(service.get("/api/v1/runners", "blue").await.status, 200);
    assert_eq!(service.sweep().await.failures, 0);
    assert_eq!(service.delete("/api/v1/runners/b1", "blue").await.status, 200);
    service.broker.flush_refusals().await.unwrap();
    let sealed = seal(&service).await;
    assert!(sealed.size > 6, "{sealed:?}");
    assert_eq!(service.get("/api/v1/audit/1/proof", "blue").await.status, 404, "not his to see");
    let verified = runner_broker(&["verify-audit-log"], &[("DATABASE_URL", own.clone())]);
    assert_eq!(verified.code, 0, "{}", verified.err);

    let (client, _connection) = connect(&own).await;
    for statement in [
        "UPDATE audit_log SET success = true",
        "DELETE FROM audit_log",
        "TRUNCATE audit_log",
        "UPDATE audit_tree SET event_id = 1",
        "DELETE FROM audit_tree",
        "DELETE FROM audit_nodes",
        "UPDATE audit_checkpoints SET note = ''",
        "ALTER TABLE audit_log DISABLE TRIGGER ALL",
        "SET session_replication_role = replica",
        "CREATE TABLE mine ()",
        "DROP TABLE runners",
        "INSERT INTO __diesel_schema_migrations VALUES ('1')",
        "SELECT setval('audit_log_id_seq', 1)",
    ] {
        let err = client.batch_execute(statement).await.expect_err(statement);
        let said = err.as_db_error().expect("Postgres' word").message().to_owned();
        assert!(said.contains("permission denied") || said.contains("must be owner"), "{statement}: {said}");
    }
    drop(service);
    forget(world.database_url(), &name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_too_much_is_taken_back_and_said_at_start() {
    let world = World::new().await;
    assert_eq!(world.broker.store().excess_rights().await.unwrap(), ["it is a superuser"]);
    let name = format!("lax_{}", std::process::id());
    let url = role_on(world.database_url(), &name).await;
    world
        .sql(&format!(
            "GRANT ALL ON ALL TABLES IN SCHEMA public TO {name}; GRANT CREATE ON SCHEMA public TO {name}"
        ))
        .await;
    let lax = World::served_by(&world, &url).await;
    let excess = lax.broker.store().excess_rights().await.unwrap();
    for wanted in [
        "CREATE in schema public",
        "UPDATE on audit_log",
        "TRUNCATE on audit_tree",
        "DELETE on audit_checkpoints",
    ] {
        assert!(excess.iter().any(|line| line == wanted), "{wanted}: {excess:?}");
    }
    assert_eq!(migrate(world.database_url(), &["--service-role", &name]).code, 0);
    assert!(lax.broker.store().excess_rights().await.unwrap().is_empty());
    drop(lax);
    forget(world.database_url(), &name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_role_can_do_by_detours_is_said_at_start() {
    let world = World::new().await;
    let (name, owner) = (format!("sly_{}", std::process::id()), format!("own_{}", std::process::id()));
    let url = role_on(world.database_url(), &name).await;
    role_on(world.database_url(), &owner).await;
    world.sql(&format!("GRANT ALL ON audit_tree TO {owner}; GRANT USAGE ON SCHEMA public TO {name}")).await;
    assert_eq!(migrate(world.database_url(), &["--service-role", &name]).code, 0);
    world.sql(&format!("ALTER ROLE {name} NOINHERIT CREATEROLE; GRANT {owner} TO {name}")).await;
    world.sql(&format!("ALTER TABLE audit_nodes OWNER TO {owner}")).await;
    world.sql(&format!("GRANT UPDATE (event_type) ON audit_log TO {name}")).await;
    world.sql(&format!("GRANT UPDATE ON SEQUENCE audit_log_id_seq TO {name}")).await;
    world.sql(&format!("ALTER SCHEMA public OWNER TO {owner}")).await;
    let sly = World::served_by(&world, &url).await;
    let excess = sly.broker.store().excess_rights().await.unwrap();
    for wanted in [
        "it may make roles (CREATEROLE)",
        "it owns audit_nodes",
        "it owns schema public",
        "DELETE on audit_tree",
        "UPDATE on columns of audit_log",
        "UPDATE on audit_log_id_seq",
        "CREATE in schema public",
    ] {
        assert!(excess.iter().any(|line| line == wanted), "{wanted}: {excess:?}");
    }
    let refused = migrate(world.database_url(), &["--service-role", &name]);
    assert!(refused.code == 1 && refused.err.contains("superuser or owns"), "{}", refused.err);
    drop(sly);
    world
        .sql("ALTER SCHEMA public OWNER TO CURRENT_USER; ALTER TABLE audit_nodes OWNER TO CURRENT_USER")
        .await;
    forget(world.database_url(), &name).await;
    forget(world.database_url(), &owner).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_cannot_be_limited_is_refused_with_what_to_do() {
    let world = World::new().await;
    write(&world, 1).await;
    let ended = migrate(world.database_url(), &["--service-role", "nobody-of-this-name"]);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("CREATE ROLE \"nobody-of-this-name\" LOGIN"), "{}", ended.err);
    let owner = world.sql("SELECT current_user").await.remove(0);
    let ended = migrate(world.database_url(), &["--service-role", &owner]);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("superuser or owns"), "{}", ended.err);
}
