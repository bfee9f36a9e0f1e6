//! The files of `examples/`, as they are committed, run to the point where a runner takes its job: from a fresh
//! folder, with the programs that they say they need and no others.

mod bootstrap;
mod cloud_init;
mod compose;
mod github_actions;
mod gitlab_ci;
mod kubernetes;
mod outside;
mod private_root;
mod schemas;
mod stage;
mod systemd;

use std::path::{Path, PathBuf};

/// A file of `examples/`.
fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

fn read(name: &str) -> String {
    let path = example(name);
    std::fs::read_to_string(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()))
}
