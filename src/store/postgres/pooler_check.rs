//! Finds out whether each connection has a session of its own. A pooler in transaction mode gives a session to another
//! client after each transaction, and with it our time limits and prepared statements.
//!
//! At the start two connections are held and compare who serves them: one process for both, or another one for the
//! same, is a pooler that shares sessions.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::model::with_causes;
use crate::store::{Error, Server};

/// For one statement.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Poolers that follow what a client does (RDS Proxy) give it a session of its own once it has set something.
const MARK_SESSION: &str = "SET runner_broker.session = 'own'";
/// Identifies the session. Two servers may use the same process id, hence the start time.
const SESSION_ID: &str = "SELECT pg_backend_pid() || '@' || pg_postmaster_start_time()";

/// Fails with [`Error::Pooled`] if two open connections share a session or if one of them changes its session. In
/// transaction mode the second connection gets the session that the first has just left; the odd number of questions
/// finds poolers that assign sessions in turn.
pub async fn check(server: &Server) -> Result<(), Error> {
    let (one, other) = (marked(server).await?, marked(server).await?);
    let own = session_id(&one).await?;
    for round in 0..4 {
        let mut theirs = session_id(&other).await?;
        if round % 2 == 1 {
            theirs = session_id(&other).await?;
        }
        if theirs == own || session_id(&one).await? != own {
            return Err(Error::Pooled);
        }
    }
    Ok(())
}

async fn marked(server: &Server) -> Result<Client, Error> {
    let client = server.client().await.map_err(Error::Unavailable)?;
    match timeout(TIMEOUT, client.batch_execute(MARK_SESSION)).await {
        Ok(Ok(())) => Ok(client),
        Ok(Err(err)) => Err(Error::Unavailable(with_causes(&err))),
        Err(_) => Err(late()),
    }
}

async fn session_id(client: &Client) -> Result<String, Error> {
    let rows = timeout(TIMEOUT, client.simple_query(SESSION_ID)).await.map_err(|_| late())?;
    let rows = rows.map_err(|err| Error::Unavailable(with_causes(&err)))?;
    let row = rows.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    row.map(str::to_owned).ok_or_else(|| Error::Row("a backend without a process".into()))
}

/// In session mode a pooler has a server for each of its clients, or lets them wait.
fn late() -> Error {
    Error::Unavailable("no session in time; a pooler needs one for each connection of each replica".into())
}
