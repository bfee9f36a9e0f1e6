//! The documents of this repository, taken apart: their fenced blocks, headings, links and code words.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// A document that is read by people.
pub struct Document {
    /// From the repository's root.
    pub path: String,
    pub text: String,
}

/// A fenced block.
#[derive(Clone, Debug)]
pub struct Block {
    /// Where it begins, for messages: `README.md:12`.
    pub place: String,
    pub kind: Kind,
    pub text: String,
    /// How many headings stand above it.
    pub section: usize,
}

/// What a block is, and so what a test does with it; the info string says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `sh`: run, in order with the others of its document.
    Run,
    /// `sh not-run: why`: not run, for this reason.
    NotRun(String),
    /// `env`: lines of a `.env`; the configuration has to accept them.
    Env,
    /// `toml`: a policy, or members of a team; `policy check` has to accept it.
    Policy,
    /// `yaml`: parsed.
    Yaml,
    /// `json`: parsed; after a block that is run, what that prints.
    Json,
    /// `text`: a picture, or after a block that is run, what that prints.
    Text,
}

impl Kind {
    /// `None`: nobody has said what to do with such a block.
    fn of(info: &str) -> Option<Kind> {
        match (info, info.strip_prefix("sh not-run: ")) {
            (_, Some(why)) if !why.trim().is_empty() => Some(Kind::NotRun(why.trim().to_owned())),
            ("sh", _) => Some(Kind::Run),
            ("env", _) => Some(Kind::Env),
            ("toml", _) => Some(Kind::Policy),
            ("yaml", _) => Some(Kind::Yaml),
            ("json", _) => Some(Kind::Json),
            ("text", _) => Some(Kind::Text),
            _ => None,
        }
    }
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Documents at the top of the repository.
pub const AT_THE_TOP: [&str; 3] = ["CONTRIBUTING.md", "README.md", "SECURITY.md"];

/// Those at the top, and all in docs, deploy and examples.
pub fn documents() -> Vec<Document> {
    let mut paths: Vec<PathBuf> = AT_THE_TOP.iter().map(|name| root().join(name)).collect();
    for folder in ["docs", "deploy", "examples"] {
        collect(&root().join(folder), &mut paths);
    }
    paths.sort();
    let read = |path: PathBuf| Document {
        text: std::fs::read_to_string(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display())),
        path: path.strip_prefix(root()).expect("inside").display().to_string(),
    };
    paths.into_iter().map(read).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            paths.push(path);
        }
    }
}

/// One of them.
pub fn document(path: &str) -> Document {
    documents().into_iter().find(|document| document.path == path).unwrap_or_else(|| panic!("no {path}"))
}

impl Document {
    fn events(&self) -> impl Iterator<Item = (Event<'_>, usize)> {
        let parser = Parser::new_ext(&self.text, Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH);
        parser.into_offset_iter().map(|(event, range)| (event, range.start))
    }

    fn place(&self, offset: usize) -> String {
        let before = self.text.get(..offset).unwrap_or_default();
        format!("{}:{}", self.path, before.matches('\n').count() + 1)
    }

