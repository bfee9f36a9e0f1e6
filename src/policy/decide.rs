//! Ask × memberships → Grant or Denial. Only this file makes a `Grant`, and `github` accepts nothing else.

use std::collections::BTreeSet;

use crate::model::{Arch, GroupRef, Label, Method, NameAsk, Os, Target};

/// What a caller asks for, already well-formed.
#[derive(Clone, Debug)]
pub struct Ask {
    pub method: Method,
    pub name: NameAsk,
    pub labels: BTreeSet<Label>,
    pub team: Option<String>,
    pub target: Option<Target>,
    pub group: Option<GroupRef>,
    pub os: Os,
    pub arch: Arch,
    pub ephemeral: bool,
    pub disable_update: bool,
    pub work_folder: String,
}

/// What the team has used so far, counted under its lock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub live_runners: i64,
    /// Provisions in the last minute.
    pub recent_requests: i64,
}

/// One runner that the policy allows. Its fields are private so that nobody else can make one.
#[derive(Clone, Debug)]
pub struct Grant {
    team: String,
    rule: String,
    method: Method,
    target: Target,
    group_id: i64,
    labels: BTreeSet<Label>,
    ephemeral: bool,
    disable_update: bool,
    work_folder: String,
}

impl Grant {
    pub fn team(&self) -> &str {
        &self.team
    }

    /// Which member rule of the policy let the caller in, for the audit log.
    pub fn rule(&self) -> &str {
        &self.rule
    }

    pub fn method(&self) -> Method {
        self.method
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    pub fn group_id(&self) -> i64 {
        self.group_id
    }

    /// All of them: the system's, the team's required ones and those asked for.
    pub fn labels(&self) -> &BTreeSet<Label> {
        &self.labels
    }

    pub fn ephemeral(&self) -> bool {
        self.ephemeral
    }

    pub fn disable_update(&self) -> bool {
        self.disable_update
    }

    pub fn work_folder(&self) -> &str {
        &self.work_folder
    }
}
