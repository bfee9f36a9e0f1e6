//! The tables `audit_tree`, `audit_nodes` and `audit_checkpoints`: the Merkle tree over `audit_log`. Rows are
//! added and read, never changed; triggers refuse anything else.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Binary, Bool, Nullable, Text};
use diesel_async::RunQueryDsl;

use super::schema::{audit_checkpoints, audit_nodes, audit_tree};
use super::{Conn, Error};
use crate::seal::Hash;
use crate::seal::tree::{Frontier, SPAN, Subtree, fold};

/// A leaf as the table has it.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = audit_tree, check_for_backend(diesel::pg::Pg))]
pub struct Leaf {
    /// From 0.
    pub leaf_index: i64,
    /// The event in `audit_log`.
    pub event_id: i64,
    /// 32 bytes.
    pub leaf_hash: Vec<u8>,
}

impl Leaf {
    /// The leaf hash. An error if it does not have 32 bytes.
    pub fn hash(&self) -> Result<Hash, Error> {
        hash(&self.leaf_hash)
    }
}

/// What was published of a tree.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = audit_checkpoints, check_for_backend(diesel::pg::Pg))]
pub struct Checkpoint {
    /// The number of leaves.
    pub tree_size: i64,
    /// The signed note, or the bare checkpoint if there was no key.
    pub note: String,
    /// When it was published.
    pub signed_at: DateTime<Utc>,
}

fn hash(bytes: &[u8]) -> Result<Hash, Error> {
    bytes.try_into().map(Hash).map_err(|_| Error::Row("a hash of the audit log's tree".into()))
}

/// The number of leaves, going by the last one.
pub async fn size(conn: &mut Conn) -> Result<i64, Error> {
    let last: Option<i64> =
        audit_tree::table.select(diesel::dsl::max(audit_tree::leaf_index)).first(conn).await?;
    Ok(last.map_or(0, |last| last + 1))
}

/// Adds leaves in this order, the first at `from`, with the nodes that became complete.
pub async fn append(
    conn: &mut Conn,
    from: i64,
    leaves: &[(i64, Hash)],
    nodes: &[(Subtree, Hash)],
) -> Result<(), Error> {
    let (ids, hashes): (Vec<i64>, Vec<&[u8]>) = leaves.iter().map(|(id, hash)| (*id, &hash.0[..])).unzip();
    diesel::sql_query(
        "INSERT INTO audit_tree (leaf_index, event_id, leaf_hash)
         SELECT $1 + new.place - 1, new.id, new.hash
         FROM unnest($2, $3) WITH ORDINALITY AS new (id, hash, place)",
    )
    .bind::<BigInt, _>(from)
    .bind::<Array<BigInt>, _>(ids)
    .bind::<Array<Binary>, _>(hashes)
    .execute(conn)
    .await?;
    let nodes: Vec<_> = nodes
        .iter()
        .map(|(subtree, hash)| {
            (
                audit_nodes::level.eq(i32::from(subtree.level)),
                audit_nodes::node_index.eq(subtree.index as i64),
                audit_nodes::hash.eq(&hash.0[..]),
            )
        })
        .collect();
    if !nodes.is_empty() {
        diesel::insert_into(audit_nodes::table).values(nodes).execute(conn).await?;
    }
    Ok(())
}

/// Hashes of one kept level, from left to right; fewer if they are not there.
pub async fn run(conn: &mut Conn, level: u8, run: std::ops::Range<u64>) -> Result<Vec<Hash>, Error> {
    let (from, until) = (run.start as i64, run.end as i64);
    let found: Vec<(i64, Vec<u8>)> = match level {
        0 => {
            let leaves = audit_tree::table
                .filter(audit_tree::leaf_index.ge(from).and(audit_tree::leaf_index.lt(until)))
                .order(audit_tree::leaf_index);
            leaves.select((audit_tree::leaf_index, audit_tree::leaf_hash)).load(conn).await?
        }
        level => {
            let nodes = audit_nodes::table
                .filter(audit_nodes::level.eq(i32::from(level)))
                .filter(audit_nodes::node_index.ge(from).and(audit_nodes::node_index.lt(until)))
                .order(audit_nodes::node_index);
            nodes.select((audit_nodes::node_index, audit_nodes::hash)).load(conn).await?
        }
    };
    found.iter().map(|(_, bytes)| hash(bytes)).collect()
}

/// The hashes of these subtrees.
pub async fn subtrees(conn: &mut Conn, subtrees: &[Subtree]) -> Result<Vec<Hash>, Error> {
    let mut hashes = Vec::with_capacity(subtrees.len());
    for subtree in subtrees {
        let (level, range) = subtree.run();
        let parts = run(conn, level, range).await?;
        hashes.push(fold(parts).ok_or_else(|| Error::Row(format!("the audit log's tree at {subtree:?}")))?);
    }
    Ok(hashes)
}

