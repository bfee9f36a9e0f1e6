//! Long lists, newest first, a page at a time. A page walks down an index or a few of them, by the filters that one
//! serves; what other filters leave of that is seen row by row, and no further than some thousand rows (`FAR`). So no page reads more than
//! that, whatever is asked for and whatever Postgres believes of the table. One that finds too little ends early, and
//! says where to go on.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::pg::Pg;
use diesel::query_builder::{BoxedSqlQuery, SqlQuery};
use diesel::sql_types::{Array, BigInt, Bool, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::{Conn, Error};

/// How many rows a page looks at, if it has to look at each: down the whole table, where one lies beside the other.
const FAR: i64 = 10_000;

/// As `FAR`, down any other index, where each row may lie on a page of its own.
const FAR_APART: i64 = 4_000;

/// Of several indexes each gets its part, but not less than this.
const LEAST: i64 = 100;

/// What stands for a `?`.
#[derive(Clone, Debug)]
pub enum Value {
    Text(String),
    Texts(Vec<String>),
    BigInt(i64),
    Uuid(Uuid),
    Time(DateTime<Utc>),
    Bool(bool),
}

impl From<i64> for Value {
    fn from(id: i64) -> Value {
        Value::BigInt(id)
    }
}

impl From<Uuid> for Value {
    fn from(id: Uuid) -> Value {
        Value::Uuid(id)
    }
}

/// A condition on a row, with a value for each `?` in it.
#[derive(Clone, Debug)]
pub struct Condition {
    sql: &'static str,
    values: Vec<Value>,
}

/// One without a value.
pub fn when(sql: &'static str) -> Condition {
    Condition { sql, values: Vec::new() }
}

impl Condition {
    pub fn with(mut self, value: Value) -> Condition {
        self.values.push(value);
        self
    }

    pub fn text(self, text: impl Into<String>) -> Condition {
        self.with(Value::Text(text.into()))
    }
}

/// Where to walk.
#[derive(Clone, Debug)]
pub enum Source {
    /// Whatever is in the table.
    All,
    /// Rows with this value, by the index on (column, id), which may be one of rows that fit a condition only.
    At { column: &'static str, value: Value, of: Option<Condition> },
    /// Rows without a value, by the same.
    Without { column: &'static str },
}

/// Rows with this value in this column.
pub fn at(column: &'static str, value: Value) -> Source {
    Source::At { column, value, of: None }
}

/// As `at`, for a text.
pub fn at_text(column: &'static str, text: impl Into<String>) -> Source {
    at(column, Value::Text(text.into()))
}

impl Source {
    pub fn of(mut self, condition: Condition) -> Source {
        if let Source::At { of, .. } = &mut self {
            *of = Some(condition);
        }
        self
    }

    /// Names the column beside the id, so that no other index gives this order: Postgres would rather walk down the
    /// whole table if it believes that enough of it fits, and it may all be at the other end.
    fn order(&self) -> String {
        match self {
            Source::All => " ORDER BY id DESC".into(),
            Source::At { column, .. } | Source::Without { column } => {
                format!(" ORDER BY {column} DESC, id DESC")
            }
        }
    }
}

/// How a list is walked.
#[derive(Clone, Debug)]
pub struct Walk {
    pub table: &'static str,
    /// A row of the list comes from one of these. None: the list is empty.
    pub sources: Vec<Source>,
    /// And has no id below this.
    pub lowest: Option<Value>,
    /// All of these are true of it, too, whether there is an index for them or not.
    pub filters: Vec<Condition>,
}

/// A page: ids, newest first, and where the next one begins; `None`: this is the last. It may have fewer rows than
/// asked for, even none, and yet not be the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<Id> {
    pub ids: Vec<Id>,
    pub next: Option<Id>,
}

/// How many rows a list has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Total {
    pub count: i64,
    /// There may be more.
    pub capped: bool,
}

impl Walk {
    /// How far each source is walked.
    fn far(&self) -> i64 {
        match self.sources.as_slice() {
            [Source::All] => FAR,
            sources => (FAR_APART / (sources.len() as i64).max(1)).max(LEAST),
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
                statement.push(" LIMIT ").value(Value::BigInt(self.far())).push(") AS walked WHERE");
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
            statement.push(" LIMIT 1 OFFSET ").value(Value::BigInt(self.far() - 1)).push(")");
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
        let far = if self.filters.is_empty() { most + 1 } else { self.far() };
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
            statement.push(" LIMIT ").value(Value::BigInt(far)).push(") AS walked");
        }
        let counted: Vec<Counted> = statement.boxed().load(conn).await?;
        let count: i64 = counted.iter().map(|part| part.fit).sum();
        let cut = counted.iter().any(|part| part.seen == far);
        Ok(Total { count: count.min(most), capped: cut || count > most })
    }
}

/// SQL in the making, with the values of its parameters.
#[derive(Default)]
struct Statement {
    sql: String,
    values: Vec<Value>,
}

impl Statement {
    fn push(&mut self, sql: &str) -> &mut Statement {
        self.sql.push_str(sql);
        self
    }

    fn value(&mut self, value: Value) -> &mut Statement {
        self.values.push(value);
        let number = self.values.len();
        self.push(&format!("${number}"))
    }

    fn condition(&mut self, condition: &Condition) -> &mut Statement {
        let mut values = condition.values.iter();
        self.push("(");
        for (at, part) in condition.sql.split('?').enumerate() {
            if at > 0
                && let Some(value) = values.next()
            {
                self.value(value.clone());
            }
            self.push(part);
        }
        self.push(")")
    }

    fn boxed(self) -> BoxedSqlQuery<'static, Pg, SqlQuery> {
        let query = diesel::sql_query(self.sql).into_boxed();
        self.values.into_iter().fold(query, |query, value| match value {
            Value::Text(text) => query.bind::<Text, _>(text),
            Value::Texts(texts) => query.bind::<Array<Text>, _>(texts),
            Value::BigInt(number) => query.bind::<BigInt, _>(number),
            Value::Uuid(id) => query.bind::<SqlUuid, _>(id),
            Value::Time(at) => query.bind::<Timestamptz, _>(at),
            Value::Bool(is) => query.bind::<Bool, _>(is),
        })
    }

    async fn keys<Id: FromStr>(self, conn: &mut Conn) -> Result<Vec<Id>, Error> {
        #[derive(QueryableByName)]
        struct Key {
            #[diesel(sql_type = Text)]
            key: String,
        }
        let rows: Vec<Key> = self.boxed().load(conn).await?;
        rows.into_iter()
            .map(|row| row.key.parse().map_err(|_| Error::Row(format!("'{}' as an id", row.key))))
            .collect()
    }
}
