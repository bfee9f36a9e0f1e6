//! The crate's sources as modules and what they use, read from their tokens: comments and texts count for nothing,
//! what stands in macros and attributes counts.

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Something of this crate that a file names.
#[derive(Debug)]
pub struct Use {
    pub line: usize,
    /// From the crate's root on: modules, then perhaps an item.
    pub path: Vec<String>,
}

/// A file of the crate.
#[derive(Debug)]
pub struct Module {
    /// Below `src/`.
    pub file: String,
    /// Its own path; empty for `lib.rs` and `main.rs`.
    pub path: Vec<String>,
    pub uses: Vec<Use>,
    /// First names of paths that are not this crate's, each with its line.
    pub libraries: Vec<(usize, String)>,
    /// What it hands on by `pub use`: the name, and where that comes from.
    handed_on: Vec<(String, Vec<String>)>,
}

pub struct Sources {
    pub modules: Vec<Module>,
}

impl Sources {
    /// Every `.rs` file below `src`.
    pub fn read(src: &Path) -> Sources {
        let modules = files(src).into_iter().map(|path| {
            let file =
                path.strip_prefix(src).expect("below src").to_str().expect("a name").replace('\\', "/");
            Module::parse(&file, &fs::read_to_string(&path).expect("a source"))
        });
        Sources { modules: modules.collect() }
    }

    /// The module that defines what `path` names, as far as that can be told: `pub use` is followed.
    pub fn definer(&self, path: &[String]) -> Vec<String> {
        let mut path = path.to_vec();
        // A name is handed on a few times at most.
        for _ in 0..8 {
            let lengths = (1..=path.len()).rev();
            let module = lengths
                .filter_map(|length| self.modules.iter().find(|one| one.path == path[..length]))
                .next();
            let Some(module) = module else { return path };
            let name = path.get(module.path.len());
            let from = name.and_then(|name| module.handed_on.iter().find(|(known, _)| known == name));
            match from {
                Some((_, from)) if *from != path => path = from.clone(),
                _ => return module.path.clone(),
            }
        }
        path
    }
}

impl Module {
    /// Reads the text of `file`, whose path is below `src/`.
    pub fn parse(file: &str, text: &str) -> Module {
        let names =
            file.trim_end_matches(".rs").split('/').filter(|name| !matches!(*name, "mod" | "lib" | "main"));
        let path: Vec<String> = names.map(str::to_owned).collect();
        let tokens: TokenStream = text.parse().unwrap_or_else(|err| panic!("{file}: {err}"));
        let mut module = Module {
            file: file.to_owned(),
            path,
            uses: Vec::new(),
            libraries: Vec::new(),
            handed_on: Vec::new(),
        };
        let here = module.path.clone();
        module.walk(tokens, &here);
        module
    }

