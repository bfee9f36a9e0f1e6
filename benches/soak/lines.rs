//! Kept connections for requests that are due at moments of their own: what one waits for a connection counts as well.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::client::Connection;
use crate::tally::{KINDS, Tally};

/// Far more than are ever needed at these rates unless the broker stalls.
const MOST: usize = 200;
/// The broker closes what is idle for 5 s.
const IDLE: Duration = Duration::from_secs(2);
/// Who waits for longer has no answer.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Lines {
    port: u16,
    idle: Mutex<Vec<(Connection, Instant)>>,
    free: Semaphore,
}

impl Lines {
    pub fn to(port: u16) -> Lines {
        Lines { port, idle: Mutex::default(), free: Semaphore::new(MOST) }
    }

    /// The body of a good answer; all else is counted as an error of this kind.
    pub async fn call(&self, tally: &Tally, kind: usize, due: Instant, request: &str) -> Option<Vec<u8>> {
        let answer = timeout(PATIENCE, self.ask(request)).await;
        tally.took(kind, due.elapsed());
        let name = KINDS[kind];
        match answer {
            Ok(Ok((200..300, body))) => return Some(body),
            Ok(Ok((status, _))) => tally.error(&format!("{name} {status}")),
            Ok(Err(_)) => tally.error(&format!("{name} connection lost")),
            Err(_) => tally.error(&format!("{name} no answer")),
        }
        None
    }

    async fn ask(&self, request: &str) -> std::io::Result<(u16, Vec<u8>)> {
        let _free = self.free.acquire().await.map_err(std::io::Error::other)?;
        let mut connection = match self.kept() {
            Some(connection) => connection,
            None => Connection::open(self.port).await?,
        };
        let (status, body) = connection.call(request).await?;
        let answer = (status, body.to_vec());
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push((connection, Instant::now()));
        Ok(answer)
    }

    fn kept(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(_, since)| since.elapsed() < IDLE);
        idle.pop().map(|(connection, _)| connection)
    }
}
