//! `verify-audit-log` and `audit-key`.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use chrono::{DateTime, SecondsFormat, Utc};
use clap::{Args, Subcommand};

use super::runners::progress;
use super::serve::existing;
use super::{CommandResult, Failure, print};
use crate::broker::audit::verify::{self, Against};
use crate::config;
use crate::seal::check::{Outcome, Range};
use crate::seal::key::{SigningKey, VerifierKey};
use crate::seal::note::{self, Head};
use crate::seal::offline;

#[derive(Args)]
pub struct Verify {
    /// An export (json or jsonl) to check instead of the database
    #[arg(long, requires = "checkpoint")]
    file: Option<PathBuf>,
    /// A checkpoint that the log must match
    #[arg(long)]
    checkpoint: Option<PathBuf>,
    /// An older checkpoint that the log must continue
    #[arg(long)]
    previous: Option<PathBuf>,
    /// The verifier key that must have signed the checkpoints
    #[arg(long)]
    key: Option<PathBuf>,
}

impl Verify {
    pub async fn run(self) -> CommandResult {
        let key = self.key.as_deref().map(verifier_key).transpose()?;
        if key.is_none() {
            eprintln!("without --key no signature is verified");
        }
        let checkpoint = self.checkpoint.as_deref().map(|path| head(path, key.as_ref())).transpose()?;
        let previous = self.previous.as_deref().map(|path| head(path, key.as_ref())).transpose()?;
        let outcome = match (&self.file, checkpoint) {
            (Some(file), Some(checkpoint)) => verify_file(file, checkpoint, previous)?,
            _ => {
                let store = existing(&config::database_url()?, 1).await?;
                let heads = [("the given checkpoint", checkpoint), ("the previous checkpoint", previous)];
                let heads = heads.into_iter().filter_map(|(name, head)| Some((name, head?))).collect();
                let bar = progress(0);
                let against = Against { key, heads };
                let outcome = verify::verify(&store, &against, |done, of| {
                    bar.set_length(of);
                    bar.set_position(done);
                })
                .await?;
                bar.finish_and_clear();
                outcome
            }
        };
        report(&outcome)
    }
}

fn verify_file(file: &Path, checkpoint: Head, previous: Option<Head>) -> Result<Outcome, Failure> {
    let open = || File::open(file).map(BufReader::new);
    offline::verify(open, checkpoint, previous).map_err(|err| {
        let why = format!("{}: {err}", file.display());
        match err {
            offline::Error::Read(_) => Failure::Usage(why),
            _ => Failure::Failed(why),
        }
    })
}

fn report(outcome: &Outcome) -> CommandResult {
    let mut text = format!("{}\n", counted(outcome.sealed, "event verified", "events verified"));
    if outcome.skipped > 0 || outcome.range.is_some() {
        text += &format!(
            "{}\n",
            counted(
                outcome.skipped,
                "sealed event is not in this file",
                "sealed events are not in this file"
            )
        );
    }
    if outcome.unsealed > 0 {
        text += &format!(
            "{}\n",
            counted(outcome.unsealed, "event is not sealed yet", "events are not sealed yet")
        );
    }
    if let Some(Range { since, until }) = outcome.range {
        let time = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        let until = until.map(|until| format!(" until {}", time(until))).unwrap_or_default();
        text += &format!(
            "this file says that it covers since {}{until}: compare with your request\n",
            time(since)
        );
    }
    print(&text)?;
    if outcome.found == 0 {
        return Ok(());
    }
    let mut why = failed(outcome.found);
    for finding in &outcome.findings {
        why += &format!("\n  {finding}");
    }
    let shown = outcome.findings.len() as u64;
    if outcome.found > shown {
        why += &format!("\n  and {} more", outcome.found - shown);
    }
    Err(Failure::Failed(why))
}

fn failed(found: u64) -> String {
    format!("verification FAILED: {}", counted(found, "problem", "problems"))
}

fn counted(count: u64, one: &str, several: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { several })
}

fn text_of(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|err| Failure::Usage(format!("{}: {err}", path.display())))
}

fn verifier_key(path: &Path) -> Result<VerifierKey, Failure> {
    VerifierKey::parse(&text_of(path)?).map_err(|err| Failure::Usage(format!("{}: {err}", path.display())))
}

/// The checkpoint in a file; with a key, its signature is required.
fn head(path: &Path, key: Option<&VerifierKey>) -> Result<Head, Failure> {
    note::read(&text_of(path)?, key).map_err(|err| {
        let why = format!("{}: {err}", path.display());
        match err {
            note::Error::Malformed | note::Error::OtherLog(_) => Failure::Usage(why),
            note::Error::Unsigned | note::Error::Signature => Failure::Failed(why),
        }
    })
}

#[derive(Subcommand)]
pub enum AuditKey {
    /// Generate a key that signs the checkpoints of the audit log
    #[command(
        after_help = "Example:\n  runner-broker audit-key generate --output audit.key > audit.vkey\n\nGive audit.vkey to the auditors, and AUDIT_SIGNING_KEY_PATH=audit.key to the service."
    )]
    Generate(Generate),
    /// Print the verifier key of a private key
    #[command(after_help = "Example:\n  runner-broker audit-key show audit.key > audit.vkey")]
    Show {
        /// The private key (PKCS#8, PEM)
        key: PathBuf,
    },
}

#[derive(Args)]
pub struct Generate {
    /// The file for the private key, which must not exist yet; only its owner can read it
    #[arg(long)]
    output: PathBuf,
}

impl AuditKey {
    pub async fn run(self) -> CommandResult {
        match self {
            AuditKey::Generate(Generate { output }) => {
                let pem = SigningKey::generate().map_err(|err| Failure::Failed(err.to_string()))?;
                write_private_file(&output, &pem)
                    .map_err(|err| Failure::Failed(format!("{}: {err}", output.display())))?;
                let key = SigningKey::from_pem(&pem).map_err(|err| Failure::Failed(err.to_string()))?;
                print(&format!("{}\n", key.verifier_key()))
            }
            AuditKey::Show { key } => {
                let signing = SigningKey::from_pem(&text_of(&key)?)
                    .map_err(|err| Failure::Usage(format!("{}: {err}", key.display())))?;
                print(&format!("{}\n", signing.verifier_key()))
            }
        }
    }
}

fn write_private_file(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
