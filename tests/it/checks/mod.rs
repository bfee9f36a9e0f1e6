//! `doctor` and what it finds.

pub mod doctor;
