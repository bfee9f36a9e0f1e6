//! What the broker needs from the world, to try everything on; our tests use the same.

pub mod github;
