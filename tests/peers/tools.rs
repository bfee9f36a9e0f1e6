//! Where the programs of others are, and how they are run.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tokio::process::Command;

/// A file of this folder.
pub fn here(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(name)
}

/// The OpenAPI document as committed.
pub fn openapi() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi/openapi.json")
}

/// Node, if this npm package is installed. `None`: the test is to be skipped.
pub fn node_with(package: &str) -> Option<PathBuf> {
    let installed = here("node_modules").join(package).is_dir();
    let node = on_path("node").filter(|_| installed);
    or_skip(node, &format!("node with the npm package {package} ('npm ci --prefix tests/peers')"))
}

/// A program of the Python environment. `None`: the test is to be skipped.
pub fn python_program(name: &str) -> Option<PathBuf> {
    let environment = std::env::var_os("PEERS_VENV").map(PathBuf::from);
    let environment =
        environment.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers-venv"));
    let program = Some(environment.join("bin").join(name)).filter(|path| path.is_file());
    or_skip(program, &format!("{name} of tests/peers/requirements.txt in target/peers-venv"))
}

/// A program of the machine's. `None`: the test is to be skipped.
pub fn machine_program(name: &str) -> Option<PathBuf> {
    or_skip(on_path(name), name)
}

/// A program that `.ci/run` takes out of a package, else one of the machine's. `None`: the test is to be skipped.
pub fn fetched_program(name: &str) -> Option<PathBuf> {
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers-bin").join(name);
    let program = Some(fetched).filter(|path| path.is_file()).or_else(|| on_path(name));
    or_skip(program, &format!("{name} ('.ci/run' fetches it to target/peers-bin)"))
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// What there is. `None`: the test is to be skipped, which is said, or is a failure.
pub fn or_skip<T>(program: Option<T>, what: &str) -> Option<T> {
    if program.is_some() {
        return program;
    }
    let required = std::env::var("REQUIRE_PEERS").is_ok_and(|value| value == "1");
    assert!(!required, "REQUIRE_PEERS is set, but there is no {what}");
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    // Past the capture of passed tests' output: it is to be seen.
    let _ = writeln!(std::io::stderr(), "skipped: {test}: there is no {what}");
    None
}

/// A port that this process hands out once, outside of those that systems choose by themselves: while one of two
/// servers starts, or after it was killed, nobody else answers in its place.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + (std::process::id() % 20) as u16 * 1_000;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(port < first + 1_000, "no free port is left");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// Runs a program to its end; its standard output. Panics with all that it said if it fails.
pub async fn run(command: &mut Command, limit: Duration) -> String {
    let running = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(limit, running)
        .await
        .unwrap_or_else(|_| panic!("{command:?} did not end within {limit:?}"))
        .unwrap_or_else(|err| panic!("{command:?}: {err}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{said}\n{complained}", output.status);
    said
}
