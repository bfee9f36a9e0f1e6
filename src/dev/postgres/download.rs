//! Postgres from the releases of theseus-rs/postgresql-binaries: fetched once, its SHA-256 checked, unpacked whole
//! or not at all.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::read::GzDecoder;
use indicatif::{ProgressBar, ProgressStyle};

use crate::model::{sha256, with_causes};

/// The release that we take.
const VERSION: &str = "17.5.0";
const RELEASES: &str = "https://github.com/theseus-rs/postgresql-binaries/releases/download";
/// Set this to take the same files from a mirror.
const MIRROR: &str = "RUNNER_BROKER_POSTGRES_DOWNLOAD";
/// The archives have about 12 MB.
const MOST_BYTES: usize = 256 << 20;

/// Where to take the archive from and where to keep what was in it.
#[derive(Clone, Debug)]
pub struct Download {
    /// Under it stand `VERSION/postgresql-VERSION-TARGET.tar.gz` and, beside that, the same with `.sha256`.
    pub base: String,
    /// Holds a folder for each version.
    pub cache: PathBuf,
}

/// Why there is nothing downloaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there are no binaries to download for this kind of machine")]
    NoTarget,
    #[error("downloading {url} failed: {}", with_causes(.source))]
    Request { url: String, source: reqwest::Error },
    #[error("{0} has more bytes than an archive of Postgres should")]
    TooLarge(String),
    #[error("{0}.sha256 holds no SHA-256")]
    NoChecksum(String),
    #[error("{url} has the SHA-256 {found}, not {wanted}")]
    Checksum { url: String, wanted: String, found: String },
    #[error("the download holds no bin/postgres")]
    NoBinaries,
    #[error("the downloaded Postgres in {0} does not run here")]
    DoesNotRun(PathBuf),
    #[error("{}: {source}", .folder.display())]
    Io { folder: PathBuf, source: io::Error },
}

impl Default for Download {
    /// From GitHub or the mirror in the environment, to the user's cache. Root's is under `/var/cache`: what is in
    /// root's home could not be run by another.
    fn default() -> Download {
        let folder = |name| std::env::var_os(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
        let cache = if rustix::process::geteuid().is_root() {
            PathBuf::from("/var/cache")
        } else {
            folder("XDG_CACHE_HOME")
                .or_else(|| folder("HOME").map(|home| home.join(".cache")))
                .unwrap_or_else(std::env::temp_dir)
        };
        Download {
            base: std::env::var(MIRROR).unwrap_or_else(|_| RELEASES.to_owned()),
            cache: cache.join("runner-broker/postgres"),
        }
    }
}

impl Download {
    /// Where this version is, once it is fetched.
    pub fn folder(&self) -> PathBuf {
        self.cache.join(VERSION)
    }

    /// The folder of the binaries, downloaded if they are not yet there; of several processes at once, one does it.
    /// Blocks.
    pub fn fetch(&self) -> Result<PathBuf, Error> {
        let (done, partial) = (self.folder(), self.cache.join(format!("{VERSION}.partial")));
        let io = |source| Error::Io { folder: self.cache.clone(), source };
        if !done.join("bin").exists() {
            fs::create_dir_all(&self.cache).map_err(io)?;
            let lock =
                OpenOptions::new().create(true).append(true).open(self.cache.join("lock")).map_err(io)?;
            lock.lock().map_err(io)?;
            if !done.join("bin").exists() {
                let archive = self.archive()?;
                let _ = fs::remove_dir_all(&partial); // of one that was interrupted
                tar::Archive::new(GzDecoder::new(&archive[..])).unpack(&partial).map_err(io)?;
                let root = root(&partial).ok_or(Error::NoBinaries);
                let moved = root.and_then(|root| fs::rename(root, &done).map_err(io));
                let _ = fs::remove_dir_all(&partial);
                moved?;
            }
        }
        Ok(done.join("bin"))
    }

    /// The archive's bytes, checked. In a thread of its own, since the caller may be inside a runtime.
    fn archive(&self) -> Result<Vec<u8>, Error> {
        let target = target().ok_or(Error::NoTarget)?;
        let url =
            format!("{}/{VERSION}/postgresql-{VERSION}-{target}.tar.gz", self.base.trim_end_matches('/'));
        let io = |source| Error::Io { folder: self.cache.clone(), source };
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(io)?;
                runtime.block_on(checked(&url))
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// The archive may be the only entry of another folder, named like the file.
fn root(folder: &Path) -> Option<PathBuf> {
    let inner = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    inner.chain([folder.to_owned()]).find(|folder| folder.join("bin/postgres").is_file())
}

/// The builds' names follow Rust's targets.
fn target() -> Option<String> {
    let system = match (std::env::consts::OS, cfg!(target_env = "musl")) {
        ("linux", false) => "unknown-linux-gnu",
        ("linux", true) => "unknown-linux-musl",
        ("macos", _) => "apple-darwin",
        _ => return None,
    };
    let processor = std::env::consts::ARCH;
    matches!(processor, "x86_64" | "aarch64").then(|| format!("{processor}-{system}"))
}

/// The checksum comes first: without it there is no use in the rest.
async fn checked(url: &str) -> Result<Vec<u8>, Error> {
    let failed =
        |source: reqwest::Error| Error::Request { url: url.to_owned(), source: source.without_url() };
    let client = reqwest::Client::builder()
        .user_agent(concat!("runner-broker/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(Duration::from_secs(30))
        .build()
        .map_err(failed)?;
    let sum = get(&client, &format!("{url}.sha256"), ProgressBar::hidden()).await?;
    let sum = String::from_utf8_lossy(&sum);
    let wanted = sum.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    if hex::decode(&wanted).map(|bytes| bytes.len()) != Ok(32) {
        return Err(Error::NoChecksum(url.to_owned()));
    }
    let archive = get(&client, url, progress()).await?;
    let found = sha256(&archive);
    match found == wanted {
        true => Ok(archive),
        false => Err(Error::Checksum { url: url.to_owned(), wanted, found }),
    }
}

async fn get(client: &reqwest::Client, url: &str, progress: ProgressBar) -> Result<Vec<u8>, Error> {
    let failed =
        |source: reqwest::Error| Error::Request { url: url.to_owned(), source: source.without_url() };
    let mut answer =
        client.get(url).send().await.and_then(reqwest::Response::error_for_status).map_err(failed)?;
    if let Some(length) = answer.content_length() {
        progress.set_length(length);
    }
    let mut bytes = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(failed)? {
        bytes.extend_from_slice(&part);
        progress.set_position(bytes.len() as u64);
        if bytes.len() > MOST_BYTES {
            return Err(Error::TooLarge(url.to_owned()));
        }
    }
    progress.finish_and_clear();
    Ok(bytes)
}

/// On a terminal alone; indicatif hides it elsewhere.
fn progress() -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes}, {eta} left");
    ProgressBar::no_length()
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        .with_message(format!("Downloading Postgres {VERSION}"))
}
