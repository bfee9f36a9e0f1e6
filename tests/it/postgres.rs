//! The private Postgres: it starts anywhere, keeps what it should, and leaves nothing behind.

use runner_broker::dev::postgres::{Options, Postgres};

use crate::database::{TestDatabase, connect};

#[tokio::test]
async fn a_private_postgres_starts_answers_and_leaves_nothing_behind() {
    let t = std::time::Instant::now();
    let postgres = Postgres::start(&Options::temporary()).unwrap();
    eprintln!("{:?} {}", t.elapsed(), postgres.url("postgres"));
    let (client, _connection) = connect(&postgres.url("postgres")).await;
    let row = client.query_one("SELECT current_setting('server_encoding')", &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "UTF8");
    let folder = postgres.socket_folder().to_owned();
    let t = std::time::Instant::now();
    drop(postgres);
    eprintln!("{:?}", t.elapsed());
    assert!(!folder.exists());
}

#[tokio::test]
async fn each_test_has_a_database_of_its_own_with_the_schema() {
    let migrate = async |url: &str| {
        let (client, _connection) = connect(url).await;
        client.batch_execute("CREATE TABLE words (word text)").await.unwrap();
    };
    let one = TestDatabase::create("words1", migrate).await;
    let two = TestDatabase::create("words1", async |_: &str| unreachable!("the template is there")).await;
    let (client, _connection) = connect(one.url()).await;
    client.batch_execute("INSERT INTO words VALUES ('one')").await.unwrap();
    let (client, _connection) = connect(two.url()).await;
    assert!(client.query("SELECT * FROM words", &[]).await.unwrap().is_empty());
}
