//! What can be wrong with Postgres.

use super::Patient;

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_is_away_is_one_fault_and_the_rest_is_still_looked_at() {
    let mut patient = Patient::new().await;
    let seen = patient.with("DATABASE_URL", "postgres://broker:hunter2@127.0.0.1:1/broker");
    seen.fault("database_unavailable", "not available", "check the host and port in DATABASE_URL");
    let fine = |area: &str| seen.checks().iter().any(|check| check["area"] == area && check["state"] == "ok");
    for area in ["issuers", "github", "targets", "rate_limit", "certificate", "webhooks"] {
        assert!(fine(area), "{area}: {:#}", seen.report);
    }
    // It is there, but lets this user in nowhere.
    let url = patient.world.database_url().to_owned();
    let (before, query) = url.split_once('?').map_or((url.as_str(), ""), |(before, query)| (before, query));
    let elsewhere = format!("{}/no_such_database?{query}", before.rsplit_once('/').unwrap().0);
    let seen = patient.with("DATABASE_URL", &elsewhere);
    seen.fault("database_unavailable", "does not exist", "check the database's name");
    patient.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_schema_is_told_with_what_it_lacks() {
    let patient = Patient::new().await;
    let newest = "SELECT version FROM __diesel_schema_migrations ORDER BY version DESC LIMIT 1";
    let newest = patient.world.sql(newest).await.remove(0);
    patient.world.sql(&format!("DELETE FROM __diesel_schema_migrations WHERE version = '{newest}'")).await;
    patient.seen().fault("schema_old", "lacks 1 migration(s)", "run 'runner-broker migrate'");
    patient.world.sql("DROP TABLE __diesel_schema_migrations").await;
    patient.seen().fault("schema_old", "migration(s)", "run 'runner-broker migrate'");
    patient.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_lacks_a_right_is_told_which_and_one_that_has_too_many_is_warned_of() {
    let patient = Patient::new().await;
    let role = &patient.role;
    let advice = format!("migrate --service-role {role}");
    let sql = async |statement: &str| patient.world.sql(&statement.replace("ROLE", role)).await;

    sql("REVOKE INSERT ON audit_log FROM ROLE").await;
    sql("REVOKE UPDATE, DELETE ON runners FROM ROLE").await;
    let lacking = "lacks INSERT on audit_log; UPDATE, DELETE on runners";
    patient.seen().fault("privileges_missing", lacking, &advice);
    sql("GRANT UPDATE, DELETE ON runners TO ROLE; GRANT INSERT ON audit_log TO ROLE").await;
    patient.seen().is_well();

    // Somebody else's, in the same place.
    sql("CREATE TABLE others ()").await;
    patient.seen().is_well();

    sql("REVOKE SELECT ON __diesel_schema_migrations FROM ROLE").await;
    patient.seen().fault("privileges_missing", "SELECT on __diesel_schema_migrations", &advice);
    sql("GRANT SELECT ON __diesel_schema_migrations TO ROLE").await;

    sql("REVOKE USAGE ON SCHEMA public FROM PUBLIC; REVOKE USAGE ON SCHEMA public FROM ROLE").await;
    patient.seen().fault("privileges_missing", "it lacks USAGE", &advice);
    sql("GRANT USAGE ON SCHEMA public TO ROLE").await;

    sql("GRANT UPDATE ON audit_log TO ROLE").await;
    patient.seen().warning("privileges_excess", "UPDATE on audit_log", "--service-role");
    sql("REVOKE UPDATE ON audit_log FROM ROLE").await;
    patient.seen().is_well();
    patient.leave().await;
}
