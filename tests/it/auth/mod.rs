//! Tokens and the keys that sign them.

pub mod verifier;
