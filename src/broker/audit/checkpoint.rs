//! What was published last: the checkpoint of the log, and who signed it. Changes nothing.

use chrono::{DateTime, Utc};

use crate::broker::{Broker, Error};
use crate::seal::note::{self, Head};
use crate::store::{Conn, audit_tree};

/// The last checkpoint.
#[derive(Clone, Debug)]
pub struct Published {
    /// The signed note, as it was published.
    pub note: String,
    /// The size and root that it states.
    pub head: Head,
    /// When it was published.
    pub signed_at: DateTime<Utc>,
    /// As names and key ids; empty: nobody signed.
    pub signers: Vec<String>,
    /// The signature is that of this broker's key.
    pub by_our_key: bool,
}

pub(super) async fn published(conn: &mut Conn) -> Result<(String, Head), Error> {
    let text = audit_tree::largest(conn).await?.ok_or(Error::NothingSealed)?.note;
    let head = note::read(&text, None).map_err(|err| Error::AuditTree(err.to_string()))?;
    Ok((text, head))
}

impl Broker {
    /// What an auditor checks the log's checkpoints with. `None`: they are not signed here.
    pub fn verifier_key(&self) -> Option<String> {
        self.signer.get().map(crate::seal::key::SigningKey::verifier_key)
    }

    /// The last checkpoint. `None`: nothing is sealed yet.
    ///
    /// # Errors
    ///
    /// [`Error::AuditTree`] or [`Error::Store`].
    pub async fn published(&self) -> Result<Option<Published>, Error> {
        let mut conn = self.store.conn().await?;
        let Some(found) = audit_tree::largest(&mut conn).await? else { return Ok(None) };
        let head = note::read(&found.note, None).map_err(|err| Error::AuditTree(err.to_string()))?;
        let (signers, signer) = (note::signers(&found.note), self.signer.get());
        let by_our_key = signer.is_some() && note::is_by(&found.note, signer);
        Ok(Some(Published { note: found.note, head, signed_at: found.signed_at, signers, by_our_key }))
    }

    /// The last checkpoint, as it was signed.
    ///
    /// # Errors
    ///
    /// [`Error::NothingSealed`], [`Error::AuditTree`] or [`Error::Store`].
    pub async fn checkpoint(&self) -> Result<String, Error> {
        Ok(published(&mut *self.store.conn().await?).await?.0)
    }
}
