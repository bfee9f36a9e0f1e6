//! Checkpoints: origin, size, root hash and, as an extension line, up to when all is settled; signed as a note or,
//! without a key, bare.

use chrono::{DateTime, Utc};
use signed_note::{Note, Signature};
use tlog_tiles::Checkpoint;

use super::key::{SigningKey, VerifierKey};
use super::{Hash, ORIGIN};

/// Begins the extension line.
const SETTLED: &str = "settled ";

/// Why a text is not a checkpoint of this log.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text is not a checkpoint, or its signature lines are malformed.
    #[error("not a checkpoint")]
    Malformed,
    /// The first line names another log.
    #[error("a checkpoint of another log ('{0}')")]
    OtherLog(String),
    /// A key was given, and there is no signature.
    #[error("not signed")]
    Unsigned,
    /// There is no valid signature of the given key.
    #[error("not signed by the key that was given")]
    Signature,
}

/// A tree's size and root, and what its sealer knew.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Head {
    /// The number of leaves.
    pub size: u64,
    /// The hash of the tree's root.
    pub root: Hash,
    /// Transactions that write events which are not in this tree began after it.
    pub settled: Option<DateTime<Utc>>,
}

/// The checkpoint of a tree; bare without a key.
pub fn write(head: Head, key: Option<&SigningKey>) -> Result<String, Error> {
    let settled = head.settled.map(|at| format!("{SETTLED}{}\n", at.format("%Y-%m-%dT%H:%M:%S%.6fZ")));
    let text = Checkpoint::new(ORIGIN, head.size, head.root, &settled.unwrap_or_default());
    let text = text.map_err(|_| Error::Malformed)?.to_bytes();
    let bytes = match key {
        None => text,
        Some(key) => {
            let signature = key.sign(&text).ok_or(Error::Malformed)?;
            Note::new(&text, &[signature]).map_err(|_| Error::Malformed)?.to_bytes()
        }
    };
    String::from_utf8(bytes).map_err(|_| Error::Malformed)
}

/// Reads a checkpoint. With a key its signature must be there and right; without one it is not looked at.
pub fn read(text: &str, key: Option<&VerifierKey>) -> Result<Head, Error> {
    let body = match (is_signed(text), key) {
        (false, Some(_)) => return Err(Error::Unsigned),
        (false, None) => text.as_bytes().to_vec(),
        (true, key) => {
            let note = Note::from_bytes(text.as_bytes()).map_err(|_| Error::Malformed)?;
            if let Some(key) = key {
                note.verify(&key.known()).map_err(|_| Error::Signature)?;
            }
            note.text().to_vec()
        }
    };
    let checkpoint = Checkpoint::from_bytes(&body).map_err(|_| Error::Malformed)?;
    match checkpoint.origin() {
        ORIGIN => {
            let settled = checkpoint.extension().lines().find_map(|line| line.strip_prefix(SETTLED));
            let settled =
                settled.map(DateTime::parse_from_rfc3339).transpose().map_err(|_| Error::Malformed)?;
            let settled = settled.map(|at| at.to_utc());
            Ok(Head { size: checkpoint.size(), root: *checkpoint.hash(), settled })
        }
        other => Err(Error::OtherLog(other.to_owned())),
    }
}

/// Whether there is a signature at all.
pub fn is_signed(text: &str) -> bool {
    text.contains("\n\n")
}

/// Whose signatures it bears, as name and key id; whether they are right is not looked at.
pub fn signers(text: &str) -> Vec<String> {
    let Some((_, signatures)) = text.split_once("\n\n") else { return Vec::new() };
    let read = signatures.lines().filter_map(|line| Signature::from_bytes(line.as_bytes()).ok());
    read.map(|one| format!("{}+{:08x}", one.name(), one.id())).collect()
}

/// Whether this note was signed by this key; of none: whether it is bare.
pub fn is_by(text: &str, key: Option<&SigningKey>) -> bool {
    match key.map(SigningKey::verifier) {
        None => !is_signed(text),
        Some(Ok(verifier)) => read(text, Some(&verifier)).is_ok(),
        Some(Err(_)) => false,
    }
}

/// Whether this note was signed by a key that this one was put in the place of.
pub fn is_by_earlier(text: &str, key: &SigningKey) -> bool {
    key.earlier().is_some_and(|earlier| read(text, Some(earlier)).is_ok())
}
