//! The rights of the service's role in Postgres: grants exactly what `serve` needs, and finds what is missing or more.

use diesel::prelude::*;
use diesel::sql_types::{Array, Bool, Text};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};

use super::{Conn, Error, Store};

/// Tables to which `serve` only adds rows.
const APPEND_ONLY: &[&str] = &["audit_log", "audit_tree", "audit_nodes", "audit_checkpoints"];

/// Tables that `serve` only reads.
const READ_ONLY: &[&str] = &["__diesel_schema_migrations"];

/// The result of [`Store::set_up_service_role`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setup {
    /// The role has what `serve` needs.
    Done,
    /// Nothing was changed.
    NoSuchRole,
    /// It is a superuser or owns the tables, and keeps its rights whatever is revoked. Nothing was changed.
    TooPowerful,
}

#[derive(QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    name: String,
}

async fn names(conn: &mut Conn, query: &str) -> Result<Vec<String>, Error> {
    let rows: Vec<Name> = diesel::sql_query(query).load(conn).await?;
    Ok(rows.into_iter().map(|row| row.name).collect())
}

impl Store {
    /// Grants a role exactly what `serve` needs: what else it was granted in this schema is revoked. Connect as the
    /// owner of the tables.
    pub async fn set_up_service_role(&self, role: &str) -> Result<Setup, Error> {
        self.transaction::<_, Error, _>(async |conn| set_up(conn, role).await).await
    }

    /// As [`excess`].
    pub async fn excess_rights(&self) -> Result<Vec<String>, Error> {
        excess(&mut *self.conn().await?).await
    }
}

async fn set_up(conn: &mut Conn, role: &str) -> Result<Setup, Error> {
    #[derive(QueryableByName)]
    struct Role {
        #[diesel(sql_type = Text)]
        quoted: String,
        #[diesel(sql_type = Bool)]
        is_powerful: bool,
    }
    let found: Option<Role> = diesel::sql_query(
        "SELECT quote_ident(rolname) AS quoted, rolsuper OR EXISTS (
             SELECT 1 FROM pg_class c WHERE c.relnamespace = current_schema()::regnamespace
             AND c.relname IN ('audit_log', 'audit_tree', 'audit_nodes', 'audit_checkpoints')
             AND pg_has_role(r.oid, c.relowner, 'MEMBER')) AS is_powerful
         FROM pg_roles r WHERE rolname = $1",
    )
    .bind::<Text, _>(role)
    .get_result(conn)
    .await
    .optional()?;
    let role = match found {
        None => return Ok(Setup::NoSuchRole),
        Some(Role { is_powerful: true, .. }) => return Ok(Setup::TooPowerful),
        Some(Role { quoted, .. }) => quoted,
    };
    let place = names(
        conn,
        "SELECT quote_ident(current_schema()) AS name UNION ALL SELECT quote_ident(current_database())",
    );
    let place = place.await?;
    let [schema, database] = place.as_slice() else { return Err(Error::Row("the schema's name".into())) };
    let mut statements = vec![
        format!("REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {role}"),
        format!("REVOKE ALL ON ALL SEQUENCES IN SCHEMA {schema} FROM {role}"),
        format!("REVOKE ALL ON SCHEMA {schema} FROM {role}"),
        format!("REVOKE ALL ON DATABASE {database} FROM {role}"),
        // Before Postgres 15 everybody may create tables in `public`.
        format!("REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC"),
        format!("GRANT CONNECT ON DATABASE {database} TO {role}"),
        format!("GRANT USAGE ON SCHEMA {schema} TO {role}"),
        format!("GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO {role}"),
    ];
    let tables = names(
        conn,
        "SELECT relname::text AS name FROM pg_class
         WHERE relkind IN ('r', 'p') AND relnamespace = current_schema()::regnamespace ORDER BY relname",
    );
    for table in tables.await? {
        let rights = match table.as_str() {
            table if READ_ONLY.contains(&table) => "SELECT",
            table if APPEND_ONLY.contains(&table) => "SELECT, INSERT",
            _ => "SELECT, INSERT, UPDATE, DELETE",
        };
        let table = format!("{schema}.\"{}\"", table.replace('"', "\"\""));
        statements.push(format!("GRANT {rights} ON {table} TO {role}"));
    }
    conn.batch_execute(&statements.join(";\n")).await?;
    Ok(Setup::Done)
}

/// The names of our tables, as the generated `schema.rs` has them: the same schema may have others.
fn ours() -> Vec<&'static str> {
    let tables = include_str!("schema.rs").split("diesel::table! {").skip(1);
    let names = tables.filter_map(|text| Some(text.split_once(" (")?.0.trim()));
    names.chain(READ_ONLY.iter().copied()).collect()
}

