//! The open connections and what each holds in memory, from its first byte on. Those of which nobody has proved who is
//! behind them share one number of connections and one number of bytes, however many addresses they come from; those
//! of verified callers have limits of their own. When a limit is reached, those addresses or identities that hold most
//! lose their oldest connection, so that a flood pushes out itself.

mod connection;
mod group;
pub mod limits;
mod registry;
pub mod stream;

pub use connection::Connection;
pub use registry::Connections;
