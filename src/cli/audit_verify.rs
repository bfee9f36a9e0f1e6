//! `verify-audit-log` and `audit-key`.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use chrono::{DateTime, SecondsFormat, Utc};
use clap::{Args, Subcommand};

use super::runners::progress;
use super::serve::existing;
use super::{Done, Failure, print};
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
    /// A checkpoint that the log has to agree with
    #[arg(long)]
    checkpoint: Option<PathBuf>,
    /// An older checkpoint that the log has to continue
    #[arg(long)]
    previous: Option<PathBuf>,
    /// The verifier's key that has to have signed the checkpoints
    #[arg(long)]
    key: Option<PathBuf>,
}

impl Verify {
    pub async fn run(self) -> Done {
        let key = self.key.as_deref().map(verifier_key).transpose()?;
        if key.is_none() {
            eprintln!("without --key nobody's signature is checked");
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
        tell(&outcome)
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

fn tell(outcome: &Outcome) -> Done {
    let mut text = format!("{} event(s) are what was sealed\n", outcome.sealed);
    if outcome.skipped > 0 || outcome.range.is_some() {
        text += &format!("{} sealed event(s) are outside of this file\n", outcome.skipped);
    }
    if outcome.unsealed > 0 {
        text += &format!("{} event(s) are not sealed yet\n", outcome.unsealed);
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
    let Some(first) = outcome.findings.first() else {
        return match outcome.found {
            0 => Ok(()),
            found => Err(Failure::Failed(format!("the log is not what was sealed: {found} finding(s)"))),
        };
    };
    let mut why = format!("the log is not what was sealed: {first}");
    for further in &outcome.findings[1..] {
        why += &format!("\n  {further}");
    }
    let shown = outcome.findings.len() as u64;
    if outcome.found > shown {
        why += &format!("\n  and {} more", outcome.found - shown);
    }
    Err(Failure::Failed(why))
}

fn text_of(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|err| Failure::Usage(format!("{}: {err}", path.display())))
}

fn verifier_key(path: &Path) -> Result<VerifierKey, Failure> {
    VerifierKey::parse(&text_of(path)?).map_err(|err| Failure::Usage(format!("{}: {err}", path.display())))
}

/// A checkpoint in a file; one that is not signed as it should be proves nothing.
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
    /// Make a key that signs the audit log's checkpoints
    #[command(
        after_help = "Example:\n  runner-broker audit-key generate --output audit.key > audit.vkey\n\nauditors get audit.vkey; the service gets AUDIT_SIGNING_KEY_PATH=audit.key"
    )]
    Generate(Generate),
    /// Print the verifier's key of a private key
    #[command(after_help = "Example:\n  runner-broker audit-key show audit.key > audit.vkey")]
    Show {
        /// The private key (PKCS#8, PEM)
        key: PathBuf,
    },
}

#[derive(Args)]
pub struct Generate {
    /// The file for the private key, which must not exist; it is for its owner's eyes only
    #[arg(long)]
    output: PathBuf,
}

impl AuditKey {
    pub async fn run(self) -> Done {
        match self {
            AuditKey::Generate(Generate { output }) => {
                let pem = SigningKey::generate().map_err(|err| Failure::Failed(err.to_string()))?;
                write_privately(&output, &pem)
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

fn write_privately(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
