//! Every part against the others, in one binary.

mod dev_github;
