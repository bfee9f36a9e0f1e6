//! Everything that needs a peer: each file tests one part against the peers of `runner_broker::dev`.

mod verifier;
