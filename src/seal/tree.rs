//! The Merkle tree of RFC 6962: how it grows, and what a proof needs of it. Knows hashes only, and keeps one for
//! each bit of the tree's size.

use std::cell::RefCell;

use tlog_tiles::{HashReader, node_hash};

use super::Hash;

/// Nodes are kept where the level is a multiple of this: leaves, and complete subtrees of 256, 65,536, … leaves.
pub const SPAN: u8 = 8;

/// A complete subtree: the 2^`level` leaves from `index` · 2^`level` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subtree {
    /// 0 for a single leaf.
    pub level: u8,
    /// Among the subtrees of this level, from 0.
    pub index: u64,
}

impl Subtree {
    /// The kept level at or below it, and the nodes there that make it up.
    pub fn run(self) -> (u8, std::ops::Range<u64>) {
        let up = self.level % SPAN;
        (self.level - up, self.index << up..(self.index + 1) << up)
    }

    /// The largest complete subtrees that together are these leaves, from left to right.
    pub fn covering(leaves: std::ops::Range<u64>) -> Vec<Subtree> {
        let mut subtrees = Vec::new();
        let mut at = leaves.start;
        while at < leaves.end {
            let fits = (leaves.end - at).ilog2();
            let level = if at == 0 { fits } else { fits.min(at.trailing_zeros()) };
            subtrees.push(Subtree { level: level as u8, index: at >> level });
            at += 1 << level;
        }
        subtrees
    }
}

/// The right edge of a tree: what is needed to go on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Frontier {
    size: u64,
    /// Complete subtrees from left to right, each smaller than the one before.
    peaks: Vec<(u8, Hash)>,
}

impl Frontier {
    /// How many leaves the tree has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a complete subtree on the right. `None`: no such subtree can stand there. Otherwise what is now
    /// complete on the kept levels above it.
    pub fn push(&mut self, level: u8, hash: Hash) -> Option<Vec<(Subtree, Hash)>> {
        let leaves = 1_u64.checked_shl(level.into())?;
        if !self.size.is_multiple_of(leaves) {
            return None;
        }
        self.size = self.size.checked_add(leaves)?;
        let (mut level, mut hash, mut complete) = (level, hash, Vec::new());
        while let Some((_, left)) = self.peaks.pop_if(|(peak, _)| *peak == level) {
            hash = node_hash(left, hash);
            level += 1;
            if level.is_multiple_of(SPAN) {
                complete.push((Subtree { level, index: (self.size >> level) - 1 }, hash));
            }
        }
        self.peaks.push((level, hash));
        Some(complete)
    }

    /// The tree's head; of no leaves, the hash of nothing.
    pub fn root(&self) -> Hash {
        let hashes = self.peaks.iter().rev().map(|(_, hash)| *hash);
        hashes.reduce(|right, left| node_hash(left, right)).unwrap_or(tlog_tiles::EMPTY_HASH)
    }
}

/// The hash of a complete subtree from those of its parts on one level.
pub fn fold(hashes: Vec<Hash>) -> Option<Hash> {
    let mut tree = Frontier::default();
    hashes.into_iter().try_for_each(|hash| tree.push(0, hash).map(drop))?;
    (tree.peaks.len() == 1).then(|| tree.root())
}

/// A proof of RFC 6962.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// That a tree of `size` leaves has the leaf `index`, which is less than `size`.
    Inclusion {
        /// Leaves of the tree.
        size: u64,
        /// The leaf.
        index: u64,
    },
    /// That a tree of `size` leaves begins with the tree of its first `from` leaves; 1 ≤ `from` ≤ `size`.
    Consistency {
        /// Leaves of the tree.
        size: u64,
        /// Leaves of the older tree.
        from: u64,
    },
}

impl Proof {
    fn run(self, reader: &impl HashReader) -> Result<Vec<Hash>, tlog_tiles::Error> {
        match self {
            Proof::Inclusion { size, index } => tlog_tiles::prove_record(size, index, reader),
            Proof::Consistency { size, from } => tlog_tiles::prove_tree(size, from, reader),
        }
    }

    /// The subtrees whose hashes [`Proof::from_hashes`] needs, in this order.
    pub fn needs(self) -> Vec<Subtree> {
        let noting = Noting::default();
        // Ends with an error as soon as it has said what it wants; or wants nothing.
        let _ = self.run(&noting);
        let subtree = |at: u64| {
            let (level, index) = tlog_tiles::split_stored_hash_index(at);
            Subtree { level, index }
        };
        noting.0.into_inner().into_iter().map(subtree).collect()
    }

    /// The proof, in the order of RFC 6962. `None`: there is none, as for a leaf outside the tree.
    pub fn from_hashes(self, hashes: Vec<Hash>) -> Option<Vec<Hash>> {
        self.run(&Known(hashes)).ok()
    }
}

#[derive(Default)]
struct Noting(RefCell<Vec<u64>>);

impl HashReader for Noting {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog_tiles::Error> {
        self.0.borrow_mut().extend_from_slice(indexes);
        Err(tlog_tiles::Error::IndexesNotInTree)
    }
}

struct Known(Vec<Hash>);

impl HashReader for Known {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog_tiles::Error> {
        if indexes.len() == self.0.len() {
            Ok(self.0.clone())
        } else {
            Err(tlog_tiles::Error::IndexesNotInTree)
        }
    }
}
