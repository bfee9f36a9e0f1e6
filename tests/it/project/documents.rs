//! What the documents say, held against the code: names in their tables, blocks, links.

mod blocks;
mod commands;
mod links;
mod names;

use std::collections::BTreeSet;

use regex::Regex;

/// What this pattern finds in the texts.
fn all<'t>(pattern: &str, texts: impl IntoIterator<Item = &'t str>) -> BTreeSet<String> {
    let pattern = Regex::new(pattern).expect("a pattern");
    texts.into_iter().flat_map(|text| pattern.captures_iter(text).map(|found| found[1].to_owned())).collect()
}

#[test]
fn the_dockerfile_has_a_stand_in_for_every_target_of_the_manifest() {
    let manifest = include_str!("../../../Cargo.toml");
    let tests = all(r#"\[\[test\]\]\nname = "(\w+)""#, [manifest])
        .into_iter()
        .map(|name| format!("tests/{name}/main.rs"));
    let benches = all(r#"\[\[bench\]\]\nname = "(\w+)""#, [manifest])
        .into_iter()
        .map(|name| format!("benches/{name}.rs"));
    for file in tests.chain(benches) {
        assert!(include_str!("../../../Dockerfile").contains(&format!(" {file}")), "{file}");
    }
}
