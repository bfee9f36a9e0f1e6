//! Whether a connection is a session of its own. A pooler in transaction mode hands the same session to somebody
//! else after each transaction: our time limits would be lost, and prepared statements be somebody else's.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::store::{Error, Server};

const PATIENCE: Duration = Duration::from_secs(5);

/// Poolers that follow what a client does (RDS Proxy) give it a session of its own once it has set something.
const MARK: &str = "SET runner_broker.session = 'own'";
/// Process ids repeat themselves on several servers.
const WHO: &str = "SELECT pg_backend_pid() || '@' || pg_postmaster_start_time()";

/// Two connections that are both there never have the same session, and each keeps its own. In transaction mode the
/// second gets what the first has just left; the odd number of questions is for poolers that deal round and round.
pub async fn check(server: &Server) -> Result<(), Error> {
    let (one, other) = (marked(server).await?, marked(server).await?);
    let own = who(&one).await?;
    for round in 0..4 {
        let mut theirs = who(&other).await?;
        if round % 2 == 1 {
            theirs = who(&other).await?;
        }
        if theirs == own || who(&one).await? != own {
            return Err(Error::Pooled);
        }
    }
    Ok(())
}

async fn marked(server: &Server) -> Result<Client, Error> {
    let client = server.client().await.map_err(Error::Unavailable)?;
    match timeout(PATIENCE, client.batch_execute(MARK)).await {
        Ok(Ok(())) => Ok(client),
        Ok(Err(err)) => Err(Error::Unavailable(super::connect::chain(&err))),
        Err(_) => Err(late()),
    }
}

async fn who(client: &Client) -> Result<String, Error> {
    let rows = timeout(PATIENCE, client.simple_query(WHO)).await.map_err(|_| late())?;
    let rows = rows.map_err(|err| Error::Unavailable(super::connect::chain(&err)))?;
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
