//! What the service's role may do in Postgres.

use super::{Broker, Error};
use crate::store::Store;
use crate::store::service_role::{self, Setup};

/// Gives the service's role what it needs and no more; as the owner of the tables.
pub async fn set_up_role(store: &Store, role: &str) -> Result<Setup, Error> {
    store.transaction::<_, Error, _>(async |conn| Ok(service_role::set_up(conn, role).await?)).await
}

impl Broker {
    /// What our role in Postgres can do beyond what it needs.
    pub async fn excess_rights(&self) -> Result<Vec<String>, Error> {
        Ok(service_role::excess(&mut *self.store.conn().await?).await?)
    }
}
