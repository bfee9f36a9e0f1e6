//! The audit log: reading it, exporting it, proving it, and sealing it.

pub mod checkpoint;
pub mod csv;
pub mod event;
pub mod export;
pub mod list;
pub mod proof;
pub mod sealer;
pub mod verify;
