//! What Postgres says of itself.

use diesel::sql_types::{Array, Text};
use diesel_async::RunQueryDsl;

use super::{Conn, Error};

/// The server's version, and the migrations that it has.
#[derive(Clone, Debug, diesel::QueryableByName)]
pub struct Server {
    #[diesel(sql_type = Text)]
    pub version: String,
    /// By version.
    #[diesel(sql_type = Array<Text>)]
    pub migrations: Vec<String>,
}

pub async fn server(conn: &mut Conn) -> Result<Server, Error> {
    Ok(diesel::sql_query(
        "SELECT current_setting('server_version') AS version,
                ARRAY(SELECT version::text FROM __diesel_schema_migrations ORDER BY 1) AS migrations",
    )
    .get_result(conn)
    .await?)
}
