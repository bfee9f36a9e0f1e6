//! The schema's state, as `serve` asks for it.

use runner_broker::store::Store;

use crate::database::TestDatabase;
use crate::support::migrated;

/// As a role that may read everything and create nothing.
fn as_a_reader(database: &TestDatabase) -> Store {
    let url = database.url();
    let separator = if url.contains('?') { '&' } else { '?' };
    let url = format!("{url}{separator}options=-c%20role%3Dpg_read_all_data");
    Store::new(&url.into(), 1).expect("a URL")
}

#[tokio::test]
async fn a_role_that_cannot_create_tables_sees_that_the_schema_is_up_to_date() {
    let database = migrated().await;
    assert_eq!(as_a_reader(&database).pending_migrations().await.expect("an answer"), Vec::<String>::new());
}

#[tokio::test]
async fn a_role_that_cannot_create_tables_sees_what_an_empty_database_lacks() {
    let database = TestDatabase::create("empty", async |_: &str| {}).await;
    let pending = as_a_reader(&database).pending_migrations().await.expect("an answer");
    assert!(pending.iter().any(|name| name.contains("initial")), "{pending:?}");
}
