//! How to run a private Postgres, and the server settings that follow from it.

use std::path::{Path, PathBuf};

use super::Search;

/// How to run a private Postgres.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the data survives: in `data` there, beside `postgres.log`. `None`: nothing survives.
    pub data_dir: Option<PathBuf>,
    /// Where what does not survive is put, if that is good for it; `None`: where the system has such things.
    pub scratch: Option<PathBuf>,
    /// Whether commits wait for the disk.
    pub fsync: bool,
    pub max_connections: u16,
    /// Further settings, named as in `postgresql.conf`; they win over ours.
    pub settings: Vec<(String, String)>,
    /// Where binaries may come from.
    pub search: Search,
}

impl Options {
    /// All in a temporary folder that goes away with the instance, and nothing waits for the disk.
    pub fn temporary() -> Options {
        Options {
            data_dir: None,
            scratch: None,
            fsync: false,
            max_connections: 300,
            settings: Vec::new(),
            search: Search::of_this_machine(),
        }
    }

    /// The data stays in this folder, which is made if need be, and is there at the next start.
    pub fn kept(data_dir: impl Into<PathBuf>) -> Options {
        Options { data_dir: Some(data_dir.into()), fsync: true, ..Options::temporary() }
    }
}

/// The settings of the command line: a small server that listens on its socket alone.
pub(super) fn settings(options: &Options, folder: &Path) -> Vec<(String, String)> {
    let on_off = |on: bool| if on { "on" } else { "off" }.to_owned();
    let mut settings: Vec<(String, String)> = [
        ("listen_addresses", String::new()),
        ("port", "5432".into()),
        ("unix_socket_directories", folder.display().to_string()),
        ("max_connections", options.max_connections.to_string()),
        ("fsync", on_off(options.fsync)),
        ("synchronous_commit", on_off(options.fsync)),
        ("full_page_writes", on_off(options.fsync)),
        ("shared_buffers", "64MB".into()),
        ("wal_level", "minimal".into()),
        ("max_wal_senders", "0".into()),
        ("jit", "off".into()),
        ("timezone", "UTC".into()),
        ("log_timezone", "UTC".into()),
        // Shared memory as files in the data folder: those go with it, even after a kill.
        ("dynamic_shared_memory_type", "mmap".into()),
        // Its visits to a template would hold up `CREATE DATABASE`.
        ("autovacuum", on_off(options.data_dir.is_some())),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    settings.extend(options.settings.iter().cloned());
    settings
}
