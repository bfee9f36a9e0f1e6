//! The sweep: the table is made true to GitHub, whatever happened meanwhile.

pub mod at_scale;
pub mod budget;
pub mod deadlines;
pub mod drift;
pub mod lease;
pub mod repair;
pub mod states;
pub mod status;
pub mod targets;
pub mod unmanaged;
pub mod unseen;
pub mod wishes;
pub mod write_ahead;