    /// Notes every path in `tokens`, which stand in the module `here`.
    fn walk(&mut self, tokens: TokenStream, here: &[String]) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Ident(name) if name == "mod" => {
                    if let (Some(TokenTree::Ident(inner)), Some(TokenTree::Group(body))) =
                        (tokens.get(at + 1), tokens.get(at + 2))
                    {
                        let inner = [here, &[inner.to_string()]].concat();
                        self.walk(body.stream(), &inner);
                        at += 3;
                        continue;
                    }
                }
                TokenTree::Ident(name) if name == "use" => {
                    let end =
                        (at..tokens.len()).find(|&end| is(tokens.get(end), ';')).unwrap_or(tokens.len());
                    let is_public = at > 0 && handed_out(&tokens[..at]);
                    self.tree(&tokens[at + 1..end], &[], here, is_public, true);
                    at = end;
                    continue;
                }
                TokenTree::Ident(_) if is_path(&tokens, at) => {
                    let mut end = at + 1;
                    while is(tokens.get(end), ':') && is(tokens.get(end + 1), ':') {
                        match tokens.get(end + 2) {
                            Some(TokenTree::Ident(_)) => end += 3,
                            _ => break,
                        }
                    }
                    self.tree(&tokens[at..end], &[], here, false, false);
                    at = end;
                    continue;
                }
                TokenTree::Group(group) => self.walk(group.stream(), here),
                _ => {}
            }
            at += 1;
        }
    }

    /// A path, or a tree of them as after `use`.
    fn tree(
        &mut self,
        tokens: &[TokenTree],
        before: &[(usize, String)],
        here: &[String],
        is_public: bool,
        is_use: bool,
    ) {
        let mut path = before.to_vec();
        let mut renamed = None;
        let mut tokens = tokens.iter().peekable();
        while let Some(token) = tokens.next() {
            match token {
                TokenTree::Ident(name) if name == "as" => {
                    renamed = tokens.next().map(ToString::to_string);
                }
                TokenTree::Ident(name) => path.push((name.span().start().line, name.to_string())),
                TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                    let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                    for branch in
                        inner.split(|token| is(Some(token), ',')).filter(|branch| !branch.is_empty())
                    {
                        self.tree(branch, &path, here, is_public, is_use);
                    }
                    return;
                }
                _ => {}
            }
        }
        self.note(&path, renamed, here, is_public, is_use);
    }

    fn note(
        &mut self,
        path: &[(usize, String)],
        renamed: Option<String>,
        here: &[String],
        is_public: bool,
        is_use: bool,
    ) {
        let Some((_, first)) = path.first() else { return };
        let line = path.last().expect("not empty").0;
        let names: Vec<String> =
            path.iter().map(|(_, name)| name.clone()).filter(|name| name != "self").collect();
        let climbs = names.iter().take_while(|name| *name == "super").count();
        let absolute = match first.as_str() {
            "crate" | "runner_broker" => names[1..].to_vec(),
            "self" => [here, &names].concat(),
            "super" if climbs <= here.len() => [&here[..here.len() - climbs], &names[climbs..]].concat(),
            "super" => return,
            // Of this file's own, or a library's: only names tell, and modules here are not called like libraries.
            _ if is_use && is_public => [here, &names].concat(),
            first => {
                self.libraries.push((path[0].0, first.to_owned()));
                return;
            }
        };
        // `use super::*` in a file's own tests means the file.
        if absolute.len() <= self.path.len() && self.path.starts_with(&absolute) {
            return;
        }
        if is_public && is_use {
            let name = renamed.unwrap_or_else(|| absolute.last().cloned().unwrap_or_default());
            self.handed_on.push((name, absolute.clone()));
        }
        if !absolute.starts_with(&self.path) || self.path.is_empty() {
            // At the first module's line: that of the last name may be some lines below.
            let module =
                path.iter().find(|(_, name)| Some(name) == absolute.first()).map_or(line, |(line, _)| *line);
            self.uses.push(Use { line: module, path: absolute });
        }
    }
}

/// Whether what precedes a `use` makes it public: `pub`, or `pub(…)`.
fn handed_out(before: &[TokenTree]) -> bool {
    let last = match before.last() {
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis => {
            before.len().checked_sub(2)
        }
        _ => before.len().checked_sub(1),
    };
    last.is_some_and(|last| matches!(&before[last], TokenTree::Ident(name) if name == "pub"))
}

fn is(token: Option<&TokenTree>, wanted: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

/// Whether a path begins here: a name with `::` behind it, and no name or point before it.
fn is_path(tokens: &[TokenTree], at: usize) -> bool {
    let follows = is(tokens.get(at + 1), ':') && is(tokens.get(at + 2), ':');
    let before = at.checked_sub(1).and_then(|before| tokens.get(before));
    let continues = is(before, '.') || (at >= 2 && is(before, ':') && is(tokens.get(at - 2), ':'));
    follows && !continues
}

/// Every `.rs` file below `folder`.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = entries
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect();
    found.sort();
    found
}
