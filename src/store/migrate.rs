//! The schema of this version: what it takes to get there, and what the database lacks of it.

use diesel::migration::{Migration, MigrationName, MigrationSource};
use diesel::pg::Pg;
use diesel::result::Error as DieselError;
use diesel_async::{AsyncMigrationHarness, RunQueryDsl, SimpleAsyncConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::{Conn, Error, Store};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!();

/// Held while migrating, so that two replicas that start at once don't both try.
const MIGRATION_LOCK: i64 = 0x7275_6e6e_6572;

impl Store {
    /// Brings the schema up to date; the names of the migrations that ran.
    pub async fn migrate(&self) -> Result<Vec<String>, Error> {
        self.disable_hang_detection();
        let mut conn = self.single().await?;
        // Building an index may take longer than any statement of the service.
        conn.batch_execute("SET statement_timeout = 0; SET lock_timeout = '60s'").await?;
        diesel::sql_query(format!("SELECT pg_advisory_lock({MIGRATION_LOCK})")).execute(&mut conn).await?;
        // The harness blocks its thread, so it gets one of its own.
        tokio::task::spawn_blocking(move || {
            let mut harness = AsyncMigrationHarness::new(conn);
            let ran = harness
                .run_pending_migrations(MIGRATIONS)
                .map_err(|err| Error::Migration(err.to_string()))?;
            Ok(ran.iter().map(ToString::to_string).collect())
        })
        .await
        .map_err(|err| Error::Migration(err.to_string()))?
    }

    /// The migrations that this version has and the database lacks. Only reads, so that the service may do
    /// without the right to create tables; diesel's own harness wants it.
    pub async fn pending_migrations(&self) -> Result<Vec<String>, Error> {
        lacking(&mut self.single().await?).await
    }
}

/// As `Store::pending_migrations`, on this connection.
pub async fn lacking(conn: &mut Conn) -> Result<Vec<String>, Error> {
    #[derive(diesel::QueryableByName)]
    struct Applied {
        #[diesel(sql_type = diesel::sql_types::Text)]
        version: String,
    }
    let query = diesel::sql_query("SELECT version FROM __diesel_schema_migrations");
    let applied: Vec<Applied> = match query.load(conn).await {
        Err(DieselError::DatabaseError(_, info)) if info.message().contains("does not exist") => Vec::new(),
        applied => applied?,
    };
    newer_than(applied.iter().map(|row| row.version.as_str()))
}

/// The migrations of this version that are not among these, which are named by their versions.
fn newer_than<'a>(applied: impl Iterator<Item = &'a str>) -> Result<Vec<String>, Error> {
    let applied: Vec<&str> = applied.collect();
    let known: Vec<Box<dyn Migration<Pg>>> =
        MIGRATIONS.migrations().map_err(|err| Error::Migration(err.to_string()))?;
    let is_pending = |name: &dyn MigrationName| !applied.contains(&name.version().to_string().as_str());
    let names = known.iter().map(|migration| migration.name());
    Ok(names.filter(|name| is_pending(*name)).map(ToString::to_string).collect())
}