/// The right edge of the tree of the first `size` leaves.
pub async fn frontier(conn: &mut Conn, size: u64) -> Result<Frontier, Error> {
    let torn = || Error::Row("the audit log's tree: a node is missing".into());
    let mut tree = Frontier::default();
    let levels: Vec<u8> = (0..64).step_by(SPAN.into()).collect();
    for level in levels.into_iter().rev() {
        let nodes = size >> level;
        let begun = nodes - nodes % (1 << SPAN);
        if begun == nodes {
            continue;
        }
        for hash in run(conn, level, begun..nodes).await? {
            tree.push(level, hash).ok_or_else(torn)?;
        }
    }
    if tree.size() == size { Ok(tree) } else { Err(torn()) }
}

/// The leaf of an event.
pub async fn leaf_of(conn: &mut Conn, event_id: i64) -> Result<Option<Leaf>, Error> {
    let leaf = audit_tree::table.filter(audit_tree::event_id.eq(event_id));
    Ok(leaf.select(Leaf::as_select()).first(conn).await.optional()?)
}

/// The leaves of these events, in no order.
pub async fn leaves_of(conn: &mut Conn, event_ids: &[i64]) -> Result<Vec<Leaf>, Error> {
    let leaves = audit_tree::table.filter(audit_tree::event_id.eq_any(event_ids));
    Ok(leaves.select(Leaf::as_select()).load(conn).await?)
}

/// Leaves in their order, from one on.
pub async fn leaves(conn: &mut Conn, from: i64, limit: i64) -> Result<Vec<Leaf>, Error> {
    Ok(audit_tree::table
        .filter(audit_tree::leaf_index.ge(from))
        .order(audit_tree::leaf_index)
        .limit(limit)
        .select(Leaf::as_select())
        .load(conn)
        .await?)
}

#[derive(QueryableByName)]
struct Torn {
    #[diesel(sql_type = BigInt)]
    leaf_index: i64,
    #[diesel(sql_type = BigInt)]
    event_id: i64,
}

/// Those of the leaves in this range whose event is not there, as (leaf, event).
pub async fn without_event(conn: &mut Conn, from: i64, until: i64) -> Result<Vec<(i64, i64)>, Error> {
    let torn: Vec<Torn> = diesel::sql_query(
        "SELECT t.leaf_index, t.event_id FROM audit_tree t
         WHERE t.leaf_index >= $1 AND t.leaf_index < $2
           AND NOT EXISTS (SELECT 1 FROM audit_log l WHERE l.id = t.event_id)
         ORDER BY t.leaf_index",
    )
    .bind::<BigInt, _>(from)
    .bind::<BigInt, _>(until)
    .load(conn)
    .await?;
    Ok(torn.into_iter().map(|torn| (torn.leaf_index, torn.event_id)).collect())
}

/// Publishes a checkpoint.
pub async fn publish(conn: &mut Conn, tree_size: i64, note: &str, at: DateTime<Utc>) -> Result<(), Error> {
    let row = (
        audit_checkpoints::tree_size.eq(tree_size),
        audit_checkpoints::note.eq(note),
        audit_checkpoints::signed_at.eq(at),
    );
    diesel::insert_into(audit_checkpoints::table).values(row).execute(conn).await?;
    Ok(())
}

/// Checkpoints of more than `after` and up to `until` leaves, the smallest first.
pub async fn checkpoints(conn: &mut Conn, after: i64, until: i64) -> Result<Vec<Checkpoint>, Error> {
    Ok(audit_checkpoints::table
        .filter(audit_checkpoints::tree_size.gt(after).and(audit_checkpoints::tree_size.le(until)))
        .order((audit_checkpoints::tree_size, audit_checkpoints::id))
        .select(Checkpoint::as_select())
        .load(conn)
        .await?)
}

/// The checkpoint of the largest tree, whatever was published after it.
pub async fn largest(conn: &mut Conn) -> Result<Option<Checkpoint>, Error> {
    Ok(audit_checkpoints::table
        .order((audit_checkpoints::tree_size.desc(), audit_checkpoints::id.desc()))
        .select(Checkpoint::as_select())
        .first(conn)
        .await
        .optional()?)
}

/// The number of leaves and the largest checkpoint, at one moment: one is never without the other.
#[derive(Clone, Debug, QueryableByName)]
pub struct State {
    /// The number of leaves.
    #[diesel(sql_type = BigInt)]
    pub size: i64,
    /// Of the largest checkpoint. `None`: nothing was sealed yet.
    #[diesel(sql_type = Nullable<Text>)]
    pub note: Option<String>,
}

/// Reads both in one statement.
pub async fn state(conn: &mut Conn) -> Result<State, Error> {
    Ok(diesel::sql_query(
        "SELECT coalesce((SELECT max(leaf_index) + 1 FROM audit_tree), 0) AS size,
                (SELECT note FROM audit_checkpoints ORDER BY tree_size DESC, id DESC LIMIT 1) AS note",
    )
    .get_result(conn)
    .await?)
}

/// Whether any checkpoint is signed, by whomever.
pub async fn is_signed(conn: &mut Conn) -> Result<bool, Error> {
    #[derive(QueryableByName)]
    struct Signed {
        #[diesel(sql_type = Bool)]
        signed: bool,
    }
    let query = "SELECT EXISTS (SELECT 1 FROM audit_checkpoints WHERE strpos(note, E'\\n\\n') > 0) AS signed";
    let found: Signed = diesel::sql_query(query).get_result(conn).await?;
    Ok(found.signed)
}