/// The rights that `serve` needs and the connection's role lacks, one entry for each table: `INSERT on audit_log`.
pub async fn missing(conn: &mut Conn) -> Result<Vec<String>, Error> {
    let rows: Vec<Name> = diesel::sql_query(
        "SELECT string_agg(right_name, ', ' ORDER BY place) || ' on ' || relname AS name
         FROM pg_class CROSS JOIN unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) WITH ORDINALITY AS r (right_name, place)
         WHERE relkind IN ('r', 'p') AND relnamespace = current_schema()::regnamespace AND relname = ANY ($1)
           AND (relname <> ALL ($2) OR right_name IN ('SELECT', 'INSERT'))
           AND (relname <> ALL ($3) OR right_name = 'SELECT')
           AND NOT has_table_privilege(pg_class.oid, right_name)
         GROUP BY relname ORDER BY relname",
    )
    .bind::<Array<Text>, _>(ours())
    .bind::<Array<Text>, _>(APPEND_ONLY)
    .bind::<Array<Text>, _>(READ_ONLY)
    .load(conn)
    .await?;
    Ok(rows.into_iter().map(|row| row.name).collect())
}

/// The rights of the connection's role beyond what `serve` needs, one entry for each; empty if all is well.
pub async fn excess(conn: &mut Conn) -> Result<Vec<String>, Error> {
    // A member that does not inherit can still SET ROLE: every role that this one can become counts.
    names(
        conn,
        "WITH me AS (SELECT rolsuper, rolcreaterole FROM pg_roles WHERE rolname = current_user),
              roles AS (SELECT oid, rolname, rolsuper FROM pg_roles
                        WHERE pg_has_role(current_user, oid, 'MEMBER') AND NOT (SELECT rolsuper FROM me)),
              logs AS (SELECT oid, relname, relowner, relkind FROM pg_class
                       WHERE relnamespace = current_schema()::regnamespace
                         AND relname IN ('audit_log', 'audit_tree', 'audit_nodes', 'audit_checkpoints')),
              owned AS (SELECT relname::text AS name, relowner AS owner FROM logs
                        UNION ALL SELECT 'schema ' || nspname, nspowner FROM pg_namespace
                            WHERE oid = current_schema()::regnamespace
                        UNION ALL SELECT 'database ' || datname, datdba FROM pg_database
                            WHERE datname = current_database())
         SELECT 'it is a superuser' AS name FROM me WHERE rolsuper
         UNION ALL
         SELECT 'it can become the superuser ' || rolname FROM roles WHERE rolsuper
         UNION ALL
         SELECT 'it may make roles (CREATEROLE)' FROM me WHERE rolcreaterole AND NOT rolsuper
         UNION ALL
         SELECT 'it owns ' || name FROM owned WHERE owner IN (SELECT oid FROM roles)
         UNION ALL
         SELECT right_name || ' on ' || relname
         FROM logs CROSS JOIN unnest('{UPDATE,DELETE,TRUNCATE,TRIGGER}'::text[]) AS right_name
         WHERE relkind IN ('r', 'p') AND relowner NOT IN (SELECT oid FROM roles)
           AND EXISTS (SELECT 1 FROM roles r WHERE has_table_privilege(r.oid, logs.oid, right_name))
         UNION ALL
         SELECT 'UPDATE on columns of ' || relname FROM logs
         WHERE relkind IN ('r', 'p') AND relowner NOT IN (SELECT oid FROM roles)
           AND EXISTS (SELECT 1 FROM roles r WHERE has_any_column_privilege(r.oid, logs.oid, 'UPDATE')
                       AND NOT has_table_privilege(r.oid, logs.oid, 'UPDATE'))
         UNION ALL
         SELECT 'UPDATE on ' || relname FROM pg_class s
         WHERE relkind = 'S' AND relnamespace = current_schema()::regnamespace
           AND relname IN ('audit_log_id_seq', 'audit_checkpoints_id_seq')
           AND relowner NOT IN (SELECT oid FROM roles)
           AND EXISTS (SELECT 1 FROM roles r WHERE has_sequence_privilege(r.oid, s.oid, 'UPDATE'))
         UNION ALL
         SELECT 'CREATE in schema ' || current_schema()
         WHERE EXISTS (SELECT 1 FROM roles r WHERE has_schema_privilege(r.oid, current_schema(), 'CREATE'))
         ORDER BY 1",
    )
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_table_is_known_by_its_name() {
        let ours = ours();
        assert_eq!(
            ours.len(),
            include_str!("schema.rs").matches("diesel::table! {").count() + READ_ONLY.len()
        );
        for name in APPEND_ONLY.iter().chain(&["runners", "leases", "sign_in_attempts"]) {
            assert!(ours.contains(name), "{name}: {ours:?}");
        }
        assert!(ours.iter().all(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_')), "{ours:?}");
    }
}
