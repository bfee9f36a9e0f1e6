//! The repository itself: its layers, its documents, its deployment.

pub mod deployment;
pub mod documents;
mod house;
pub mod layers;
pub mod sources;
mod words;
