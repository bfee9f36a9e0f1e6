//! A private Postgres on a Unix socket, from the machine's own binaries or downloaded ones. It ends with the
//! process that started it, however that ends. Knows nothing of the broker's schema.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use account::Account;
use binaries::Binaries;
pub use binaries::Search;
use download::Download;
pub use options::Options;
use watchdog::Watchdog;

mod account;
mod binaries;
pub mod download;
mod folders;
mod options;
mod watchdog;

/// The superuser of every private Postgres. It has no password: the socket's folder is closed to others.
pub const USER: &str = "postgres";

/// How long a crashed instance may recover, or a small machine start.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long to wait for the watchdog of a process that was just killed to stop its Postgres on the same data.
const FREE_WITHIN: Duration = Duration::from_secs(10);
const STOPPED_WITHIN: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(2);

/// Why there is no private Postgres; each message stands alone.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing on this machine and nothing to be downloaded.
    #[error(
        "no Postgres on this machine (looked on PATH and for {looked}), and {download}. \
         Install it: {install}; or set DATABASE_URL to a server that you have"
    )]
    Missing { looked: String, download: Box<download::Error>, install: String },
    /// Each major version keeps its data in its own format.
    #[error(
        "the data in {folder} is of Postgres {made_by}, and there is only Postgres {found}: install {made_by}"
    )]
    Version { folder: PathBuf, made_by: u32, found: String },
    /// Only one instance may run on a data folder.
    #[error("{folder} is in use by another instance{}", .pid.map(|pid| format!(" (Postgres runs as process {pid})")).unwrap_or_default())]
    InUse { folder: PathBuf, pid: Option<u32> },
    /// Postgres refuses to run as root.
    #[error(
        "Postgres refuses to run as root, and there is neither a user `postgres` nor a user `nobody` to run it as"
    )]
    NoAccount,
    /// As root we run Postgres as somebody else, who cannot see root's folders.
    #[error(
        "{folder} cannot be reached by {account}, whom Postgres runs as: choose a folder outside of root's home"
    )]
    Unreachable { folder: PathBuf, account: String },
    /// The tail says what Postgres said itself.
    #[error("{program} failed ({how}); its log says:\n{tail}")]
    Failed { program: &'static str, how: String, tail: String },
    #[error("{doing}: {source}")]
    Io { doing: String, source: io::Error },
}

/// Turns an I/O error into ours, saying what was being done.
fn doing<T>(result: io::Result<T>, what: impl FnOnce() -> String) -> Result<T, Error> {
    result.map_err(|source| Error::Io { doing: what(), source })
}

/// A running instance. Dropping it stops the server and removes all that is temporary; so does the end of
/// this process, even by SIGKILL.
#[derive(Debug)]
pub struct Postgres {
    account: Account,
    binaries: Binaries,
    /// The socket, and without a data folder all the rest.
    folder: PathBuf,
    data: PathBuf,
    log: PathBuf,
    settings: Vec<(String, String)>,
    kept: bool,
    running: Mutex<Running>,
    /// Held for as long as this instance lives.
    _lock: Option<File>,
}

#[derive(Debug)]
struct Running {
    server: Option<Child>,
    watchdog: Watchdog,
}

impl Postgres {
    /// Finds binaries, makes the data folder if there is none, starts the server and waits until it takes
    /// connections. Blocks: about a second for a new data folder, 0.1 s for an old one, more if Postgres must be
    /// downloaded first; from async code, call it through `spawn_blocking`.
    pub fn start(options: &Options) -> Result<Postgres, Error> {
        let account = Account::for_data(options.data_dir.as_deref())?;
        let lock = options.data_dir.as_deref().map(|dir| folders::claim(dir, &account)).transpose()?;
        let folder = folders::temporary(&account, options.scratch.as_deref());
        let home = match &options.data_dir {
            Some(dir) => doing(fs::canonicalize(dir), || format!("opening {}", dir.display()))?,
            None => folder.clone(),
        };
        let (data, log) = (home.join("data"), home.join("postgres.log"));
        let kept = options.data_dir.is_some();
        let watchdog = doing(Watchdog::start(&folder, &data, kept), || "starting sh".into())?;
        let running = Mutex::new(Running { server: None, watchdog });
        // The watchdog is there before what it has to remove. From here on, dropping cleans up as well.
        let mut postgres = Postgres {
            settings: options::settings(options, &folder),
            binaries: Binaries::default(),
            account,
            folder,
            data,
            log,
            kept,
            running,
            _lock: lock,
        };
        folders::make(&postgres.folder, &postgres.account)?;
        postgres.binaries = options.search.find(&postgres.data, &postgres.account)?;
        postgres.initialise(options.fsync)?;
        postgres.launch(&mut postgres.running())?;
        Ok(postgres)
    }

    /// The URL of a database there, for `DATABASE_URL` and for `psql`. `postgres` exists from the start.
    pub fn url(&self, database: &str) -> String {
        let folder = self.folder.to_string_lossy();
        let encoded: String = url::form_urlencoded::byte_serialize(folder.as_bytes()).collect();
        let host = encoded.replace("%2F", "/").replace('+', "%20");
        format!("postgres:///{database}?user={USER}&host={host}")
    }

    /// The server's process id; `None` while it is stopped.
    pub fn pid(&self) -> Option<u32> {
        self.running().server.as_ref().map(Child::id)
    }

    /// Whether the server still runs; it may have been ended by somebody else.
    pub fn is_running(&self) -> bool {
        let mut running = self.running();
        running.server.as_mut().is_some_and(|server| matches!(server.try_wait(), Ok(None)))
    }

    /// The folder of the socket.
    pub fn socket_folder(&self) -> &Path {
        &self.folder
    }

