//! The tree's head: nothing is built on a tree that is not what was published last, and whatever is added is
//! published with it, in one transaction.

use chrono::{DateTime, Utc};
use serde_json::json;

use super::Sealer;
use crate::broker::events::{About, Actor, Kind, record};
use crate::broker::lease::fence;
use crate::broker::{Broker, Error};
use crate::seal::Hash;
use crate::seal::note::{self, Head};
use crate::seal::tree::Frontier;
use crate::store;
use crate::store::audit_sealing;
use crate::store::audit_tree::{self, State};
use crate::store::leases::Lease;

/// What a pass puts into its checkpoints.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stamp {
    /// The time of the pass.
    pub at: DateTime<Utc>,
    /// The horizon's time, by which rows are judged in this pass.
    pub settled: Option<DateTime<Utc>>,
}

fn malformed(err: note::Error) -> Error {
    Error::AuditTree(err.to_string())
}

fn is(head: &Head, tree: &Frontier) -> bool {
    head.size == tree.size() && head.root == tree.root()
}

impl Broker {
    /// Makes sure that the tree which is remembered, or else the one in Postgres, is what was published last, by
    /// us. If not, that is reported and nothing is sealed any more.
    pub(super) async fn open(&self, lease: &Lease, sealer: &mut Sealer) -> Result<(), Error> {
        let mut conn = self.store.conn().await?;
        let State { size, note } = audit_tree::state(&mut conn).await?;
        let published = note.as_deref().map(|note| note::read(note, None));
        let signer = self.signer.get();
        let before = sealer.tree.take();
        if let (Some(tree), Some(note), Some(Ok(head))) = (&before, &note, &published)
            && is(head, tree)
            && tree.size() == size.unsigned_abs()
            && note::is_by(note, signer)
        {
            sealer.tree = before;
            return Ok(());
        }
        let loaded = audit_tree::frontier(&mut conn, size.unsigned_abs()).await;
        let is_signed = audit_tree::is_signed(&mut conn).await?;
        drop(conn);
        let tree = match loaded {
            Err(store::Error::Row(_)) => {
                return self.refuse_tree(lease, sealer, "leaves or nodes of the tree are missing").await;
            }
            tree => tree?,
        };
        let head = match published {
            None if size == 0 => None,
            Some(Ok(head)) if is(&head, &tree) => Some(head),
            _ => {
                return self
                    .refuse_tree(lease, sealer, "the tree is not what the last checkpoint says")
                    .await;
            }
        };
        match (signer, head, note) {
            (None, _, _) if is_signed => {
                let why = "its checkpoints were signed, and this replica has no AUDIT_SIGNING_KEY_PATH";
                return Err(Error::AuditTree(why.into()));
            }
            (Some(key), Some(head), Some(note)) if !note::is_by(&note, Some(key)) => {
                if note::is_by_earlier(&note, key) {
                    self.sign_anew(lease, sealer, head, false).await?;
                } else if !is_signed {
                    self.sign_anew(lease, sealer, head, true).await?;
                } else {
                    return self
                        .refuse_tree(lease, sealer, "the last checkpoint is not signed by our key")
                        .await;
                }
            }
            _ => {}
        }
        let is_set_back = before.is_some_and(|before| {
            tree.size() < before.size() || tree.size() == before.size() && tree.root() != before.root()
        });
        if is_set_back {
            self.report_tree(lease, sealer, "the log was set back to an older state").await?;
        }
        sealer.tree = Some(tree);
        Ok(())
    }

    async fn refuse_tree(&self, lease: &Lease, sealer: &mut Sealer, why: &'static str) -> Result<(), Error> {
        self.report_tree(lease, sealer, why).await?;
        Err(Error::AuditTree(why.into()))
    }

    /// Publishes what was published, now with our signature. Where nobody's was before, the log is taken on trust,
    /// which is an event.
    async fn sign_anew(
        &self,
        lease: &Lease,
        sealer: &Sealer,
        head: Head,
        trusted: bool,
    ) -> Result<(), Error> {
        let note = note::write(head, self.signer.get()).map_err(malformed)?;
        let at = sealer.stamp.at;
        let event = self.event(Kind::AuditLogMoved, Actor::System("seal")).with(json!({
            "why": "the log was sealed without a key before",
            "tree_size": head.size,
        }));
        self.store
            .transaction::<_, Error, _>(async |conn| {
                fence(conn, Some(lease)).await?;
                audit_tree::publish(conn, head.size as i64, &note, at).await?;
                if trusted { record(conn, event).await } else { Ok(()) }
            })
            .await
    }

    /// Makes these rows the next leaves, in this order, and publishes the tree that they make.
    pub(super) async fn add(&self, lease: &Lease, sealer: &mut Sealer, ids: &[i64]) -> Result<u64, Error> {
        if ids.is_empty() {
            return Ok(0);
        }
        let Stamp { at, settled } = sealer.stamp;
        let records = audit_sealing::records(&mut *self.store.conn().await?, ids).await?;
        let tree = sealer.tree.as_mut().ok_or_else(|| Error::AuditTree("it is not open".into()))?;
        let from = tree.size();
        let (mut leaves, mut nodes): (Vec<(i64, Hash)>, Vec<_>) = (Vec::with_capacity(ids.len()), Vec::new());
        for (id, record) in &records {
            let hash = record.leaf_hash();
            leaves.push((*id, hash));
            nodes.extend(tree.push(0, hash).unwrap_or_default());
        }
        let head = Head { size: tree.size(), root: tree.root(), settled };
        let note = note::write(head, self.signer.get()).map_err(malformed)?;
        let expect = |wanted: u64, size: i64| match size.unsigned_abs() == wanted {
            true => Ok(()),
            false => Err(Error::AuditTree(format!("{wanted} leaves expected, {size} there"))),
        };
        self.store
            .transaction::<_, Error, _>(async |conn| {
                fence(conn, Some(lease)).await?;
                let size = audit_tree::size(conn).await?;
                expect(from, size)?;
                audit_tree::append(conn, size, &leaves, &nodes).await?;
                expect(head.size, audit_tree::size(conn).await?)?;
                Ok(audit_tree::publish(conn, head.size as i64, &note, at).await?)
            })
            .await?;
        Ok(leaves.len() as u64)
    }

    /// Writes an event about a tree that is not what was published, once a leadership.
    async fn report_tree(&self, lease: &Lease, sealer: &mut Sealer, why: &'static str) -> Result<(), Error> {
        if !sealer.has_reported_tree {
            self.record_tampering(lease, &[], why).await?;
            sealer.has_reported_tree = true;
        }
        Ok(())
    }
}
