//! One event as it is sealed, with its proof. Changes nothing.

use super::proof::EventProof;
use crate::broker::people::caller::Caller;
use crate::broker::people::scopes::audit_scope;
use crate::broker::{Broker, Error};
use crate::seal::record::Record;
use crate::store::audit::{self, Event};
use crate::store::audit_sealing;

/// One event with what proves it.
#[derive(Debug)]
pub struct Sealed {
    /// The event.
    pub event: Event,
    /// Every column as it is hashed.
    pub record: Record,
    /// `None`: it is not sealed yet.
    pub proof: Option<EventProof>,
}

impl Broker {
    /// An event that the caller may see, with its proof if it is sealed.
    ///
    /// # Errors
    ///
    /// [`Error::EventNotFound`], [`Error::AuditTree`] or [`Error::Store`].
    pub async fn sealed_event(&self, caller: &Caller, id: i64) -> Result<Sealed, Error> {
        let mut conn = self.store.conn().await?;
        let event = audit::find(&mut conn, &audit_scope(caller), id).await?;
        let event = event.ok_or(Error::EventNotFound(id))?;
        let record = audit_sealing::records(&mut conn, &[id]).await?.pop();
        let (_, record) = record.ok_or(Error::EventNotFound(id))?;
        drop(conn);
        let proof = match self.event_proof(caller, id).await {
            Ok(proof) => Some(proof),
            Err(Error::EventNotSealed(_)) => None,
            Err(err) => return Err(err),
        };
        Ok(Sealed { event, record, proof })
    }
}
