//! What to try everything on: each part plays a peer of the broker. Outside the layers; only `main` and tests use it.

pub mod issuer;
