//! TOML → [`Document`], with every fault of form and its line. Knows the document's shape, not its meaning.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::deny::{DenyEntry, Until};
use super::document::{Document, Fault, Lines, Member, TeamEntry};
use crate::model::{GroupRef, Method};

type Value<'t> = Spanned<DeValue<'t>>;

const TEAM_KEYS: &str = "name, description, required_labels, allowed_labels, methods, targets, \
    runner_groups, max_runners, requests_per_minute, member";

impl Document {
    /// Reads TOML.
    ///
    /// # Errors
    /// Every fault of form: unknown keys, missing keys and wrong types, in the order of their lines. Text that is
    /// not TOML is a single fault.
    pub fn parse(text: &str) -> Result<Document, Vec<Fault>> {
        match read(text) {
            (document, faults) if faults.is_empty() => Ok(document),
            (_, faults) => Err(faults),
        }
    }
}

/// The readable part, and the faults of the rest. Entries that lack something essential are left out, so that a
/// check of the readable part finds no fault that follows from one named here.
pub(super) fn read(text: &str) -> (Document, Vec<Fault>) {
    let newlines = text.match_indices('\n').map(|(at, _)| at).collect();
    let mut reader = Reader { newlines, lines: Lines::default(), faults: Vec::new() };
    let document = match DeTable::parse(text) {
        Ok(table) => reader.document(table.get_ref()),
        Err(err) => {
            let line = err.span().map(|span| reader.line(span));
            reader.faults.push(Fault { line, place: String::new(), what: err.message().to_owned() });
            Document::default()
        }
    };
    reader.faults.sort_by_key(|fault| fault.line);
    (Document { lines: reader.lines, ..document }, reader.faults)
}

struct Reader {
    newlines: Vec<usize>,
    lines: Lines,
    faults: Vec<Fault>,
}

/// The position of a value: `place` for later faults, `who` for people.
#[derive(Clone, Copy)]
struct At<'a> {
    place: &'a str,
    who: &'a str,
}

impl Reader {
    fn line(&self, span: Range<usize>) -> usize {
        self.newlines.partition_point(|&newline| newline < span.start) + 1
    }

    fn mark(&mut self, place: &str, span: Range<usize>) {
        let line = self.line(span);
        self.lines.0.insert(place.to_owned(), line);
    }

    fn fault(&mut self, span: Range<usize>, who: &str, what: impl std::fmt::Display) {
        let line = Some(self.line(span));
        let what = if who.is_empty() { what.to_string() } else { format!("{who}: {what}") };
        self.faults.push(Fault { line, place: String::new(), what });
    }

