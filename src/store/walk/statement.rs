//! Builds a statement at run time.

use std::str::FromStr;

use diesel::QueryableByName;
use diesel::pg::Pg;
use diesel::query_builder::{BoxedSqlQuery, SqlQuery};
use diesel::sql_types::{Array, BigInt, Bool, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;

use super::condition::{Condition, Value};
use crate::store::{Conn, Error};

/// A statement that is being built, with the values of its parameters.
#[derive(Default)]
pub(super) struct Statement {
    sql: String,
    values: Vec<Value>,
}

impl Statement {
    pub(super) fn push(&mut self, sql: &str) -> &mut Statement {
        self.sql.push_str(sql);
        self
    }

    pub(super) fn value(&mut self, value: Value) -> &mut Statement {
        self.values.push(value);
        let number = self.values.len();
        self.push(&format!("${number}"))
    }

    pub(super) fn condition(&mut self, condition: &Condition) -> &mut Statement {
        self.push("(");
        for (value, sql) in condition.pieces() {
            if let Some(value) = value {
                self.value(value.clone());
            }
            self.push(sql);
        }
        self.push(")")
    }

    pub(super) fn boxed(self) -> BoxedSqlQuery<'static, Pg, SqlQuery> {
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

    pub(super) async fn keys<Id: FromStr>(self, conn: &mut Conn) -> Result<Vec<Id>, Error> {
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
