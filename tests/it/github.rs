//! The App against the GitHub of `dev`.
