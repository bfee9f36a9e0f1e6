//! The folders of an instance: the one with its socket, and the one that keeps its data from start to start.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::account::Account;
use super::{Error, doing, pid_file};

/// The longest path of a Unix socket that macOS takes; Linux takes 107 bytes.
const LONGEST_SOCKET_PATH: usize = 103;
const SOCKET: &str = ".s.PGSQL.5432";

/// Makes the data folder's home and keeps every other instance out of it.
pub fn claim(dir: &Path, account: &Account) -> Result<File, Error> {
    doing(fs::create_dir_all(dir), || format!("making {}", dir.display()))?;
    if !account.reaches(dir) {
        return Err(Error::Unreachable { folder: dir.to_owned(), account: account.to_string() });
    }
    let path = dir.join("lock");
    let file = OpenOptions::new().create(true).append(true).open(&path);
    let file = doing(file, || format!("opening {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Error::InUse { folder: dir.to_owned(), pid: pid_file(&dir.join("data")).map(|file| file.0) })
        }
        Err(TryLockError::Error(source)) => {
            Err(Error::Io { doing: format!("locking {}", path.display()), source })
        }
    }
}

/// The name of a folder yet to be made, which nobody else has; short, since a socket's path may have no more than
/// about a hundred bytes.
pub fn temporary(account: &Account, wanted: Option<&Path>) -> PathBuf {
    let name = format!("rb-pg-{:010x}", rand::random::<u64>() >> 24);
    let fits = |base: &Path| {
        base.is_absolute()
            && base.join(&name).join(SOCKET).as_os_str().len() <= LONGEST_SOCKET_PATH
            && account.reaches(base)
    };
    let wanted = wanted.map(Path::to_owned).into_iter().chain([std::env::temp_dir()]).find(|base| fits(base));
    wanted.unwrap_or_else(|| PathBuf::from("/tmp")).join(name)
}

/// Makes a folder that is Postgres' own.
pub fn make(folder: &Path, account: &Account) -> Result<(), Error> {
    let made = DirBuilder::new().mode(0o700).create(folder).and_then(|()| account.give(folder));
    doing(made, || format!("making {}", folder.display()))
}
