//! Who may have what: a pure decision. Knows neither GitHub nor Postgres nor the time.

#![warn(missing_docs)]

mod claims;
mod compile;
pub mod decide;
mod denial;
mod deny;
pub mod document;
mod explain;
mod labels;
mod lint;
mod pattern;
mod reader;
pub mod rules;
mod schema;
mod shapes;
mod targets;

pub use compile::is_team_name;
pub use decide::{Ask, Grant, Permit, Placed, Usage, consider};
pub use denial::Denial;
pub use deny::{DenyEntry, Until};
pub use document::{Document, Fault, Member, TeamEntry};
pub use explain::RuleMatch;
pub use labels::custom;
pub use lint::{Known, Warning};
pub use rules::{Defaults, Membership, Memberships, Rules, Team};
pub use schema::schema;
