//! A runner as GitHub describes it.

use serde::{Deserialize, Serialize};

use crate::model::is_system_label;

/// A self-hosted runner of an organisation or repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runner {
    /// GitHub's id, unique within its target.
    pub id: i64,
    /// Unique within its target, compared without case.
    pub name: String,
    /// `linux`, `macos`, `windows`, …. `None` until it has connected.
    pub os: Option<String>,
    /// Whether it is connected.
    pub online: bool,
    /// Whether it runs a job.
    pub busy: bool,
    /// `None`: GitHub did not say, as older Enterprise Servers do not.
    pub ephemeral: Option<bool>,
    /// Of the runner's program; `None` until it has connected.
    pub version: Option<String>,
    /// Of its runner group. `None`: GitHub did not say.
    pub group_id: Option<i64>,
    /// As GitHub writes them: those of a JIT runner in lower case.
    pub labels: Vec<String>,
    /// Of `labels`, those that the runner has by what it is: nobody can give or take them.
    pub system_labels: Vec<String>,
}

/// GitHub's own shape. Only id and name are demanded: what cannot be decoded after GitHub has made a runner
/// is a runner that nobody knows.
#[derive(Deserialize)]
pub(super) struct RunnerBody {
    id: i64,
    name: String,
    os: Option<String>,
    status: Option<String>,
    busy: Option<bool>,
    ephemeral: Option<bool>,
    version: Option<String>,
    runner_group_id: Option<i64>,
    labels: Option<Vec<LabelBody>>,
}

#[derive(Deserialize)]
struct LabelBody {
    name: String,
    #[serde(rename = "type")]
    kind: Option<String>,
}

impl LabelBody {
    /// GitHub calls such labels "read-only"; where it says nothing, their names tell.
    fn is_system(&self) -> bool {
        match &self.kind {
            Some(kind) => kind == "read-only",
            None => is_system_label(&self.name.to_ascii_lowercase()),
        }
    }
}

impl RunnerBody {
    /// GitHub compares names without case.
    pub fn is_named(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

impl From<RunnerBody> for Runner {
    fn from(wire: RunnerBody) -> Runner {
        let labels: Vec<LabelBody> = wire.labels.unwrap_or_default();
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
