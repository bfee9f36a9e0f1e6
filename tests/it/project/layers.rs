//! The arrows of the architecture, held against the sources: a module uses only what stands under it, no circle
//! runs through a folder, and each library has one user.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::project::sources::{Module, Sources, Use};

/// Modules and how high they stand; of two on the same height neither knows the other.
const HEIGHTS: &[(&str, u8)] = &[
    ("main", 9),
    ("cli", 8),
    ("background", 7),
    ("http", 7),
    ("broker", 6),
    ("alerts", 5),
    ("auth", 5),
    ("github", 5),
    ("store", 5),
    ("policy", 4),
    ("seal", 4),
    ("certificate", 3),
    ("client", 3),
    ("telemetry", 3),
    ("config", 2),
    ("model", 1),
    ("clock", 1),
    ("single_flight", 1),
    ("visible", 1),
];

/// Libraries (what their names begin with) and their only users. `main` installs the TLS provider.
const ONLY_USERS: &[(&str, &[&str])] = &[
    ("actix", &["http"]),
    ("utoipa", &["http"]),
    ("diesel", &["store"]),
    ("tokio_postgres", &["store"]),
    ("octocrab", &["github"]),
    ("hyper", &["github"]),
    // GitHub wants a JWT of the App's.
    ("jsonwebtoken", &["auth", "github"]),
    ("openidconnect", &["auth"]),
    ("oauth2", &["auth"]),
    // Keys come by it, alerts and spans go by it, and a client of ours is a client.
    ("reqwest", &["auth", "alerts", "telemetry", "client"]),
    ("opentelemetry", &["telemetry"]),
    ("tracing_opentelemetry", &["telemetry"]),
    ("metrics_exporter_prometheus", &["telemetry"]),
    ("clap", &["cli", "main"]),
    ("x509_parser", &["certificate"]),
    ("tlog_tiles", &["seal"]),
    ("signed_note", &["seal"]),
];

/// Who may start the development servers.
const DEV_USERS: &[&str] = &["main"];

fn height(module: &str) -> Option<u8> {
    HEIGHTS.iter().find(|(name, _)| *name == module).map(|(_, height)| *height)
}

/// Every arrow of a file that goes to a module at the same height or above, and every library that is not for it.
fn crossings(module: &Module) -> Vec<String> {
    let own = module.path.first().map_or("main", String::as_str);
    let mut found = Vec::new();
    for Use { line, path } in &module.uses {
        let Some(used) = path.first().map(String::as_str) else { continue };
        let allowed = match used {
            "dev" => DEV_USERS.contains(&own),
            used if used == own => true,
            used => match (height(own), height(used)) {
                (Some(own), Some(used)) => used < own,
                // A function or a type of the crate's root: there are none but modules.
                _ => false,
            },
        };
        if !allowed {
            found.push(format!("src/{}:{line}: {own} may not use {used}", module.file));
        }
    }
    for (line, library) in &module.libraries {
        for (prefix, users) in ONLY_USERS {
            if library.starts_with(prefix) && !users.contains(&own) {
                found.push(format!(
                    "src/{}:{line}: only {} may use {library}",
                    module.file,
                    users.join(" and ")
                ));
            }
        }
    }
    found
}

/// One arrow between two entries of a folder, and the first line that draws it.
type Arrows = BTreeMap<String, BTreeMap<String, String>>;

/// For each folder the arrows between its entries: files, and folders as a whole. What an entry takes from
/// its parent by the parent's `pub use` counts as taken from where it is defined.
fn arrows(sources: &Sources) -> BTreeMap<Vec<String>, Arrows> {
    let mut folders: BTreeMap<Vec<String>, Arrows> = BTreeMap::new();
    for module in &sources.modules {
        for used in &module.uses {
            let target = sources.definer(&used.path);
            let shared = module.path.iter().zip(&target).take_while(|(a, b)| a == b).count();
            // Of a parent and what is inside of it one has to know the other.
            if let (Some(from), Some(to)) = (module.path.get(shared), target.get(shared)) {
                let place = format!("src/{}:{}", module.file, used.line);
                let arrows = folders.entry(module.path[..shared].to_vec()).or_default();
                arrows.entry(from.clone()).or_default().entry(to.clone()).or_insert(place);
            }
        }
    }
    folders
}

/// A shortest circle through each entry that stands on one, each told once, with the lines that draw it.
fn circles(sources: &Sources) -> Vec<String> {
    let mut found = Vec::new();
    for (folder, arrows) in arrows(sources) {
        let mut told: BTreeSet<BTreeSet<&str>> = BTreeSet::new();
        for start in arrows.keys() {
            let Some(circle) = way_back(&arrows, start) else { continue };
            if !told.insert(circle.iter().copied().collect()) {
                continue;
            }
            let lines = circle.iter().zip(circle.iter().cycle().skip(1)).map(|(from, to)| {
                let place = &arrows[*from][*to];
                format!("  {from} -> {to}: {place}")
            });
            let lines: Vec<String> = lines.collect();
            let name = if folder.is_empty() { "src".to_owned() } else { folder.join("/") };
            found.push(format!("a circle in {name}:\n{}", lines.join("\n")));
        }
    }
    found
}

