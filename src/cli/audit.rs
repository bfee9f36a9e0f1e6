//! `export-audit-log`.

use std::fs::{File, rename};
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};

use super::runners::progress;
use super::serve::existing;
use super::{Done, Failure, print};
use crate::broker::audit::csv::{csv_header, csv_rows};
use crate::broker::audit::export;
use crate::config;
use crate::seal::export::{Seal, SealLine};
use crate::store::audit::Event;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One array
    Json,
    /// One object a line
    Jsonl,
    Csv,
}

#[derive(Args)]
pub struct Export {
    /// A date or a time (RFC 3339); from then on
    #[arg(long, value_parser = crate::http::time)]
    since: DateTime<Utc>,
    /// A date or a time (RFC 3339); before then
    #[arg(long, value_parser = crate::http::time)]
    until: Option<DateTime<Utc>>,
    #[arg(long, value_enum, default_value = "json")]
    format: Format,
    /// The file to write
    #[arg(long)]
    output: PathBuf,
    /// Write the checkpoint that the export goes with to this file
    #[arg(long)]
    checkpoint: Option<PathBuf>,
}

impl Export {
    pub async fn run(self) -> Done {
        let store = existing(&config::database_url()?, 1).await?;
        let failed = |err: std::io::Error| Failure::Failed(format!("{}: {err}", self.output.display()));
        // Under another name until it is whole: half an export must not look like one.
        let mut partial = self.output.clone().into_os_string();
        partial.push(".partial");
        let file = File::create(&partial).map_err(failed)?;
        let mut writer = Writer::new(self.format, BufWriter::new(file));
        let bar = progress(0);
        let started = |events| bar.set_length(events);
        let written = export::export(&store, self.since, self.until, started, |event, line| {
            bar.inc(1);
            writer.event(event, line)
        })
        .await?;
        bar.finish_and_clear();
        let count = writer.count;
        let whole = written
            .and_then(|seal| {
                self.write_checkpoint(seal.as_ref())?;
                writer.finish(seal)
            })
            .and_then(|()| rename(&partial, &self.output));
        if let Err(err) = whole {
            let _ = std::fs::remove_file(&partial);
            return Err(failed(err));
        }
        print(&format!("{count} event(s) in {}\n", self.output.display()))
    }
}

impl Export {
    fn write_checkpoint(&self, seal: Option<&Seal>) -> std::io::Result<()> {
        match (&self.checkpoint, seal) {
            (None, _) => Ok(()),
            (Some(path), Some(seal)) => std::fs::write(path, &seal.checkpoint),
            (Some(_), None) => Err(std::io::Error::other("nothing of the audit log is sealed yet")),
        }
    }
}

/// Writes events in one format.
struct Writer {
    format: Format,
    out: BufWriter<File>,
    count: u64,
    begun: bool,
}

impl Writer {
    fn new(format: Format, out: BufWriter<File>) -> Writer {
        Writer { format, out, count: 0, begun: false }
    }

    /// JSON as `line` has it: what the API shows and what its hash needs.
    fn event(&mut self, event: &Event, line: &str) -> std::io::Result<()> {
        self.count += 1;
        match self.format {
            Format::Jsonl | Format::Json => self.entry(line),
            Format::Csv => {
                if !std::mem::replace(&mut self.begun, true) {
                    csv_header(&mut self.out)?;
                }
                csv_rows(&mut self.out, [event])
            }
        }
    }

    fn entry(&mut self, line: &str) -> std::io::Result<()> {
        let first = !std::mem::replace(&mut self.begun, true);
        match self.format {
            Format::Json => write!(self.out, "{}{line}", if first { "[\n" } else { ",\n" }),
            _ => writeln!(self.out, "{line}"),
        }
    }

    fn finish(mut self, seal: Option<Seal>) -> std::io::Result<()> {
        if let (Some(seal), Format::Json | Format::Jsonl) = (seal, self.format) {
            let line = serde_json::to_string(&SealLine { seal })?;
            self.entry(&line)?;
        }
        match self.format {
            Format::Json if !self.begun => writeln!(self.out, "[]")?,
            Format::Json => writeln!(self.out, "\n]")?,
            Format::Csv if self.count == 0 => csv_header(&mut self.out)?,
            Format::Csv | Format::Jsonl => {}
        }
        self.out.flush()?;
        self.out.get_ref().sync_all()
    }
}
