//! Which rows a caller may see or change.

use super::caller::Caller;
use crate::model::Role;
use crate::store::audit;
use crate::store::runners::Scope;

/// Whose runners this caller may see: those of their teams, or all for admins and auditors.
pub(in crate::broker) fn runner_scope(caller: &Caller) -> Scope {
    match caller.has(Role::Admin) || caller.has(Role::Auditor) {
        true => Scope::All,
        false => Scope::Teams(caller.teams().map(str::to_owned).collect()),
    }
}

/// Whose runners this caller may change: those of their teams, or all for admins.
pub(in crate::broker) fn change_scope(caller: &Caller) -> Scope {
    match caller.has(Role::Admin) {
        true => Scope::All,
        false => Scope::Teams(caller.teams().map(str::to_owned).collect()),
    }
}

pub(in crate::broker) fn audit_scope(caller: &Caller) -> audit::Scope {
    match caller.has(Role::Admin) || caller.has(Role::Auditor) {
        true => audit::Scope::All,
        false => audit::Scope::Own {
            issuer: caller.identity.issuer.clone(),
            subject: caller.identity.subject.clone(),
            teams: caller.teams().map(str::to_owned).collect(),
        },
    }
}
