//! The house stays one that can be seen at a glance: no long file, no crowded folder, every room in the table.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::project::sources::files;

const LONGEST_FILE: usize = 400;

/// How many rooms and files a folder of `broker` or `http` has at most, besides [`COMMON`].
const MOST_ENTRIES: usize = 14;

/// What every such folder may have.
const COMMON: [&str; 4] = ["mod.rs", "error.rs", "events.rs", "urls.rs"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn no_file_is_too_long_to_be_read_at_once() {
    let all = ["src", "tests/it", "tests/peers"].into_iter().flat_map(|folder| files(&root().join(folder)));
    let lines = all.map(|path| (fs::read_to_string(&path).unwrap().lines().count(), path));
    let long: Vec<_> = lines.filter(|(lines, _)| *lines > LONGEST_FILE).collect();
    assert!(long.is_empty(), "more than {LONGEST_FILE} lines; is it two things? {long:?}");
}

#[test]
fn no_folder_of_the_broker_or_of_http_is_crowded() {
    let mut entries: BTreeMap<&Path, Vec<String>> = BTreeMap::new();
    let all: Vec<_> =
        ["src/broker", "src/http"].into_iter().flat_map(|folder| files(&root().join(folder))).collect();
    for path in &all {
        let mut below: &Path = path;
        while let Some(folder) = below.parent().filter(|folder| folder.starts_with(root().join("src"))) {
            let name = below.file_name().unwrap().to_str().unwrap().to_owned();
            let known = entries.entry(folder).or_default();
            if !COMMON.contains(&name.as_str()) && !known.contains(&name) {
                known.push(name);
            }
            below = folder;
        }
    }
    entries.remove(root().join("src").as_path());
    let crowded: Vec<_> = entries.iter().filter(|(_, entries)| entries.len() > MOST_ENTRIES).collect();
    assert!(crowded.is_empty(), "more than {MOST_ENTRIES} entries: {crowded:?}");
}

#[test]
fn the_brokers_own_page_says_what_is_in_which_room() {
    let broker = root().join("src/broker");
    let page = fs::read_to_string(broker.join("mod.rs")).unwrap();
    let rows: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("//! | ")).collect();
    for entry in fs::read_dir(&broker).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            assert!(rows.iter().any(|row| row.contains(&format!("`{name}`"))), "no row for {name}: {rows:?}");
        }
    }
}
