//! The policy document that `POLICY_FILE` names: reading and applying it.

use std::path::Path;

use super::{CommandResult, Failure};
use crate::broker;
use crate::broker::Broker;
use crate::broker::policy::apply::{self, Applied};
use crate::broker::policy::refresh;
use crate::policy::{Defaults, Document, Warning};

/// How many warnings have a line of the log each.
const MOST_LOGGED: usize = 50;

/// The document in `POLICY_FILE`.
pub(super) struct PolicyFile<'a> {
    path: &'a Path,
    document: Document,
}

impl PolicyFile<'_> {
    /// Reads and checks the file; needs no database. The error names every fault.
    pub fn read<'p>(path: &'p Path, defaults: &Defaults) -> Result<PolicyFile<'p>, Failure> {
        let text = std::fs::read_to_string(path).map_err(|err| faulty(path, &err.to_string()))?;
        let (document, _) =
            Document::read(&text, defaults).map_err(|faults| faulty(path, &refresh::listed(&faults)))?;
        Ok(PolicyFile { path, document })
    }

    /// Applies the document, unless a newer policy has replaced it already.
    pub async fn apply(&self, broker: &Broker) -> CommandResult {
        let source = format!("file {}", self.path.display());
        // One that this version cannot read is no reason not to apply another.
        let before = apply::current(broker.store()).await.ok();
        match broker.apply_policy(&self.document, &source, true).await {
            Ok(Applied::Superseded) => {
                tracing::warn!(
                    "POLICY_FILE was replaced by a newer policy after it was applied: not applied again"
                );
                return warn_of_stored(broker).await;
            }
            Ok(Applied::Unchanged) => tracing::info!("policy unchanged"),
            Ok(Applied::Changed(changes)) => {
                tracing::info!(changes = changes.join("; "), "policy applied");
            }
            Err(broker::Error::Policy(faults)) => return Err(faulty(self.path, &faults)),
            Err(err) => return Err(err.into()),
        }
        log(&broker.warnings_about(&self.document, before.as_ref()));
        Ok(())
    }
}

/// Logs what the stored policy may say that nobody meant.
pub(super) async fn warn_of_stored(broker: &Broker) -> CommandResult {
    log(&broker.policy_warnings().await?);
    Ok(())
}

/// One line a warning.
fn log(warnings: &[Warning]) {
    for Warning { line, what, .. } in warnings.iter().take(MOST_LOGGED) {
        tracing::warn!(line, "the policy may say what nobody meant: {what}");
    }
    let more = warnings.len().saturating_sub(MOST_LOGGED);
    if more > 0 {
        tracing::warn!(more, "the policy has further warnings: see 'runner-broker policy check'");
    }
}

fn faulty(path: &Path, why: &str) -> Failure {
    Failure::Usage(format!("POLICY_FILE: {}: {why}", path.display()))
}
