//! Paths below the API's URL that several calls begin with.

use crate::model::Target;

/// Below the API's URL: what all calls about a target's runners begin with.
pub(super) fn actions(target: &Target) -> String {
    match target {
        Target::Organization(org) => format!("/orgs/{org}/actions"),
        Target::Repository { owner, name } => format!("/repos/{owner}/{name}/actions"),
    }
}

/// Where GitHub tells which installation of the App a target has.
pub(super) fn installation_path(target: &Target) -> String {
    match target {
        Target::Organization(org) => format!("/orgs/{org}/installation"),
        Target::Repository { owner, name } => format!("/repos/{owner}/{name}/installation"),
    }
}
