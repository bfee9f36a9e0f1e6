//! Where Postgres' binaries are: on PATH, where the distributions put them, or downloaded.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::account::Account;
use super::{Download, Error};

/// The oldest major version that will do: `xid8` came with it.
const OLDEST: u32 = 13;

/// Where binaries may come from, in this order.
#[derive(Clone, Debug)]
pub struct Search {
    /// As in the variable `PATH`.
    pub path: OsString,
    /// Path names up to the major version, such as `/usr/lib/postgresql/`; behind it stands `/bin`. The newest wins.
    pub versioned: Vec<String>,
    /// The last resort.
    pub download: Download,
}

impl Search {
    /// `PATH`, the folders of Debian, the Postgres project's RPMs, Alpine and Homebrew, and the usual download.
    pub fn of_this_machine() -> Search {
        let versioned = [
            "/usr/lib/postgresql/",
            "/usr/pgsql-",
            "/usr/lib/postgresql",
            "/usr/libexec/postgresql",
            "/opt/homebrew/opt/postgresql@",
            "/usr/local/opt/postgresql@",
        ];
        Search {
            path: std::env::var_os("PATH").unwrap_or_default(),
            versioned: versioned.map(str::to_owned).into(),
            download: Download::default(),
        }
    }

    /// Binaries that this account can run, and of the version of the data if there are any.
    pub(super) fn find(&self, data: &Path, account: &Account) -> Result<Binaries, Error> {
        let made_by =
            fs::read_to_string(data.join("PG_VERSION")).ok().and_then(|text| text.trim().parse().ok());
        let fits = |found: &Binaries| made_by.unwrap_or(found.major) == found.major;
        let here: Vec<Binaries> =
            self.candidates().iter().filter_map(|folder| Binaries::in_folder(folder, account)).collect();
        if let Some(found) = here.iter().find(|found| fits(found)) {
            return Ok(found.clone());
        }
        let downloaded = self.download.fetch();
        match (downloaded.map(|folder| Binaries::in_folder(&folder, account)), made_by) {
            (Ok(Some(found)), _) if fits(&found) => Ok(found),
            (Ok(Some(found)), Some(made_by)) => Err(version(data, made_by, &[&here[..], &[found]].concat())),
            (_, Some(made_by)) if !here.is_empty() => Err(version(data, made_by, &here)),
            (Ok(_), _) => Err(self.missing(super::download::Error::DoesNotRun(self.download.folder()))),
            (Err(err), _) => Err(self.missing(err)),
        }
    }

    /// Folders with a `postgres`, links resolved: Postgres looks for its other files from where it really is.
    fn candidates(&self) -> Vec<PathBuf> {
        let versioned = self.versioned.iter().flat_map(|prefix| versions(prefix));
        let mut folders = Vec::new();
        for folder in std::env::split_paths(&self.path).filter(|folder| folder.is_absolute()).chain(versioned)
        {
            let Ok(binary) = fs::canonicalize(folder.join("postgres")) else { continue };
            if let Some(folder) = binary.parent()
                && !folders.iter().any(|known| known == folder)
            {
                folders.push(folder.to_owned());
            }
        }
        folders
    }

    fn missing(&self, err: super::download::Error) -> Error {
        let looked: Vec<String> = self.versioned.iter().map(|prefix| format!("{prefix}*/bin")).collect();
        Error::Missing { looked: looked.join(", "), download: Box::new(err), install: install() }
    }
}

/// The folders that begin so and go on with a number, the highest first.
fn versions(prefix: &str) -> Vec<PathBuf> {
    let (parent, start) = prefix.rsplit_once('/').unwrap_or((".", prefix));
    let entries = fs::read_dir(format!("{parent}/")).into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let version = name.strip_prefix(start)?.split('.').next()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    found.into_iter().map(|(_, folder)| folder).collect()
}

fn version(data: &Path, made_by: u32, found: &[Binaries]) -> Error {
    let found: BTreeSet<u32> = found.iter().map(|found| found.major).collect();
    let found: Vec<String> = found.iter().map(u32::to_string).collect();
    Error::Version { folder: data.to_owned(), made_by, found: found.join(", ") }
}

/// A `postgres` and an `initdb` that run here.
#[derive(Clone, Debug, Default)]
pub(super) struct Binaries {
    folder: PathBuf,
    major: u32,
}

impl Binaries {
    /// `None`: not both are there, they do not run as this account, or they are too old.
    fn in_folder(folder: &Path, account: &Account) -> Option<Binaries> {
        let found = Binaries { folder: folder.to_owned(), major: 0 };
        if !found.initdb().is_file() {
            return None;
        }
        let output = account.command(&found.postgres(), Path::new("/")).arg("--version").output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let number = text.split(' ').nth(2)?.split(|c: char| !c.is_ascii_digit()).next()?;
        let major = number.parse().ok().filter(|major| output.status.success() && *major >= OLDEST)?;
        Some(Binaries { major, ..found })
    }

    pub fn postgres(&self) -> PathBuf {
        self.folder.join("postgres")
    }

    pub fn initdb(&self) -> PathBuf {
        self.folder.join("initdb")
    }
}

/// The command that installs Postgres on this system; all that we know of if we do not know the system.
fn install() -> String {
    let commands = [
        ("debian", "`apt-get install postgresql`"),
        ("fedora", "`dnf install postgresql-server`"),
        ("alpine", "`apk add postgresql`"),
        ("arch", "`pacman -S postgresql`"),
        ("suse", "`zypper install postgresql-server`"),
    ];
    let brew = "`brew install postgresql@17`";
    if cfg!(target_os = "macos") {
        return brew.into();
    }
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let ids: Vec<&str> = release
        .lines()
        .filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")))
        .flat_map(|ids| ids.trim_matches('"').split(' '))
        .collect();
    match commands.iter().find(|(id, _)| ids.contains(id)) {
        Some((_, command)) => (*command).to_owned(),
        None => {
            commands.map(|(id, command)| format!("{command} ({id})")).join(", ") + ", " + brew + " (macOS)"
        }
    }
}
