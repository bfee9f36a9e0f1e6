//! Long lists, newest first, a page at a time. A page walks down an index or a few of them, chosen by the filters that
//! an index serves; the other filters are tested row by row, for at most some thousand rows (`MAX_ROWS`). So no page
//! reads more than that, whatever is asked for and whatever Postgres knows of the table. A page that finds too little
//! ends early, and says where to go on.
//!
//! A page takes three statements: the ids, the rows with these ids, and on first pages the total. The rows are read by
//! diesel from a table that it knows, which the ids' statement, made at run time, is not.
//!
//! No page reads more than 10,000 rows (4,000 where one index leads through the whole table). A filter with an index
//! says where to walk; any other is checked row by row on the way: an index for each would cost every provision, and
//! none serves a part of a name. A page may end early, even empty, with its `next_cursor`; `total` stops there too.
//! Several teams, or a user by name or subject, are several walks in one statement, merged down to the id that all
//! have reached. Each walk is bounded on its column rather than equal to one value, so no other index gives its
//! order: Postgres would else walk the whole table where it believes that enough of it fits.

mod condition;
mod statement;

use std::str::FromStr;

use diesel::QueryableByName;
use diesel::sql_types::BigInt;
use diesel_async::RunQueryDsl;

pub use condition::{Condition, Matching, Value, when};

use super::{Conn, Error};
use statement::Statement;

/// How many rows a page tests at most when it walks the whole table, where neighbours lie side by side on disk.
const MAX_ROWS: i64 = 10_000;

/// The same for any other index, where each row may lie in a block of its own.
const MAX_SCATTERED_ROWS: i64 = 4_000;

/// Of several indexes each gets its share of [`MAX_SCATTERED_ROWS`], but not less than this.
const MIN_ROWS_OF_SOURCE: i64 = 100;

/// A part of a table to walk down, by an index.
#[derive(Clone, Debug)]
pub enum Source {
    /// All rows, by id.
    All,
    /// Rows with a value, by the index on (column, id).
    At {
        /// A column, or the expression that is indexed.
        column: &'static str,
        /// Its value.
        value: Value,
        /// The condition of a partial index, as the index has it.
        of: Option<Condition>,
    },
    /// Rows without a value, by the index on (column, id).
    Without {
        /// The column that is NULL.
        column: &'static str,
    },
}

/// Rows with this value in this column.
pub fn at(column: &'static str, value: Value) -> Source {
    Source::At { column, value, of: None }
}

/// As [`at`], for a text.
pub fn at_text(column: &'static str, text: impl Into<String>) -> Source {
    at(column, Value::Text(text.into()))
}

impl Source {
    /// Of these, those that fit the condition of a partial index.
    pub fn of(mut self, condition: Condition) -> Source {
        if let Source::At { of, .. } = &mut self {
            *of = Some(condition);
        }
        self
    }

    /// The same as a condition, for rows that are found by something else.
    fn condition(&self) -> Condition {
        match self {
            Source::All => when("true"),
            Source::Without { column } => when(format!("{column} IS NULL")),
            Source::At { column, value, of } => {
                let equal = when(format!("{column} = ?")).with(value.clone());
                match of {
                    Some(of) => equal.and(of.clone()),
                    None => equal,
                }
            }
        }
    }

    /// Orders by the column, too, so that no other index gives this order: Postgres walks down the whole table if it
    /// believes that enough rows fit, and they may all be at the other end.
    fn order(&self) -> String {
        match self {
            Source::All => " ORDER BY id DESC".into(),
            Source::At { column, .. } | Source::Without { column } => {
                format!(" ORDER BY {column} DESC, id DESC")
            }
        }
    }
}

/// What a list is filtered by.
#[derive(Clone, Debug)]
pub enum Filter {
    /// Rows from any of these sources. None: no row.
    Indexed(Vec<Source>),
    /// Rows that fit a condition for which there is no index.
    Plain(Condition),
}

impl Filter {
    /// The same as a condition.
    pub fn condition(self) -> Condition {
        match self {
            Filter::Plain(condition) => condition,
            Filter::Indexed(sources) => {
                let conditions = sources.iter().map(Source::condition);
                conditions.reduce(Condition::or).unwrap_or_else(|| when("false"))
            }
        }
    }
}

