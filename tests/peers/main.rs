//! Tests that need more than this process: the broker as its users run it, killed, stopped and read.

#[path = "../it/database.rs"]
mod database;
#[path = "../it/support.rs"]
mod support;

mod crash;
mod crash_step;
mod frozen;
mod process;
mod secrets;
mod shutdown;
