//! Conditions on rows, made at run time: SQL with its values.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use diesel::expression::{AppearsOnTable, Expression, ValidGrouping, is_aggregate};
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, Bool, Text, Timestamptz, Uuid as SqlUuid};
use uuid::Uuid;

/// A parameter of a statement, by its type in Postgres.
#[derive(Clone, Debug)]
pub enum Value {
    /// `text`
    Text(String),
    /// `text[]`
    Texts(Vec<String>),
    /// `bigint`
    BigInt(i64),
    /// `uuid`
    Uuid(Uuid),
    /// `timestamptz`
    Time(DateTime<Utc>),
    /// `boolean`
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
    /// Has a `?` for each value.
    pub(super) sql: Cow<'static, str>,
    pub(super) values: Vec<Value>,
}

/// A condition without values yet.
pub fn when(sql: impl Into<Cow<'static, str>>) -> Condition {
    Condition { sql: sql.into(), values: Vec::new() }
}

impl Condition {
    /// Adds the value of the next `?`.
    pub fn with(mut self, value: Value) -> Condition {
        self.values.push(value);
        self
    }

    /// As [`Condition::with`], for a text.
    pub fn text(self, text: impl Into<String>) -> Condition {
        self.with(Value::Text(text.into()))
    }

    /// Both are true.
    pub fn and(self, other: Condition) -> Condition {
        self.joined(" AND ", other)
    }

    /// One of them is true.
    pub fn or(self, other: Condition) -> Condition {
        self.joined(" OR ", other)
    }

    fn joined(mut self, word: &str, other: Condition) -> Condition {
        self.values.extend(other.values);
        Condition { sql: format!("({}){word}({})", self.sql, other.sql).into(), values: self.values }
    }

    /// The SQL cut at each `?`, each piece with the value that comes before it.
    pub(super) fn pieces(&self) -> impl Iterator<Item = (Option<&Value>, &str)> {
        let values = std::iter::once(None).chain(self.values.iter().map(Some));
        values.zip(self.sql.split('?'))
    }
}

/// Rows that fit all of these conditions, for diesel's `filter`.
#[derive(Clone, Debug)]
pub struct Matching(pub Vec<Condition>);

impl Expression for Matching {
    type SqlType = Bool;
}

impl<QS> AppearsOnTable<QS> for Matching {}

impl ValidGrouping<()> for Matching {
    type IsAggregate = is_aggregate::No;
}

impl QueryId for Matching {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl QueryFragment<Pg> for Matching {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.unsafe_to_cache_prepared();
        out.push_sql("(true");
        for condition in &self.0 {
            out.push_sql(" AND (");
            for (value, sql) in condition.pieces() {
                match value {
                    None => {}
                    Some(Value::Text(text)) => out.push_bind_param::<Text, _>(text)?,
                    Some(Value::Texts(texts)) => out.push_bind_param::<Array<Text>, _>(texts)?,
                    Some(Value::BigInt(number)) => out.push_bind_param::<BigInt, _>(number)?,
                    Some(Value::Uuid(id)) => out.push_bind_param::<SqlUuid, _>(id)?,
                    Some(Value::Time(at)) => out.push_bind_param::<Timestamptz, _>(at)?,
                    Some(Value::Bool(is)) => out.push_bind_param::<Bool, _>(is)?,
                }
                out.push_sql(sql);
            }
            out.push_sql(")");
        }
        out.push_sql(")");
        Ok(())
    }
}
