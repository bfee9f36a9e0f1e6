//! What one needs to try the broker on a bare machine, and what our tests run against. Stands outside the layers.

pub mod postgres;