/// How a list is walked.
#[derive(Clone, Debug)]
pub struct Walk {
    /// The table's name.
    pub table: &'static str,
    /// A row of the list comes from one of these. None: the list is empty.
    pub sources: Vec<Source>,
    /// The row's id is not less than this.
    pub lowest: Option<Value>,
    /// All of these are true of the row.
    pub filters: Vec<Condition>,
}

impl Walk {
    /// Walks down the indexes of the first filter that has any, and tests the others.
    pub fn by(table: &'static str, filters: impl IntoIterator<Item = Filter>) -> Walk {
        let (mut sources, mut conditions) = (None, Vec::new());
        for filter in filters {
            match filter {
                Filter::Indexed(indexed) if sources.is_none() => sources = Some(indexed),
                other => conditions.push(other.condition()),
            }
        }
        Walk {
            table,
            sources: sources.unwrap_or_else(|| vec![Source::All]),
            lowest: None,
            filters: conditions,
        }
    }
}

/// A page: ids, newest first, and where the next one begins; `None`: this is the last. It may have fewer rows than
/// asked for, even none, and yet not be the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<Id> {
    /// Newest first.
    pub ids: Vec<Id>,
    /// The next page has smaller ids than this.
    pub next: Option<Id>,
}

/// How many rows a list has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Total {
    /// The rows that were counted.
    pub count: i64,
    /// There may be more.
    pub capped: bool,
}

impl Walk {
    /// How many rows of each source are tested.
    fn max_rows(&self) -> i64 {
        match self.sources.as_slice() {
            [Source::All] => MAX_ROWS,
            sources => (MAX_SCATTERED_ROWS / (sources.len() as i64).max(1)).max(MIN_ROWS_OF_SOURCE),
        }
    }

    /// The rows of `table` that a source has, beneath `before`. An equation would make the column a constant, and the
    /// order that of the ids alone; hence the two bounds, which are those of the index's part.
    fn rows(&self, to: &mut Statement, what: &'static str, source: &Source, before: Option<&Value>) {
        to.push("SELECT ").push(what).push(" FROM ").push(self.table).push(" WHERE ");
        match source {
            Source::At { column, value, of } => {
                for (bound, id, alone) in [(" >= ", &self.lowest, " >= "), (" < ", &before.cloned(), " <= ")]
                {
                    match id {
                        Some(id) => {
                            to.push("(")
                                .push(column)
                                .push(", id)")
                                .push(bound)
                                .push("(")
                                .value(value.clone());
                            to.push(", ").value(id.clone()).push(")");
                        }
                        None => {
                            to.push(column).push(alone).value(value.clone());
                        }
                    }
                    to.push(" AND ");
                }
                match of {
                    Some(of) => to.condition(of),
                    None => to.push("true"),
                };
            }
            Source::All | Source::Without { .. } => {
                match source {
                    Source::Without { column } => to.push(column).push(" IS NULL"),
                    _ => to.push("true"),
                };
                if let Some(lowest) = &self.lowest {
                    to.push(" AND id >= ").value(lowest.clone());
                }
                if let Some(before) = before {
                    to.push(" AND id < ").value(before.clone());
                }
            }
        }
        to.push(&source.order());
    }

    fn filters(&self, to: &mut Statement) {
        for (at, filter) in self.filters.iter().enumerate() {
            to.push(if at == 0 { " " } else { " AND " }).condition(filter);
        }
    }

    /// At most `limit` ids, those before `before`.
    pub async fn page<Id>(&self, conn: &mut Conn, before: Option<Id>, limit: i64) -> Result<Page<Id>, Error>
    where
        Id: Copy + Ord + FromStr + Into<Value>,
    {
        if self.sources.is_empty() {
            return Ok(Page { ids: Vec::new(), next: None });
        }
        let before: Option<Value> = before.map(Into::into);
        let mut ids: Vec<Id> = self.found(before.as_ref(), limit + 1).keys(conn).await?;
        let full = ids.len() as i64 > limit;
        // Whether every row down to the last that was found has been seen.
        let all_seen = self.filters.is_empty() || (full && self.sources.len() == 1);
        let seen_to: Option<Id> = match all_seen {
            true => None,
            false => self.seen_to(before.as_ref()).keys(conn).await?.into_iter().next(),
        };
        if let Some(seen_to) = seen_to {
            ids.retain(|id| *id >= seen_to);
        }
        let full = ids.len() as i64 > limit;
        ids.truncate(limit as usize);
        let next = if full { ids.last().copied() } else { seen_to };
        Ok(Page { ids, next })
    }

