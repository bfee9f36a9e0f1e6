//! What people look at in the log besides its list: one event as it is sealed, what was published last, and what an
//! export takes along. Changes nothing.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::proof::EventProof;
use crate::broker::people::caller::Caller;
use crate::broker::{Broker, Error, audit_scope};
use crate::model::Role;
use crate::seal::Hash;
use crate::seal::export::line;
use crate::seal::note::{self, Head};
use crate::seal::record::Record;
use crate::store::audit::{self, Event, Filter};
use crate::store::{audit_sealing, audit_tree};

/// How many events one export holds at most; commands export everything.
pub const MOST_EXPORTED: usize = 100_000;

/// How many are read at once for an export.
const AT_ONCE: i64 = 500;

/// The last checkpoint.
#[derive(Clone, Debug)]
pub struct Published {
    pub note: String,
    pub head: Head,
    pub signed_at: DateTime<Utc>,
    /// As names and key ids; empty: nobody signed.
    pub signers: Vec<String>,
    /// The signature is that of this broker's key.
    pub by_our_key: bool,
}

/// One event with what proves it.
#[derive(Debug)]
pub struct Sealed {
    pub event: Event,
    /// Every column as it is hashed.
    pub record: Record,
    /// `None`: it is not sealed yet.
    pub proof: Option<EventProof>,
}

/// Where an export is: what is still to come of it.
#[derive(Clone, Debug)]
pub struct Export {
    caller: Caller,
    filter: Filter,
    before: Option<i64>,
    left: usize,
}

/// An event of an export; `line` is that of `export-audit-log`.
#[derive(Debug)]
pub struct Exported {
    pub event: Event,
    pub line: String,
}

impl Export {
    /// What this caller may see of what fits the filter, newest first.
    pub fn new(caller: Caller, filter: Filter) -> Export {
        Export { caller, filter, before: None, left: MOST_EXPORTED }
    }
}

impl Broker {
    /// What an auditor checks the log's checkpoints with. `None`: they are not signed here.
    pub fn verifier_key(&self) -> Option<String> {
        self.signer.get().map(crate::seal::key::SigningKey::verifier_key)
    }

    /// The last checkpoint. `None`: nothing is sealed yet.
    pub async fn published(&self) -> Result<Option<Published>, Error> {
        let mut conn = self.store.conn().await?;
        let Some(found) = audit_tree::largest(&mut conn).await? else { return Ok(None) };
        let head = note::read(&found.note, None).map_err(|err| Error::AuditTree(err.to_string()))?;
        let (signers, signer) = (note::signers(&found.note), self.signer.get());
        let by_our_key = signer.is_some() && note::is_by(&found.note, signer);
        Ok(Some(Published { note: found.note, head, signed_at: found.signed_at, signers, by_our_key }))
    }

    /// An event that the caller may see, with its proof if it is sealed.
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

    /// The next events of an export; empty at its end. Those who may see the whole log get each event's leaf with it.
    /// A connection is held only while this reads.
    pub async fn export(&self, export: &mut Export) -> Result<Vec<Exported>, Error> {
        let scope = audit_scope(&export.caller);
        let mut conn = self.store.conn().await?;
        let mut events = Vec::new();
        // A page may have found nothing yet, and yet not be the last.
        while events.is_empty() && export.left > 0 {
            let limit = AT_ONCE.min(export.left as i64);
            let (found, next) = audit::page(&mut conn, &scope, &export.filter, export.before, limit).await?;
            export.left = if next.is_none() { 0 } else { export.left - found.len() };
            (export.before, events) = (next, found);
        }
        let ids: Vec<i64> = events.iter().map(|event| event.id).collect();
        let records = audit_sealing::records(&mut conn, &ids).await?;
        let mut records: HashMap<i64, Record> = records.into_iter().collect();
        let sees_all = export.caller.has(Role::Admin) || export.caller.has(Role::Auditor);
        let leaves = if sees_all { audit_tree::leaves_of(&mut conn, &ids).await? } else { Vec::new() };
        drop(conn);
        let leaves: HashMap<i64, _> = leaves.into_iter().map(|leaf| (leaf.event_id, leaf)).collect();
        let exported = |event: Event| {
            let leaf = leaves
                .get(&event.id)
                .map(|leaf| Ok::<(u64, Hash), Error>((leaf.leaf_index as u64, leaf.hash()?)));
            let record = records.remove(&event.id).ok_or(Error::EventNotFound(event.id))?;
            let line = line(event.id, event.timestamp, record, leaf.transpose()?);
            let line = line.ok_or_else(|| Error::AuditTree(format!("event {} cannot be read", event.id)))?;
            Ok(Exported { event, line })
        };
        events.into_iter().map(exported).collect()
    }
}
