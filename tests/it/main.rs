//! Every part against the others, in one binary.

mod dev_github;
mod github;
mod policy;
