//! Whom Postgres runs as: it refuses root, so root runs it as an existing unprivileged user.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::Error;

/// Ourselves, or whom we become if we are root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Account {
    Ourselves,
    Other { name: String, uid: u32, gid: u32 },
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Account::Ourselves => f.write_str("ourselves"),
            Account::Other { name, .. } => write!(f, "user `{name}`"),
        }
    }
}

impl Account {
    /// Existing data stays with its owner.
    pub fn for_data(data_dir: Option<&Path>) -> Result<Account, Error> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Account::Ourselves);
        }
        if let Some(found) = data_dir.and_then(|dir| fs::metadata(dir.join("data/PG_VERSION")).ok())
            && found.uid() != 0
        {
            return Ok(Account::Other {
                name: format!("#{}", found.uid()),
                uid: found.uid(),
                gid: found.gid(),
            });
        }
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let user = |name| users.lines().find_map(|line| parse(line, name));
        user("postgres").or_else(|| user("_postgres")).or_else(|| user("nobody")).ok_or(Error::NoAccount)
    }

    /// Whether this account may pass through all the folders to this one, and through it.
    pub fn reaches(&self, folder: &Path) -> bool {
        let Account::Other { uid, gid, .. } = self else { return true };
        let Ok(folder) = fs::canonicalize(folder) else { return false };
        folder.ancestors().all(|folder| {
            fs::metadata(folder).is_ok_and(|found| {
                let bit = match () {
                    () if found.uid() == *uid => 0o100,
                    () if found.gid() == *gid => 0o010,
                    () => 0o001,
                };
                found.mode() & bit != 0
            })
        })
    }

    /// Makes it the owner.
    pub fn give(&self, folder: &Path) -> io::Result<()> {
        match self {
            Account::Ourselves => Ok(()),
            Account::Other { uid, gid, .. } => chown(folder, Some(*uid), Some(*gid)),
        }
    }

    /// A program as this account, in its own process group, so that a Ctrl-C at the terminal is ours to handle,
    /// and untouched by what a `PG…` variable or a locale would change.
    pub fn command(&self, program: &Path, folder: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(folder).stdin(Stdio::null()).process_group(0).env("LC_ALL", "C");
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
            command.env_remove(name);
        }
        if let Account::Other { uid, gid, .. } = self {
            command.uid(*uid).gid(*gid);
        }
        command
    }
}

/// A line of `/etc/passwd`, if it is this user's and not another root. macOS writes `nobody` as -2.
fn parse(line: &str, wanted: &str) -> Option<Account> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| *name == wanted)?;
    let mut number = |skip| Some(fields.nth(skip)?.parse::<i64>().ok()? as u32);
    let (uid, gid) = (number(1)?, number(0)?);
    (uid != 0).then(|| Account::Other { name: name.to_owned(), uid, gid })
}
