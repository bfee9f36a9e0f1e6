//! `policy check`, `apply`, `show` and `schema`.

use std::path::PathBuf;

use clap::Subcommand;

use super::serve::existing;
use super::{Done, Failure, print};
use crate::broker::policy::apply::{self, Applied};
use crate::broker::policy::refresh;
use crate::clock::Clock;
use crate::config;
use crate::policy::{self, Defaults, Document};

#[derive(Subcommand)]
pub enum Policy {
    /// Say everything that is wrong with a document; needs no database
    #[command(after_help = "Example:\n  runner-broker policy check policy.toml")]
    Check { file: PathBuf },
    /// Put a document in force
    #[command(after_help = "Example:\n  runner-broker policy apply policy.toml --dry-run")]
    Apply {
        file: PathBuf,
        /// Only say what would change
        #[arg(long)]
        dry_run: bool,
    },
    /// Print the policy in force, as the document that `apply` takes
    #[command(after_help = "Example:\n  runner-broker policy show > policy.toml")]
    Show,
    /// Print the JSON Schema of the document, for editors; needs no database
    #[command(after_help = "Example:\n  runner-broker policy schema > policy.schema.json")]
    Schema,
}

impl Policy {
    pub async fn run(self) -> Done {
        match self {
            Policy::Check { file } => {
                let document = read(&file)?;
                let rules: usize = document.team.iter().map(|team| team.member.len()).sum();
                let roles = document.admin.len() + document.auditor.len();
                print(&format!(
                    "{}: fine ({} team(s), {rules} member rule(s), {roles} role rule(s))\n",
                    file.display(),
                    document.team.len()
                ))
            }
            Policy::Apply { file, dry_run } => apply(&file, dry_run).await,
            Policy::Schema => print(&policy::schema()),
            Policy::Show => {
                let store = existing(&config::database_url()?, 1).await?;
                print(&apply::current(&store).await?.to_toml())
            }
        }
    }
}

async fn apply(file: &std::path::Path, dry_run: bool) -> Done {
    let document = read(file)?;
    let store = existing(&config::database_url()?, 1).await?;
    let source = format!("command {}", file.display());
    let applied = apply::apply(&store, &Clock::default(), &document, &source, false, dry_run).await?;
    match applied {
        Applied::Changed(changes) => {
            let verb = if dry_run { "would change" } else { "changed" };
            print(&changes.iter().map(|change| format!("{verb}: {change}\n")).collect::<String>())
        }
        Applied::Unchanged | Applied::Superseded => print("the policy says this already\n"),
    }
}

/// Reads and checks a document. The defaults only matter to teams that name no target or group, so without
/// a configuration any will do.
fn read(file: &std::path::Path) -> Result<Document, Failure> {
    let text =
        std::fs::read_to_string(file).map_err(|err| Failure::Usage(format!("{}: {err}", file.display())))?;
    let (target, group_id) = config::policy_defaults()
        .unwrap_or_else(|_| (crate::model::Target::Organization("default-organization".into()), 1));
    match Document::read(&text, &Defaults { target, group_id }) {
        Ok((document, _)) => Ok(document),
        Err(faults) => Err(Failure::Failed(format!(
            "{} has {} fault(s):\n{}",
            file.display(),
            faults.len(),
            refresh::listed(&faults)
        ))),
    }
}
