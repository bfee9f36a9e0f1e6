//! The tests of every part, in one binary.

mod policy;
