//! A runner as GitHub tells of it.

use serde::{Deserialize, Serialize};

use crate::model::is_system_label;

/// A self-hosted runner of an organisation or repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runner {
    pub id: i64,
    pub name: String,
    pub os: Option<String>,
    pub online: bool,
    pub busy: bool,
    /// `None`: GitHub did not say, as older Enterprise Servers do not.
    pub ephemeral: Option<bool>,
    /// Of the runner's program; `None` until it has connected.
    pub version: Option<String>,
    pub group_id: Option<i64>,
    /// As GitHub writes them: those of a JIT runner in lower case.
    pub labels: Vec<String>,
    /// Of `labels`, those that the runner has by what it is: nobody can give or take them.
    pub system_labels: Vec<String>,
}

/// GitHub's own shape. Only id and name are demanded: what cannot be decoded after GitHub has made a runner
/// is a runner that nobody knows.
#[derive(Deserialize)]
pub(super) struct Wire {
    id: i64,
    name: String,
    os: Option<String>,
    status: Option<String>,
    busy: Option<bool>,
    ephemeral: Option<bool>,
    version: Option<String>,
    runner_group_id: Option<i64>,
    labels: Option<Vec<WireLabel>>,
}

#[derive(Deserialize)]
struct WireLabel {
    name: String,
    #[serde(rename = "type")]
    kind: Option<String>,
}

impl WireLabel {
    /// GitHub calls such labels «read-only»; where it says nothing, their names tell.
    fn is_system(&self) -> bool {
        match &self.kind {
            Some(kind) => kind == "read-only",
            None => is_system_label(&self.name.to_ascii_lowercase()),
        }
    }
}

impl Wire {
    /// GitHub compares names without case.
    pub fn is_named(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

impl From<Wire> for Runner {
    fn from(wire: Wire) -> Runner {
        let labels: Vec<WireLabel> = wire.labels.unwrap_or_default();
        let system = labels.iter().filter(|label| label.is_system());
        Runner {
            id: wire.id,
            name: wire.name,
            os: wire.os.filter(|os| os != "unknown"),
            online: wire.status.as_deref() == Some("online"),
            busy: wire.busy.unwrap_or(false),
            ephemeral: wire.ephemeral,
            version: wire.version,
            group_id: wire.runner_group_id,
            system_labels: system.map(|label| label.name.clone()).collect(),
            labels: labels.into_iter().map(|label| label.name).collect(),
        }
    }
}
