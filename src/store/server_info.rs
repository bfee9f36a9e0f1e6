//! Which Postgres this is, and the role and schema that we have in it.

use diesel::sql_types::{Integer, Nullable, Text};
use diesel_async::RunQueryDsl;

use super::{Conn, Error};

/// Which Postgres it is, and as whom we are there.
#[derive(Clone, Debug, diesel::QueryableByName)]
pub struct Server {
    /// For people, such as `15.4 (Debian 15.4-1)`.
    #[diesel(sql_type = Text)]
    pub version: String,
    /// 130004 is 13.4.
    #[diesel(sql_type = Integer)]
    pub number: i32,
    /// The role that we are.
    #[diesel(sql_type = Text)]
    pub role: String,
    /// Where our tables are. `None`: our role may use no schema of its search path.
    #[diesel(sql_type = Nullable<Text>)]
    pub schema: Option<String>,
    /// As it is set.
    #[diesel(sql_type = Text)]
    pub search_path: String,
}

/// Asks Postgres.
pub async fn server(conn: &mut Conn) -> Result<Server, Error> {
    Ok(diesel::sql_query(
        "SELECT current_setting('server_version') AS version,
                current_setting('server_version_num')::int AS number, current_user::text AS role,
                current_schema()::text AS schema, current_setting('search_path') AS search_path",
    )
    .get_result(conn)
    .await?)
}
