//! The audit log: read, exported, sealed, tampered with.

pub mod export;
pub mod log;
pub mod sealer;
pub mod tamper;