/// The shortest way along the arrows from `start` back to it: the entries on it, `start` first.
fn way_back<'a>(arrows: &'a Arrows, start: &'a str) -> Option<Vec<&'a str>> {
    let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut next = vec![start];
    while !next.is_empty() {
        let mut further = Vec::new();
        for from in next {
            for to in arrows.get(from).into_iter().flat_map(BTreeMap::keys) {
                if to == start {
                    let mut way = vec![from];
                    while way[0] != start {
                        way.insert(0, came_from[way[0]]);
                    }
                    return Some(way);
                }
                if !came_from.contains_key(to.as_str()) {
                    came_from.insert(to, from);
                    further.push(to.as_str());
                }
            }
        }
        next = further;
    }
    None
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

#[test]
fn a_module_uses_only_what_stands_under_it() {
    let sources = Sources::read(&src());
    assert!(sources.modules.len() > 50, "{}", sources.modules.len());
    let outside = |module: &&Module| module.path.first().is_none_or(|first| first != "dev");
    let found: Vec<String> = sources
        .modules
        .iter()
        .filter(outside)
        .filter(|module| module.file != "lib.rs")
        .flat_map(crossings)
        .collect();
    assert!(found.is_empty(), "the arrows of src/lib.rs run one way:\n{}", found.join("\n"));
}

#[test]
fn no_circle_runs_through_a_folder() {
    let found = circles(&Sources::read(&src()));
    assert!(found.is_empty(), "{} circles:\n{}", found.len(), found.join("\n"));
}

#[test]
fn every_module_has_its_place() {
    let lib = fs::read_to_string(src().join("lib.rs")).unwrap();
    let modules: Vec<&str> =
        lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert!(modules.len() > 10, "{modules:?}");
    // In reading order, the highest first.
    let heights: Vec<u8> = modules
        .iter()
        .filter(|module| **module != "dev")
        .map(|module| height(module).expect(module))
        .collect();
    assert!(heights.is_sorted_by(|a, b| a >= b), "{modules:?}");
}

#[test]
fn a_crossing_is_seen_however_it_is_written() {
    let cases = [
        ("store/runners.rs", "\nuse crate::github::GitHub;", 2, "store may not use github"),
        (
            "auth/mod.rs",
            "use crate::{\n    model::{Identity, Role},\n    store::Store,\n};",
            3,
            "auth may not use store",
        ),
        ("policy/decide.rs", "fn f() { crate::broker::run() }", 1, "policy may not use broker"),
        ("model.rs", "use super::config::Config;", 1, "model may not use config"),
        ("github/app.rs", "use super::super::store;", 1, "github may not use store"),
        ("http/me.rs", "use crate::background;", 1, "http may not use background"),
        ("http/page.rs", "fn f() { html! { p { (crate::cli::x()) } } }", 1, "http may not use cli"),
        ("broker/mod.rs", "use crate::dev::github;", 1, "broker may not use dev"),
        ("cli.rs", "struct S { s: actix_server::Server }", 1, "only http may use actix_server"),
        ("broker/mod.rs", "use diesel::prelude::*;", 1, "only store may use diesel"),
        (
            "http/body.rs",
            "fn f() { let c = reqwest::get(); }",
            1,
            "only auth and alerts and telemetry and client may use reqwest",
        ),
        ("telemetry.rs", "// a \"\nuse crate::broker; // '\"'", 2, "telemetry may not use broker"),
        ("model.rs", "mod tests { use super::super::store; }", 1, "model may not use store"),
    ];
    for (file, text, line, what) in cases {
        assert_eq!(crossings(&Module::parse(file, text)), [format!("src/{file}:{line}: {what}")]);
    }
    let fine = [
        ("http/me.rs", "use super::views;\nuse crate::broker::{Broker, github};\nuse crate::{auth, store};"),
        ("model.rs", "mod tests { use super::*; }"),
        (
            "store/mod.rs",
            "// as crate::broker says\nfn f() { let x = \"crate::http::y\"; let y = r#\"crate::\"http\"#; }",
        ),
        ("http/me.rs", "use super::super::http::x; fn f() { let reqwesting = my::diesel::x; }"),
    ];
    for (file, text) in fine {
        assert_eq!(crossings(&Module::parse(file, text)), Vec::<String>::new());
    }
}

#[test]
fn a_circle_is_seen_wherever_it_runs() {
    let sources = |files: &[(&str, &str)]| Sources {
        modules: files.iter().map(|(file, text)| Module::parse(file, text)).collect(),
    };
    // Two files of a folder.
    let found = circles(&sources(&[
        ("broker/mod.rs", "mod a;\nmod b;"),
        ("broker/a.rs", "use super::b::B;"),
        ("broker/b.rs", "\nfn f() { super::a::run() }"),
    ]));
    assert_eq!(found, ["a circle in broker:\n  a -> b: src/broker/a.rs:1\n  b -> a: src/broker/b.rs:2"]);
    // By what the parent hands on.
    let found = circles(&sources(&[
        ("broker/mod.rs", "mod a;\nmod b;\npub use b::{B, C as D};"),
        ("broker/a.rs", "use super::D;"),
        ("broker/b.rs", "use crate::broker::a;"),
    ]));
    assert_eq!(found, ["a circle in broker:\n  a -> b: src/broker/a.rs:1\n  b -> a: src/broker/b.rs:1"]);
    // Three folders, deep inside.
    let found = circles(&sources(&[
        ("http/a/x/deep.rs", "use crate::http::b::y;"),
        ("http/b/y.rs", "use crate::http::{body, c::{z, w}};"),
        ("http/c/z.rs", "use crate::http::a::x::deep::F;"),
        ("http/body.rs", ""),
    ]));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("c -> a: src/http/c/z.rs:1"), "{found:?}");
    // A parent and its children are none, nor is a way without return.
    let found = circles(&sources(&[
        ("broker/mod.rs", "mod a;\nuse a::A;\nuse b::B;\npub struct Broker;"),
        ("broker/a.rs", "use super::Broker;\nuse super::b::B;"),
        ("broker/b.rs", "use crate::broker::Broker;"),
    ]));
    assert_eq!(found, Vec::<String>::new());
}