    /// What the server had to say.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Stops the server: clients are cut off, what was committed stays. `restart` brings it back under the same URL.
    pub fn stop(&self) {
        self.end(Signal::INT);
    }

    /// Kills the server without a warning, as if it had crashed.
    pub fn kill(&self) {
        self.end(Signal::KILL);
    }

    /// Starts the server again, stopped, killed or running, on the same data and under the same URL.
    pub fn restart(&self) -> Result<(), Error> {
        self.stop();
        self.launch(&mut self.running())
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the data folder, whole or not at all.
    fn initialise(&self, fsync: bool) -> Result<(), Error> {
        if self.data.join("PG_VERSION").exists() {
            return Ok(());
        }
        let partial = self.data.with_extension("partial");
        if partial.exists() {
            doing(fs::remove_dir_all(&partial), || format!("removing {}", partial.display()))?;
        }
        folders::make(&partial, &self.account)?;
        let (log, before) = self.open_log()?;
        let mut command = self.account.command(&self.binaries.initdb(), &self.folder);
        command.arg("-D").arg(&partial).args(["-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C"]);
        command.args(if fsync { &["--no-instructions"][..] } else { &["--no-instructions", "--no-sync"] });
        command.stdout(doing(log.try_clone(), || "opening the log".into())?).stderr(log);
        let mut running = self.running();
        running.watchdog.about_to_start();
        let mut child = doing(command.spawn(), || format!("starting {}", self.binaries.initdb().display()))?;
        running.watchdog.watch(child.id());
        let status = doing(child.wait(), || "waiting for initdb".into())?;
        running.watchdog.nothing_runs();
        if !status.success() {
            return Err(Error::Failed {
                program: "initdb",
                how: status.to_string(),
                tail: self.tail(before),
            });
        }
        doing(fs::rename(&partial, &self.data), || format!("naming {}", self.data.display()))
    }

    /// Starts the server, waiting while one that is just being stopped still holds the data.
    fn launch(&self, running: &mut Running) -> Result<(), Error> {
        let since = Instant::now();
        loop {
            match self.launch_once(running) {
                Err(Error::InUse { .. }) if since.elapsed() < FREE_WITHIN => sleep(Duration::from_millis(50)),
                result => return result,
            }
        }
    }

    fn launch_once(&self, running: &mut Running) -> Result<(), Error> {
        let (log, before) = self.open_log()?;
        let mut command = self.account.command(&self.binaries.postgres(), &self.folder);
        command.arg("-D").arg(&self.data);
        for (name, value) in &self.settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        command.stdout(doing(log.try_clone(), || "opening the log".into())?).stderr(log);
        running.watchdog.about_to_start();
        let child = doing(command.spawn(), || format!("starting {}", self.binaries.postgres().display()))?;
        running.watchdog.watch(child.id());
        let server = running.server.insert(child);
        let since = Instant::now();
        let how = loop {
            if is_ready(&self.data, server.id()) {
                return Ok(());
            }
            match server.try_wait() {
                Ok(None) if since.elapsed() < READY_WITHIN => sleep(POLL),
                Ok(None) => break format!("not ready after {READY_WITHIN:?}"),
                Ok(Some(status)) => break status.to_string(),
                Err(err) => break err.to_string(),
            }
        };
        stop(running, Signal::QUIT);
        let tail = self.tail(before);
        if tail.contains("lock file \"postmaster.pid\" already exists") || tail.contains("is still in use") {
            return Err(Error::InUse {
                folder: self.data.clone(),
                pid: pid_file(&self.data).map(|file| file.0),
            });
        }
        Err(Error::Failed { program: "postgres", how, tail })
    }

    fn end(&self, signal: Signal) {
        stop(&mut self.running(), signal);
    }

    /// The log, to append to, and its length so far.
    fn open_log(&self) -> Result<(File, u64), Error> {
        let what = || format!("opening {}", self.log.display());
        let log = doing(OpenOptions::new().create(true).append(true).open(&self.log), what)?;
        let length = doing(log.metadata(), what)?.len();
        Ok((log, length))
    }

    /// The last lines of the log that were written after its length was `from`.
    fn tail(&self, from: u64) -> String {
        let mut text = Vec::new();
        let read = File::open(&self.log).and_then(|mut log| {
            log.seek(SeekFrom::Start(from))?;
            log.read_to_end(&mut text)
        });
        if let Err(err) = read {
            return format!("({}: {err})", self.log.display());
        }
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Data that nobody will read needs no checkpoint.
        self.end(if self.kept { Signal::INT } else { Signal::QUIT });
        self.running().watchdog.finish();
        // It has removed the folder, unless somebody ended it.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Ends the server, if there is one, and returns when it is gone.
fn stop(running: &mut Running, signal: Signal) {
    let Some(mut server) = running.server.take() else { return };
    let since = Instant::now();
    let mut signal = Some(signal);
    while let Ok(None) = server.try_wait() {
        if since.elapsed() > STOPPED_WITHIN {
            signal = Some(Signal::KILL);
        }
        if let Some(signal) = signal.take() {
            // The only failure is that it is gone already.
            let _ = kill_process(Pid::from_child(&server), signal);
        }
        sleep(POLL);
    }
    running.watchdog.nothing_runs();
}

/// The server's process id and whether it takes connections, from the file that it keeps for `pg_ctl`.
fn pid_file(data: &Path) -> Option<(u32, bool)> {
    let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let pid = text.lines().next()?.trim().parse().ok()?;
    Some((pid, text.lines().nth(7).is_some_and(|status| status.trim() == "ready")))
}

/// The file may also be a leftover of a server that crashed.
fn is_ready(data: &Path, server: u32) -> bool {
    pid_file(data) == Some((server, true))
}
