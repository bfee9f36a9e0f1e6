//! The arrows of the architecture, held against the sources: a module uses only what stands under it, and
//! each library has one user.

use std::fs;
use std::path::{Path, PathBuf};

/// Modules and how high they stand; of two on the same height neither knows the other.
const HEIGHTS: &[(&str, u8)] = &[
    ("main", 9),
    ("cli", 8),
    ("http", 7),
    ("background", 7),
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

/// Every crossing in a file of `src/`, as `file:line: what`.
fn crossings(file: &str, text: &str) -> Vec<String> {
    let parts: Vec<&str> = file.trim_end_matches(".rs").split('/').filter(|part| *part != "mod").collect();
    let module = parts[0];
    let code = without_comments_and_texts(text);
    let mut found = Vec::new();
    let mut report = |at: usize, what: String| {
        let line = 1 + code[..at].matches('\n').count();
        found.push(format!("src/{file}:{line}: {what}"));
    };
    for (at, used) in modules_used(&code, parts.len()) {
        let allowed = match used {
            "dev" => DEV_USERS.contains(&module),
            used if used == module => true,
            used => match (height(module), height(used)) {
                (Some(own), Some(used)) => used < own,
                // A function or a type of the crate's root: there are none but modules.
                _ => false,
            },
        };
        if !allowed {
            report(at, format!("{module} may not use {used}"));
        }
    }
    for (library, users) in ONLY_USERS {
        for (at, _) in code.match_indices(library) {
            let before = code[..at].chars().next_back();
            let rest = &code[at..];
            let name_end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let is_path = rest[name_end..].starts_with("::") || code[..at].ends_with("use ");
            let is_name = before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':');
            if is_path && is_name && !users.contains(&module) {
                report(at, format!("only {} may use {}", users.join(" and "), &rest[..name_end]));
            }
        }
    }
    found
}

/// The modules of the crate that are named, each with its place: by `crate::`, `runner_broker::`, or `super::`
/// as often as it takes to leave the module at `depth`.
fn modules_used(code: &str, depth: usize) -> Vec<(usize, &str)> {
    let mut used = Vec::new();
    let climb = "super::".repeat(depth);
    for root in ["crate::", "runner_broker::", &climb] {
        for (at, _) in code.match_indices(root) {
            let begins =
                code[..at].chars().next_back().is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != '$');
            let climbs_on = root == climb && code[..at].ends_with("super::");
            if !begins || climbs_on {
                continue;
            }
            let rest = &code[at + root.len()..];
            for (offset, name) in first_names(rest) {
                // `use super::*` in a file's own tests means the file.
                let is_module = name == "dev" || height(name).is_some();
                if is_module || root != climb {
                    used.push((at + root.len() + offset, name));
                }
            }
        }
    }
    used
}

/// `a` of `a::b`; `a` and `c` of `{a::b, c}`.
fn first_names(rest: &str) -> Vec<(usize, &str)> {
    let name = |from: usize| {
        let text = &rest[from..];
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        (end > 0).then(|| (from, &text[..end]))
    };
    if !rest.starts_with('{') {
        return name(0).into_iter().collect();
    }
    let (mut depth, mut names, mut expected) = (0, Vec::new(), false);
    for (at, c) in rest.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => {}
            c if expected && !c.is_whitespace() => {
                names.extend(name(at));
                expected = false;
                continue;
            }
            _ => continue,
        }
        if depth == 0 {
            break;
        }
        expected = depth == 1 && c != '}';
    }
    names
}

/// The code with comments and texts blanked, so that places stay as they are.
fn without_comments_and_texts(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let raw = rest.strip_prefix('r').map(|after| after.len() - after.trim_start_matches('#').len());
        let skipped = match (c, raw) {
            _ if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            (_, Some(hashes))
                if rest[1 + hashes..].starts_with('"') && !code.ends_with(char::is_alphanumeric) =>
            {
                let end = format!("\"{}", "#".repeat(hashes));
                let body = 2 + hashes;
                rest[body..].find(&end).map_or(rest.len(), |at| body + at + end.len())
            }
            ('"', _) => end_of_text(rest),
            ('\'', _) if rest.starts_with("'\"'") => 3,
            ('\'', _) if rest.starts_with("'\\") => 2 + rest[2..].find('\'').unwrap_or(0).max(1),
            _ => 0,
        };
        let kept = if skipped == 0 { c.len_utf8() } else { skipped };
        match skipped {
            0 => code.push(c),
            _ => code.extend(rest[..skipped].chars().map(|c| if c == '\n' { '\n' } else { ' ' })),
        }
        rest = &rest[kept..];
    }
    code
}

fn end_of_text(rest: &str) -> usize {
    let mut escaped = true;
    for (at, c) in rest.char_indices() {
        match c {
            '"' if !escaped => return at + 1,
            '\\' if !escaped => escaped = true,
            _ => escaped = false,
        }
    }
    rest.len()
}

/// Every `.rs` file below `folder`.
pub fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

#[test]
fn a_module_uses_only_what_stands_under_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut files = 0;
    for path in sources(&src) {
        let file = path.strip_prefix(&src).unwrap().to_str().unwrap().replace('\\', "/");
        if file == "lib.rs" || file == "dev.rs" || file.starts_with("dev/") {
            continue;
        }
        files += 1;
        found.extend(crossings(&file, &fs::read_to_string(&path).unwrap()));
    }
    assert!(files > 50, "{files}");
    assert!(found.is_empty(), "the arrows of src/lib.rs run one way:\n{}", found.join("\n"));
}

#[test]
fn every_module_has_its_place() {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
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
        ("broker/mod.rs", "use crate::dev::github;", 1, "broker may not use dev"),
        ("cli.rs", "struct S { s: actix_server::Server }", 1, "only http may use actix_server"),
        ("broker/mod.rs", "use diesel::prelude::*;", 1, "only store may use diesel"),
        (
            "http/body.rs",
            "let c = reqwest::get();",
            1,
            "only auth and alerts and telemetry and client may use reqwest",
        ),
        ("telemetry.rs", "// a \"\nuse crate::broker; // '\"'", 2, "telemetry may not use broker"),
    ];
    for (file, text, line, what) in cases {
        assert_eq!(crossings(file, text), [format!("src/{file}:{line}: {what}")]);
    }
    let fine = [
        ("http/me.rs", "use super::views;\nuse crate::broker::{Broker, github};\nuse crate::{auth, store};"),
        ("model.rs", "mod tests { use super::*; }"),
        (
            "store/mod.rs",
            "// as crate::broker says\nlet x = \"crate::http::y\"; let y = r#\"crate::\"http\"#;",
        ),
        ("http/me.rs", "use super::super::http::x; let reqwesting = my::diesel::x;"),
    ];
    for (file, text) in fine {
        assert_eq!(crossings(file, text), Vec::<String>::new());
    }
}