    /// The fenced blocks in order. Panics at one whose info string nobody knows.
    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::new();
        let (mut section, mut inside) = (0, false);
        for (event, offset) in self.events() {
            match event {
                Event::Start(Tag::Heading { .. }) => section += 1,
                Event::Start(Tag::CodeBlock(kind)) => {
                    let place = self.place(offset);
                    let info = match kind {
                        CodeBlockKind::Fenced(info) => info.to_string(),
                        CodeBlockKind::Indented => panic!("{place}: an indented block says not what it is"),
                    };
                    let kind = Kind::of(&info).unwrap_or_else(|| {
                        panic!(
                            "{place}: nobody knows what to do with a block '{info}'; see tests/it/markdown.rs"
                        )
                    });
                    blocks.push(Block { place, kind, text: String::new(), section });
                    inside = true;
                }
                Event::Text(text) if inside => {
                    blocks.last_mut().expect("it has begun").text.push_str(&text);
                }
                Event::End(TagEnd::CodeBlock) => inside = false,
                _ => {}
            }
        }
        blocks
    }

    /// What a block that is run prints, by the block that says so: the next one, under the same heading.
    pub fn runs(&self) -> Vec<(Block, Option<Block>)> {
        let blocks = self.blocks();
        let output = |index: usize| {
            let next = blocks.get(index + 1)?;
            let says = matches!(next.kind, Kind::Json | Kind::Text) && next.section == blocks[index].section;
            says.then(|| next.clone())
        };
        let runs = blocks.iter().enumerate().filter(|(_, block)| block.kind == Kind::Run);
        runs.map(|(index, block)| (block.clone(), output(index))).collect()
    }

    /// The names by which GitHub lets the headings be linked.
    pub fn anchors(&self) -> Vec<String> {
        let mut seen: BTreeMap<String, u32> = BTreeMap::new();
        let mut anchors = Vec::new();
        let mut heading: Option<String> = None;
        for (event, _) in self.events() {
            match (event, &mut heading) {
                (Event::Start(Tag::Heading { .. }), _) => heading = Some(String::new()),
                (Event::Text(text) | Event::Code(text), Some(heading)) => heading.push_str(&text),
                (Event::End(TagEnd::Heading(_)), _) => {
                    let name = anchor(&heading.take().unwrap_or_default());
                    let count = seen.entry(name.clone()).or_default();
                    anchors.push(if *count == 0 { name } else { format!("{name}-{count}") });
                    *count += 1;
                }
                _ => {}
            }
        }
        anchors
    }

    /// Where its links and pictures lead, each with its place.
    pub fn links(&self) -> Vec<(String, String)> {
        let link = |(event, offset)| match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                Some((self.place(offset), dest_url.to_string()))
            }
            _ => None,
        };
        self.events().filter_map(link).collect()
    }

    /// The words in code font, each with its place.
    pub fn code_words(&self) -> Vec<(String, String)> {
        let code = |(event, offset)| match event {
            Event::Code(text) => Some((self.place(offset), text.to_string())),
            _ => None,
        };
        self.events().filter_map(code).collect()
    }

    /// The rows of all tables below this heading, down to the next of its height: the cells as they are written.
    pub fn rows(&self, heading: &str) -> Vec<Vec<String>> {
        let height = heading.chars().take_while(|c| *c == '#').count();
        let below = self.text.split_once(&format!("\n{heading}\n"));
        let (_, below) = below.unwrap_or_else(|| panic!("{}: no heading '{heading}'", self.path));
        let is_end = |line: &str| {
            let hashes = line.chars().take_while(|c| *c == '#').count();
            (1..=height).contains(&hashes) && line[hashes..].starts_with(' ')
        };
        let mut in_block = false;
        let lines = below.lines().take_while(|line| {
            in_block ^= line.starts_with("```");
            in_block || !is_end(line)
        });
        let lines: Vec<&str> = lines.collect();
        let is_head = |index: usize| lines.get(index + 1).is_some_and(|next| next.starts_with("|---"));
        let rows =
            lines.iter().enumerate().filter(|(index, line)| line.starts_with("| `") && !is_head(*index));
        rows.map(|(_, line)| cells(line)).collect()
    }
}

/// The cells of a row; `\|` is a character of its cell.
fn cells(line: &str) -> Vec<String> {
    let line = line.trim().trim_start_matches('|').replace("\\|", "\u{0}");
    let line = line.strip_suffix('|').unwrap_or(&line);
    line.split('|').map(|cell| cell.trim().replace('\u{0}', "|")).collect()
}

/// The first word in code font of a cell.
pub fn code(cell: &str) -> String {
    cell.split('`').nth(1).unwrap_or_default().to_owned()
}

/// As GitHub makes them: lower case, no punctuation, hyphens for spaces.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}
