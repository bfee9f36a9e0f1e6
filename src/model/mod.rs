//! The words of the domain: parsed once at the door, valid ever after. Knows no HTTP, no SQL, no GitHub.

mod backoff;
mod causes;
mod comment;
mod digest;
mod group;
mod identity;
mod invalid;
mod label;
mod method;
mod role;
mod runner_name;
mod status;
mod system;
mod target;
mod words;

pub use backoff::Backoff;
pub use causes::with_causes;
pub use comment::Comment;
pub use digest::{sha256, sha256_of_parts};
pub use group::{DEFAULT_GROUP_ID, DEFAULT_GROUP_NAME, GroupRef};
pub use identity::Identity;
pub use invalid::Invalid;
pub use label::{Label, SYSTEM_LABELS, is_system_label, system_labels};
pub use method::Method;
pub use role::Role;
pub use runner_name::{NameAsk, NamePrefix, RunnerName};
pub use status::Status;
pub use system::{Arch, Os};
pub use target::Target;
