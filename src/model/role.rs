//! Roles beside teams.

use super::words::words;

words! {
    /// What a caller may do beyond their teams.
    Role {
        /// Changes the policy and acts on every runner.
        Admin = "admin",
        /// Reads everything.
        Auditor = "auditor",
    }
}
