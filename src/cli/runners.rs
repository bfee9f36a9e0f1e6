//! `list-runners` and `cleanup-stale-runners`.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::serve::{existing, github};
use super::{CommandResult, Failure, print};
use crate::broker::Broker;
use crate::broker::runners::list;
use crate::clock::Clock;
use crate::model::Status;
use crate::store::runners::Filter;
use crate::{config, http, telemetry};

#[derive(Args)]
pub struct List {
    /// requested, pending, active, offline, deleting, deleted or failed
    #[arg(long)]
    status: Option<Status>,
    #[arg(long)]
    team: Option<String>,
    /// Print one JSON object per line, as the API has it
    #[arg(long)]
    json: bool,
}

impl List {
    pub async fn run(self) -> CommandResult {
        let store = existing(&config::database_url()?, 1).await?;
        let filter = Filter { status: self.status, team: self.team, ..Filter::default() };
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        if !self.json {
            let _ = writeln!(
                out,
                "{:<36}  {:<32}  {:<9}  {:<16}  {:<24}  LABELS",
                "ID", "NAME", "STATUS", "TEAM", "TARGET"
            );
        }
        let json = self.json;
        let written = list::all_runners(&store, &filter, |runner| match json {
            true => writeln!(out, "{}", serde_json::to_string(&http::Runner::from(runner.clone()))?),
            false => writeln!(
                out,
                "{}  {:<32}  {:<9}  {:<16}  {:<24}  {}",
                runner.id,
                runner.name,
                runner.status.as_str(),
                runner.team,
                runner.target.to_string(),
                runner.labels.join(",")
            ),
        })
        .await?;
        match written.and_then(|()| out.flush()) {
            Err(err) if err.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::Failed(err.to_string())),
            _ => Ok(()),
        }
    }
}

#[derive(Args)]
pub struct Cleanup {
    /// Remove runners that have been offline for longer than this
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=8760))]
    hours: u64,
    /// Only print the runners
    #[arg(long)]
    dry_run: bool,
}

impl Cleanup {
    pub async fn run(self) -> CommandResult {
        let (database_url, github_config, broker_config, log) = config::without_http()?;
        telemetry::logs(&log);
        let clock = Clock::default();
        let github = github(&github_config, &clock)?;
        let store = existing(&database_url, 2).await?;
        let broker = Broker::new(broker_config, &github_config, store, github, clock);
        let stale = broker.stale(Duration::from_secs(3600 * self.hours)).await?;
        if self.dry_run {
            let lines: String = stale
                .iter()
                .map(|runner| format!("would remove {} ({})\n", runner.name, runner.id))
                .collect();
            return print(&format!("{lines}{} stale runner(s)\n", stale.len()));
        }
        let bar = progress(stale.len() as u64);
        let (mut removed, mut failed) = (0, 0);
        for runner in stale {
            let named = format!("{} ({})", runner.name, runner.id);
            match broker.remove_stale_runner(None, runner).await {
                Ok(is_removed) => removed += usize::from(is_removed),
                Err(err) => {
                    failed += 1;
                    bar.suspend(|| eprintln!("{named}: {err}"));
                }
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        print(&format!("removed {removed} stale runner(s), {failed} failed\n"))?;
        match failed {
            0 => Ok(()),
            _ => Err(Failure::Failed("some runners could not be removed; run the command again".into())),
        }
    }
}

/// A progress bar on a terminal, otherwise a hidden one.
pub fn progress(length: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {eta}");
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
