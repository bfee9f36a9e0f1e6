//! How many connections and bytes fit into the memory and the open files that this process has.

use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What an open connection takes, in bytes: its buffers, its task, the kernel's part.
const CONNECTION: u64 = 40 * 1024;

/// The most connections of strangers, and the most bytes that they hold: with their connections less than 64 MiB, and
/// a webhook of 25 MiB fits.
const STRANGERS: usize = 768;
const STRANGERS_BYTES: usize = 28 * 1024 * 1024;

/// The most connections of verified callers.
const CALLERS: usize = 16_384;

/// Open files for everything else: Postgres, GitHub, issuers, logs.
const OTHER_FILES: u64 = 256;

/// The limits of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For those of whom nobody knows who they are.
    pub strangers: Share,
    /// For verified callers.
    pub callers: Share,
    /// What they were derived from.
    pub memory: u64,
    /// Likewise.
    pub open_files: u64,
}

/// What some may have together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Open connections.
    pub connections: usize,
    /// Of those, of one address or one identity.
    pub connections_of_one: usize,
    /// Bytes of requests and answers in memory.
    pub bytes: usize,
}

impl Limits {
    /// For this process: raises the number of files that it may open as far as it may.
    pub fn of_this_process() -> Limits {
        Limits::derived(memory(), open_files())
    }

    /// For so many bytes of memory and so many open files.
    pub fn derived(memory: u64, open_files: u64) -> Limits {
        let files = open_files.saturating_sub(OTHER_FILES).max(64) as usize;
        let fit =
            |part: u64, least: usize, most: usize| ((memory / part / CONNECTION) as usize).clamp(least, most);
        let strangers = fit(8, 128, STRANGERS).min(files / 3);
        let callers = fit(4, 256, CALLERS).min(files - files / 3);
        let part_of_memory = usize::try_from(memory / 8).unwrap_or(usize::MAX);
        Limits {
            strangers: Share {
                connections: strangers,
                connections_of_one: (strangers / 3).max(1),
                bytes: STRANGERS_BYTES,
            },
            callers: Share {
                connections: callers,
                connections_of_one: (callers / 2).max(1),
                bytes: part_of_memory.clamp(16 * 1024 * 1024, 256 * 1024 * 1024),
            },
            memory,
            open_files,
        }
    }
}

/// Bytes: of the machine, or less if a cgroup says so.
fn memory() -> u64 {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| meminfo(&text));
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let read = |path: &str| {
        std::fs::read_to_string(Path::new("/sys/fs/cgroup").join(path)).ok()?.trim().parse().ok()
    };
    let cgroups = cgroup_files(&own).into_iter().filter_map(|path| read(&path));
    cgroups.chain(machine).min().unwrap_or(1 << 30)
}

/// The machine's memory, in bytes, of `/proc/meminfo`.
fn meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// Where a limit may stand, below `/sys/fs/cgroup`, for what `/proc/self/cgroup` says: of the own group and of each that
/// it is in; for version 2 and version 1. In a container the own group is usually the root.
fn cgroup_files(own: &str) -> Vec<String> {
    let mut files = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let (folder, file) = match controllers {
            "" => ("", "memory.max"),
            _ if controllers.split(',').any(|one| one == "memory") => ("memory/", "memory.limit_in_bytes"),
            _ => continue,
        };
        let mut group = path.trim_matches('/');
        loop {
            let slash = if group.is_empty() { "" } else { "/" };
            files.push(format!("{folder}{group}{slash}{file}"));
            match group.rsplit_once('/') {
                Some((parent, _)) => group = parent,
                None if group.is_empty() => break,
                None => group = "",
            }
        }
    }
    files
}

/// How many files this process may open.
fn open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(1 << 20);
    let now = limit.current.unwrap_or(most);
    if now < most && setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: Some(most) }).is_ok()
    {
        return most;
    }
    now
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn strangers_fit_into_64_mib_whatever_the_machine_has() {
        for memory in [128 * MIB, 256 * MIB, 1024 * MIB, 1024 * 1024 * MIB] {
            for files in [256, 1024, 65_536, 1 << 30] {
                let Limits { strangers, callers, .. } = Limits::derived(memory, files);
                let most = strangers.connections as u64 * CONNECTION + strangers.bytes as u64;
                assert!(most < 64 * MIB, "{memory} {files}: {most}");
                assert!(strangers.connections_of_one < strangers.connections, "one address is not all");
                assert!(callers.connections_of_one < callers.connections, "one identity is not all");
                assert!(((strangers.connections + callers.connections) as u64) < files.max(320), "{files}");
            }
        }
    }

    #[test]
    fn a_cgroup_is_looked_for_up_to_the_root_in_both_versions() {
        let paths = cgroup_files("0::/system.slice/broker.service\n");
        assert_eq!(
            paths,
            ["system.slice/broker.service/memory.max", "system.slice/memory.max", "memory.max"]
        );
        assert_eq!(cgroup_files("0::/\n"), ["memory.max"]);
        let paths = cgroup_files("5:cpu,cpuacct:/a\n4:memory:/docker/b\n");
        let wanted = ["docker/b", "docker", ""].map(|group| {
            let slash = if group.is_empty() { "" } else { "/" };
            format!("memory/{group}{slash}memory.limit_in_bytes")
        });
        assert_eq!(paths, wanted);
        assert!(cgroup_files("nonsense").is_empty());
    }

    #[test]
    fn the_machines_memory_is_read() {
        assert_eq!(meminfo("MemFree: 1 kB\nMemTotal:       24000 kB\n"), Some(24_000 * 1024));
        assert_eq!(meminfo("MemTotal: lots\n"), None);
    }
}
