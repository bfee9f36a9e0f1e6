//! `policy check`, `test`, `apply`, `show` and `schema`.

use std::path::PathBuf;

use clap::Subcommand;

use super::serve::existing;
use super::{CommandResult, Failure, policy_cases, print};
use crate::broker::policy::apply::{self, Applied};
use crate::broker::policy::refresh;
use crate::clock::Clock;
use crate::config;
use crate::policy::{self, Defaults, Document, Known, Rules};

#[derive(Subcommand)]
pub enum Policy {
    /// Report every fault of a document, and warn of rules that may match other callers than meant; needs no database
    #[command(
        after_help = "Example:\n  runner-broker policy check policy.toml --strict\n\nIssuers are checked if OIDC_ISSUER is set."
    )]
    Check {
        file: PathBuf,
        /// Exit with 1 if there are warnings
        #[arg(long)]
        strict: bool,
        /// Also print which rules match this token, and why the others do not; its signature is not verified; -: standard
        /// input
        #[arg(long, value_name = "JWT", conflicts_with = "claims")]
        token: Option<String>,
        /// The same for the claims in a file of JSON
        #[arg(long, value_name = "FILE")]
        claims: Option<PathBuf>,
    },
    /// Compare what a document decides with what is expected; needs no database
    #[command(after_help = "Example:\n  runner-broker policy test policy.toml cases.toml")]
    Test { file: PathBuf, cases: PathBuf },
    /// Apply a document
    #[command(after_help = "Example:\n  runner-broker policy apply policy.toml --dry-run")]
    Apply {
        file: PathBuf,
        /// Only print what would change
        #[arg(long)]
        dry_run: bool,
    },
    /// Print the current policy as a document for `apply`
    #[command(after_help = "Example:\n  runner-broker policy show > policy.toml")]
    Show,
    /// Print the JSON Schema of the document, for editors; needs no database
    #[command(after_help = "Example:\n  runner-broker policy schema > policy.schema.json")]
    Schema,
}

impl Policy {
    pub async fn run(self) -> CommandResult {
        match self {
            Policy::Check { file, strict, token, claims } => {
                let (document, _) = read(&file)?;
                let claims = match (token, claims) {
                    (Some(token), _) => Some(policy_cases::claims_of_token(&token)?),
                    (None, file) => file.map(|file| policy_cases::claims_of_file(&file)).transpose()?,
                };
                let warnings = warn(&document, None)?;
                if let Some(claims) = claims {
                    policy_cases::explain(&document, &claims, Clock::default().now())?;
                }
                if strict && warnings > 0 {
                    return Err(Failure::Failed(format!("{} has {warnings} warning(s)", file.display())));
                }
                let rules: usize = document.team.iter().map(|team| team.member.len()).sum();
                let roles = document.admin.len() + document.auditor.len();
                print(&format!(
                    "{}: valid ({} team(s), {rules} member rule(s), {roles} role rule(s))\n",
                    file.display(),
                    document.team.len()
                ))
            }
            Policy::Test { file, cases } => {
                let (_, rules) = read(&file)?;
                policy_cases::test(&rules, &cases, Clock::default().now())
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

async fn apply(file: &std::path::Path, dry_run: bool) -> CommandResult {
    let (document, _) = read(file)?;
    let store = existing(&config::database_url()?, 1).await?;
    // One that this version cannot read is no reason not to apply another.
    warn(&document, apply::current(&store).await.ok().as_ref())?;
    let source = format!("command {}", file.display());
    let applied = apply::apply(&store, &Clock::default(), &document, &source, false, dry_run).await?;
    match applied {
        Applied::Changed(changes) => {
            let verb = if dry_run { "would change" } else { "changed" };
            print(&changes.iter().map(|change| format!("{verb}: {change}\n")).collect::<String>())
        }
        Applied::Unchanged | Applied::Superseded => print("the policy is unchanged\n"),
    }
}

/// Prints the warnings about a document that replaces another one, a line each; how many there are.
fn warn(document: &Document, current: Option<&Document>) -> Result<usize, Failure> {
    let issuers = config::issuers();
    let known = Known { issuers: issuers.as_deref(), current, now: Clock::default().now() };
    let warnings = document.lint(&known);
    print(&warnings.iter().map(|warning| format!("warning: {warning}\n")).collect::<String>())?;
    Ok(warnings.len())
}

/// Reads and checks a document. The defaults only matter to teams that name no target or group, so without
/// a configuration any will do.
fn read(file: &std::path::Path) -> Result<(Document, Rules), Failure> {
    let text =
        std::fs::read_to_string(file).map_err(|err| Failure::Usage(format!("{}: {err}", file.display())))?;
    let (target, group_id) = config::policy_defaults()
        .unwrap_or_else(|_| (crate::model::Target::Organization("default-organization".into()), 1));
    match Document::read(&text, &Defaults { target, group_id }) {
        Ok(read) => Ok(read),
        Err(faults) => Err(Failure::Failed(format!(
            "{} has {} fault(s):\n{}",
            file.display(),
            faults.len(),
            refresh::listed(&faults)
        ))),
    }
}
