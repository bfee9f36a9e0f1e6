//! The leader's lease: taken, prolonged and given up here, and checked by every write that it protects.

use uuid::Uuid;

use super::{Broker, Error};
use crate::store::Conn;
use crate::store::leases::{self, Lease};

/// The lease of everything that only one replica may do.
pub const LEADER: &str = "leader";

impl Broker {
    /// Takes or prolongs the leader's lease. `None`: another replica has it.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    pub async fn lead(&self, replica: Uuid) -> Result<Option<Lease>, Error> {
        let mut conn = self.store.conn().await?;
        Ok(leases::acquire(&mut conn, LEADER, replica, self.config.lease).await?)
    }

    /// Gives the lease up at the end.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    pub async fn step_down(&self, lease: &Lease) -> Result<(), Error> {
        let mut conn = self.store.conn().await?;
        Ok(leases::release(&mut conn, lease).await?)
    }
}

/// The first statement of everything that a leader writes: does nothing if another leads by now.
pub(in crate::broker) async fn fence(conn: &mut Conn, lease: Option<&Lease>) -> Result<(), Error> {
    match lease {
        Some(lease) if !leases::hold(conn, lease).await? => Err(Error::LeaseLost),
        _ => Ok(()),
    }
}