    /// The first `most` ids, as many pages as that takes: for what is to act on all that fit.
    pub async fn up_to<Id>(&self, conn: &mut Conn, most: i64) -> Result<Vec<Id>, Error>
    where
        Id: Copy + Ord + FromStr + Into<Value>,
    {
        let (mut ids, mut before) = (Vec::new(), None);
        loop {
            let page: Page<Id> = self.page(conn, before, most - ids.len() as i64).await?;
            ids.extend(page.ids);
            before = page.next;
            if before.is_none() || ids.len() as i64 >= most {
                return Ok(ids);
            }
        }
    }

    fn found(&self, before: Option<&Value>, limit: i64) -> Statement {
        let mut statement = Statement::default();
        statement.push("SELECT id::text AS key FROM (");
        for (at, source) in self.sources.iter().enumerate() {
            // The same row may come from two sources.
            statement.push(if at == 0 { "(" } else { " UNION (" });
            if self.filters.is_empty() {
                self.rows(&mut statement, "id", source, before);
            } else {
                statement.push("SELECT id FROM (");
                self.rows(&mut statement, "*", source, before);
                statement.push(" LIMIT ").value(Value::BigInt(self.max_rows())).push(") AS walked WHERE");
                self.filters(&mut statement);
                statement.push(&source.order());
            }
            statement.push(" LIMIT ").value(Value::BigInt(limit)).push(")");
        }
        statement.push(") AS found ORDER BY id DESC LIMIT ").value(Value::BigInt(limit));
        statement
    }

    /// The id down to which every source was walked; none if all of them were walked to their end.
    fn seen_to(&self, before: Option<&Value>) -> Statement {
        let mut statement = Statement::default();
        statement.push("SELECT id::text AS key FROM (");
        for (at, source) in self.sources.iter().enumerate() {
            statement.push(if at == 0 { "(" } else { " UNION ALL (" });
            self.rows(&mut statement, "id", source, before);
            statement.push(" LIMIT 1 OFFSET ").value(Value::BigInt(self.max_rows() - 1)).push(")");
        }
        statement.push(") AS last ORDER BY id DESC LIMIT 1");
        statement
    }

    /// How many rows there are, counted to `most` and among those that a first page may look at. The sources must have
    /// no row in common.
    pub async fn total(&self, conn: &mut Conn, most: i64) -> Result<Total, Error> {
        #[derive(QueryableByName)]
        struct Counted {
            #[diesel(sql_type = BigInt)]
            fit: i64,
            #[diesel(sql_type = BigInt)]
            seen: i64,
        }
        if self.sources.is_empty() {
            return Ok(Total { count: 0, capped: false });
        }
        let max_rows = if self.filters.is_empty() { most + 1 } else { self.max_rows() };
        let mut statement = Statement::default();
        for (at, source) in self.sources.iter().enumerate() {
            statement.push(if at == 0 { "" } else { " UNION ALL " });
            statement.push("SELECT count(*)");
            if !self.filters.is_empty() {
                statement.push(" FILTER (WHERE");
                self.filters(&mut statement);
                statement.push(")");
            }
            statement.push(" AS fit, count(*) AS seen FROM (");
            self.rows(&mut statement, if self.filters.is_empty() { "id" } else { "*" }, source, None);
            statement.push(" LIMIT ").value(Value::BigInt(max_rows)).push(") AS walked");
        }
        let counted: Vec<Counted> = statement.boxed().load(conn).await?;
        let count: i64 = counted.iter().map(|part| part.fit).sum();
        let cut = counted.iter().any(|part| part.seen == max_rows);
        Ok(Total { count: count.min(most), capped: cut || count > most })
    }
}
