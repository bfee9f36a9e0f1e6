//! What an auditor asks for: the last checkpoint, that an event is in it, that it continues an older one.

use super::checkpoint::published;
use crate::broker::people::caller::Caller;
use crate::broker::people::scopes::audit_scope;
use crate::broker::{Broker, Error};
use crate::seal::Hash;
use crate::seal::tree::Proof;
use crate::store::{Conn, audit, audit_sealing, audit_tree};

/// That an event is a leaf of the tree that `checkpoint` signs.
#[derive(Debug)]
pub struct EventProof {
    /// The event.
    pub event_id: i64,
    /// The bytes that were hashed.
    pub record: String,
    /// The position of its leaf, from 0.
    pub leaf_index: u64,
    /// The hash of its leaf (RFC 6962).
    pub leaf_hash: Hash,
    /// The checkpoint's number of leaves.
    pub tree_size: u64,
    /// The hashes of the proof, in the order of RFC 6962.
    pub hashes: Vec<Hash>,
    /// The signed checkpoint, as a note.
    pub checkpoint: String,
}

/// That the tree of `to` leaves begins with that of `from`.
#[derive(Debug)]
pub struct Consistency {
    /// The size of the older tree.
    pub from: u64,
    /// The size of the newer tree.
    pub to: u64,
    /// The hashes of the proof, in the order of RFC 6962.
    pub hashes: Vec<Hash>,
}

async fn prove(conn: &mut Conn, proof: Proof) -> Result<Vec<Hash>, Error> {
    let hashes = audit_tree::subtrees(conn, &proof.needs()).await?;
    proof.from_hashes(hashes).ok_or_else(|| Error::AuditTree(format!("no proof for {proof:?}")))
}

impl Broker {
    /// For an event that the caller may see.
    ///
    /// # Errors
    ///
    /// [`Error::EventNotFound`], [`Error::EventNotSealed`], [`Error::AuditTree`] or [`Error::Store`].
    pub async fn event_proof(&self, caller: &Caller, id: i64) -> Result<EventProof, Error> {
        let mut conn = self.store.conn().await?;
        let event = audit::find(&mut conn, &audit_scope(caller), id).await?;
        event.ok_or(Error::EventNotFound(id))?;
        let leaf = audit_tree::leaf_of(&mut conn, id).await?.ok_or(Error::EventNotSealed(id))?;
        let (checkpoint, head) = published(&mut conn).await.map_err(|err| match err {
            Error::NothingSealed => Error::EventNotSealed(id),
            err => err,
        })?;
        let index = leaf.leaf_index.unsigned_abs();
        if index >= head.size {
            return Err(Error::EventNotSealed(id));
        }
        let hashes = prove(&mut conn, Proof::Inclusion { size: head.size, index }).await?;
        let record = audit_sealing::records(&mut conn, &[id]).await?.pop();
        let record = record.map(|(_, record)| record.bytes()).ok_or(Error::EventNotFound(id))?;
        Ok(EventProof {
            event_id: id,
            record: String::from_utf8_lossy(&record).into_owned(),
            leaf_index: index,
            leaf_hash: leaf.hash()?,
            tree_size: head.size,
            hashes,
            checkpoint,
        })
    }

    /// Between two sizes of the tree; `to` is the last checkpoint's unless given.
    ///
    /// # Errors
    ///
    /// [`Error::NothingSealed`], [`Error::NoSuchTree`], [`Error::AuditTree`] or [`Error::Store`].
    pub async fn consistency(&self, from: u64, to: Option<u64>) -> Result<Consistency, Error> {
        let mut conn = self.store.conn().await?;
        let (_, head) = published(&mut conn).await?;
        let to = to.unwrap_or(head.size);
        if from < 1 || from > to || to > head.size {
            let wanted = format!("1 <= from <= to <= {}, the size of the last checkpoint", head.size);
            return Err(Error::NoSuchTree(wanted));
        }
        let hashes = prove(&mut conn, Proof::Consistency { size: to, from }).await?;
        Ok(Consistency { from, to, hashes })
    }
}