    fn document(&mut self, table: &DeTable<'_>) -> Document {
        let mut document = Document::default();
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "team" => document.team = self.teams(value),
                "admin" => document.admin = self.members(value, At { place: "admin", who: "admin" }),
                "auditor" => document.auditor = self.members(value, At { place: "auditor", who: "auditor" }),
                "deny" => document.deny = self.denials(value),
                other => self.unknown(key.span(), "", other, "team, admin, auditor, deny"),
            }
        }
        document
    }

    fn unknown(&mut self, span: Range<usize>, who: &str, key: &str, known: &str) {
        self.fault(span, who, format!("unknown key '{key}'; there are {known}"));
    }

    fn teams(&mut self, value: &Value<'_>) -> Vec<TeamEntry> {
        let mut teams = Vec::new();
        for (table, span) in self.tables(value, "team") {
            // Entries that are left out take no place: the lines are those of the document as read.
            let place = format!("team.{}", teams.len());
            teams.extend(self.team(table, span, &place));
        }
        teams
    }

    fn team(&mut self, table: &DeTable<'_>, span: Range<usize>, place: &str) -> Option<TeamEntry> {
        let named = table
            .iter()
            .find(|(key, _)| key.get_ref() == "name")
            .and_then(|(_, name)| name.get_ref().as_str());
        let who = &named.map_or_else(|| "a team".to_owned(), |name| format!("team '{name}'"));
        self.mark(place, span.clone());
        let mut team = TeamEntry::named("");
        let mut name = None;
        for (key, value) in table {
            let key_text = key.get_ref().as_ref();
            let place = &format!("{place}.{key_text}");
            self.mark(place, key.span());
            let at = At { place, who };
            match key_text {
                "name" => name = Some(self.text(value, at, "name")),
                "description" => team.description = self.text(value, at, "description").unwrap_or_default(),
                "required_labels" => {
                    team.required_labels = self.texts(value, at, "required_labels").unwrap_or_default()
                }
                "allowed_labels" => {
                    team.allowed_labels = self.texts(value, at, "allowed_labels").unwrap_or_default()
                }
                "methods" => team.methods = self.methods(value, at).unwrap_or(team.methods),
                "targets" => team.targets = self.texts(value, at, "targets"),
                "runner_groups" => {
                    team.runner_groups = self.list(value, at, "runner_groups", "a name or an id", group)
                }
                "max_runners" => team.max_runners = self.number(value, at, "max_runners"),
                "requests_per_minute" => {
                    team.requests_per_minute = self.number(value, at, "requests_per_minute")
                }
                "member" => team.member = self.members(value, At { who: &format!("{who}: member"), ..at }),
                other => self.unknown(key.span(), who, other, TEAM_KEYS),
            }
        }
        if name.is_none() {
            self.fault(span, who, "name is missing");
        }
        Some(TeamEntry { name: name??, ..team })
    }

    fn members(&mut self, value: &Value<'_>, at: At<'_>) -> Vec<Member> {
        let mut members = Vec::new();
        for (table, span) in self.tables(value, at.who) {
            let place = format!("{}.{}", at.place, members.len());
            members.extend(self.member(table, span, At { place: &place, who: at.who }));
        }
        members
    }

    fn member(&mut self, table: &DeTable<'_>, span: Range<usize>, at: At<'_>) -> Option<Member> {
        self.mark(at.place, span.clone());
        let (mut issuer, mut claims) = (None, None);
        for (key, value) in table {
            let key_text = key.get_ref().as_ref();
            let place = &format!("{}.{key_text}", at.place);
            self.mark(place, key.span());
            let at = At { place, who: at.who };
            match key_text {
                "issuer" => issuer = Some(self.text(value, at, "issuer")),
                "claims" => claims = Some(self.claims(value, at)),
                other => self.unknown(key.span(), at.who, other, "issuer, claims"),
            }
        }
        self.missing(span, at.who, &[("issuer", issuer.is_none()), ("claims", claims.is_none())]);
        Some(Member { issuer: issuer??, claims: claims?? })
    }

    fn denials(&mut self, value: &Value<'_>) -> Vec<DenyEntry> {
        let mut denials = Vec::new();
        for (table, span) in self.tables(value, "deny") {
            let place = format!("deny.{}", denials.len());
            denials.extend(self.denial(table, span, &place));
        }
        denials
    }

    fn denial(&mut self, table: &DeTable<'_>, span: Range<usize>, place: &str) -> Option<DenyEntry> {
        let who = "deny";
        self.mark(place, span.clone());
        let (mut issuer, mut claims) = (None, None);
        let (mut comment, mut until) = (String::new(), None);
        for (key, value) in table {
            let key_text = key.get_ref().as_ref();
            let place = &format!("{place}.{key_text}");
            self.mark(place, key.span());
            let at = At { place, who };
            match key_text {
                "issuer" => issuer = Some(self.text(value, at, "issuer")),
                "claims" => claims = Some(self.claims(value, at)),
                "comment" => comment = self.text(value, at, "comment").unwrap_or_default(),
                "until" => until = self.until(value, at),
                other => self.unknown(key.span(), who, other, "issuer, claims, comment, until"),
            }
        }
        self.missing(span, who, &[("issuer", issuer.is_none()), ("claims", claims.is_none())]);
        Some(DenyEntry { issuer: issuer??, claims: claims??, comment, until })
    }

    fn until(&mut self, value: &Value<'_>, at: At<'_>) -> Option<Until> {
        let text = match value.get_ref() {
            DeValue::Datetime(date) => date.to_string(),
            _ => self.text(value, at, "until")?,
        };
        let until = text.parse().map_err(|why| self.fault(value.span(), at.who, format!("until: {why}")));
        until.ok()
    }

    fn missing(&mut self, span: Range<usize>, who: &str, keys: &[(&str, bool)]) {
        for (key, _) in keys.iter().filter(|(_, is_missing)| *is_missing) {
            self.fault(span.clone(), who, format!("{key} is missing"));
        }
    }

    fn claims(&mut self, value: &Value<'_>, at: At<'_>) -> Option<BTreeMap<String, String>> {
        let Some(table) = value.get_ref().as_table() else {
            self.fault(value.span(), at.who, "claims is a table");
            return None;
        };
        let mut claims = Some(BTreeMap::new());
        for (key, value) in table {
            let place = &format!("{}.{}", at.place, key.get_ref());
            self.mark(place, key.span());
            let text = self.text(value, At { place, ..at }, &format!("claims: '{}'", key.get_ref()));
            claims = claims.zip(text).map(|(mut claims, text)| {
                claims.insert(key.get_ref().to_string(), text);
                claims
            });
        }
        claims
    }

    fn tables<'v, 't>(&mut self, value: &'v Value<'t>, who: &str) -> Vec<(&'v DeTable<'t>, Range<usize>)> {
        let mut tables = Vec::new();
        let Some(items) = value.get_ref().as_array() else {
            self.fault(value.span(), who, "is a list of tables, written in double brackets");
            return tables;
        };
        for item in items {
            match item.get_ref().as_table() {
                Some(table) => tables.push((table, item.span())),
                None => self.fault(item.span(), who, "is a list of tables, written in double brackets"),
            }
        }
        tables
    }

    fn text(&mut self, value: &Value<'_>, at: At<'_>, key: &str) -> Option<String> {
        let text = value.get_ref().as_str().map(str::to_owned);
        if text.is_none() {
            self.fault(value.span(), at.who, format!("{key} is a string, not {}", kind(value)));
        }
        text
    }

    fn texts(&mut self, value: &Value<'_>, at: At<'_>, key: &str) -> Option<Vec<String>> {
        self.list(value, at, key, "a string", |value| value.as_str().map(str::to_owned))
    }

    fn methods(&mut self, value: &Value<'_>, at: At<'_>) -> Option<Vec<Method>> {
        self.list(value, at, "methods", "jit or registration_token", |value| value.as_str()?.parse().ok())
    }

    fn number(&mut self, value: &Value<'_>, at: At<'_>, key: &str) -> Option<i64> {
        let number = integer(value.get_ref());
        if number.is_none() {
            self.fault(value.span(), at.who, format!("{key} is a whole number, not {}", kind(value)));
        }
        number
    }

    /// `None` if one of the items is not `wanted`, each of which is a fault.
    fn list<T>(
        &mut self,
        value: &Value<'_>,
        at: At<'_>,
        key: &str,
        wanted: &str,
        read: impl Fn(&DeValue<'_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Some(items) = value.get_ref().as_array() else {
            self.fault(value.span(), at.who, format!("{key} is a list, not {}", kind(value)));
            return None;
        };
        let mut list = Some(Vec::new());
        for (n, item) in items.iter().enumerate() {
            self.mark(&format!("{}.{n}", at.place), item.span());
            let read = read(item.get_ref());
            if read.is_none() {
                self.fault(item.span(), at.who, format!("{key}: each is {wanted}, not {}", kind(item)));
            }
            list = list.zip(read).map(|(mut list, item)| {
                list.push(item);
                list
            });
        }
        list
    }
}

fn integer(value: &DeValue<'_>) -> Option<i64> {
    let number = value.as_integer()?;
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

fn group(value: &DeValue<'_>) -> Option<GroupRef> {
    let name = value.as_str().map(|name| GroupRef::Name(name.to_owned()));
    name.or_else(|| integer(value).map(GroupRef::Id))
}

fn kind(value: &Value<'_>) -> String {
    match value.get_ref() {
        DeValue::String(text) => format!("'{text}'"),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(yes) => yes.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
