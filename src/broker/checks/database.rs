//! Postgres: whether it is there, is new enough, has the schema, and lets our role do what it needs and no more.

use std::time::Instant;

use super::{Area, Check, Code};
use crate::broker::Broker;
use crate::store::server_info::{self, Server};
use crate::store::{self, Conn, service_role};

/// Postgres is close, or every provision is slow.
const SLOW_MS: u128 = 50;
/// How often Postgres is asked before it counts as slow.
const ATTEMPTS: usize = 3;
/// `xid8` and its functions, by `server_version_num`.
const OLDEST: i32 = 130_000;
/// So many lines of what a role may or may not are shown.
const LINES: usize = 8;

const AREA: Area = Area::Database;
const SERVER: &str = "Postgres";
const SCHEMA: &str = "Schema";
const ROLE: &str = "Privileges";

/// Whether what is in the tables can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tables {
    /// They can be read.
    Readable,
    /// Why not is in the checks.
    Unreadable,
}

impl Broker {
    pub(super) async fn database(&self) -> (Vec<Check>, Tables) {
        let begun = Instant::now();
        let asked = async {
            let mut conn = self.store.conn().await?;
            let waited = begun.elapsed();
            let mut asked = Instant::now();
            let mut server = server_info::server(&mut conn).await?;
            let mut took = asked.elapsed();
            // The fastest answer says how far away Postgres is: a single one may have waited for a busy machine.
            for _ in 1..ATTEMPTS {
                if took.as_millis() <= SLOW_MS {
                    break;
                }
                asked = Instant::now();
                server = server_info::server(&mut conn).await?;
                took = took.min(asked.elapsed());
            }
            Ok::<_, store::Error>((conn, server, waited, took))
        };
        let (mut conn, server, waited, took) = match asked.await {
            Ok(answered) => answered,
            Err(err) => return (vec![away(&err)], Tables::Unreadable),
        };
        let pool = self.store.status();
        let detail = format!(
            "version {}, answers in {} ms ({} ms for a connection), {} of {} connections free",
            server.version,
            took.as_millis(),
            waited.as_millis(),
            pool.available,
            pool.size
        );
        let mut checks = vec![match server.number {
            ..OLDEST => Check::fault(AREA, SERVER, Code::DatabaseTooOld, detail)
                .advise("move to Postgres 13 or later"),
            _ if took.as_millis() > SLOW_MS => Check::warning(AREA, SERVER, Code::DatabaseSlow, detail)
                .advise("put the broker nearer to its database"),
            _ => Check::ok(AREA, SERVER, detail),
        }];
        match inside(&mut conn, &server).await {
            Ok((further, tables)) => {
                checks.extend(further);
                (checks, tables)
            }
            Err(err) => {
                checks.push(refused(SCHEMA, &err));
                (checks, Tables::Unreadable)
            }
        }
    }
}

async fn inside(conn: &mut Conn, server: &Server) -> Result<(Vec<Check>, Tables), store::Error> {
    let Some(schema) = &server.schema else {
        let detail = format!(
            "role {} may use no schema of its search path ({}): it lacks USAGE",
            server.role, server.search_path
        );
        let checks = vec![
            Check::not_checked(AREA, SCHEMA, "the role sees none"),
            Check::fault(AREA, ROLE, Code::PrivilegesMissing, detail).advise(grant(&server.role)),
        ];
        return Ok((checks, Tables::Unreadable));
    };
    let missing = service_role::missing(conn).await?;
    let role = privileges(&server.role, &missing, &service_role::excess(conn).await?);
    // Without it nobody can tell.
    if missing.iter().any(|line| line.ends_with("on __diesel_schema_migrations")) {
        let schema = Check::not_checked(AREA, SCHEMA, "the role may not read which migrations ran");
        return Ok((vec![schema, role], Tables::Unreadable));
    }
    let lacking = store::lacking(conn).await?;
    if !lacking.is_empty() {
        let detail = format!("schema {schema} lacks {} migration(s): {}", lacking.len(), listed(&lacking));
        let old = Check::fault(AREA, SCHEMA, Code::SchemaOld, detail)
            .advise("run 'runner-broker migrate' as the owner of the tables; serve does not start before");
        return Ok((vec![old, role], Tables::Unreadable));
    }
    let tables = match missing.iter().any(|line| line.starts_with("SELECT")) {
        true => Tables::Unreadable,
        false => Tables::Readable,
    };
    Ok((vec![Check::ok(AREA, SCHEMA, format!("schema {schema} has all migrations")), role], tables))
}

fn privileges(role: &str, missing: &[String], excess: &[String]) -> Check {
    if !missing.is_empty() {
        let detail = format!("role {role} lacks {}", listed(missing));
        return Check::fault(AREA, ROLE, Code::PrivilegesMissing, detail).advise(grant(role));
    }
    if !excess.is_empty() {
        let detail = format!(
            "role {role} can do more than it needs, so that the audit log can be changed with it: {}",
            listed(excess)
        );
        return Check::warning(AREA, ROLE, Code::PrivilegesExcess, detail).advise(
            "make a role of its own for serve and run 'runner-broker migrate --service-role NAME', which also takes \
             away what a role was given too much",
        );
    }
    Check::ok(AREA, ROLE, format!("role {role} may do what it needs, and no more"))
}

fn grant(role: &str) -> String {
    format!(
        "run 'runner-broker migrate --service-role {role}' with a DATABASE_URL of the owner of the tables"
    )
}

fn listed(lines: &[String]) -> String {
    let shown = lines.iter().take(LINES).map(String::as_str).collect::<Vec<_>>().join("; ");
    match lines.len().saturating_sub(LINES) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}

/// Of a Postgres that lets nobody in, or cannot be reached.
pub(super) fn away(err: &store::Error) -> Check {
    let why = err.to_string();
    let said = |part: &str| why.contains(part);
    let advice = match err {
        store::Error::Pooled => {
            return Check::fault(AREA, SERVER, Code::DatabasePooled, why)
                .advise("set pool_mode=session for this database, or connect to Postgres itself");
        }
        store::Error::Statement(_) => return refused(SERVER, err),
        _ if said("authentication failed") => "check the user and the password in DATABASE_URL",
        _ if said("database \"") && said("does not exist") => {
            "check the database's name in DATABASE_URL, or make it with CREATE DATABASE"
        }
        _ if said("role \"") && said("does not exist") => "check the user in DATABASE_URL, or make the role",
        _ if said("no pg_hba.conf entry") => "the server's pg_hba.conf lets nobody in from here as this user",
        _ if said("certificate") || said("TLS") => "check sslmode and sslrootcert in DATABASE_URL",
        _ if said("too many clients") || said("remaining connection slots") => {
            "raise max_connections: each replica takes some connections for each core"
        }
        _ => {
            "check the host and port in DATABASE_URL, and that Postgres runs there: nothing works without it"
        }
    };
    Check::fault(AREA, SERVER, Code::DatabaseUnavailable, why).advise(advice)
}

fn refused(what: &str, err: &store::Error) -> Check {
    let why = match err {
        store::Error::Statement(cause) => format!("{err}: {cause}"),
        err => err.to_string(),
    };
    Check::fault(AREA, what, Code::DatabaseRefuses, why)
        .advise("the words are Postgres' own; its log says more")
}
