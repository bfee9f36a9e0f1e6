//! The table `identities`: everybody who has ever called with a team or a role, and who is deactivated.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Array, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::schema::identities;
use super::walk::{Condition, Source, Value, Walk, at, when};
use super::{Conn, Error};

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = identities, check_for_backend(Pg))]
pub struct Identity {
    /// A UUID v7: newer identities have greater ones.
    pub id: Uuid,
    /// The issuer of the caller's token.
    pub issuer: String,
    /// The subject of the caller's token.
    pub subject: String,
    /// A name for people.
    pub display_name: String,
    /// Whether the identity may call.
    pub active: bool,
    /// The first call.
    pub first_seen_at: DateTime<Utc>,
    /// The last call that was noted.
    pub last_seen_at: DateTime<Utc>,
    /// `None`: it is active.
    pub deactivated_at: Option<DateTime<Utc>>,
    /// Of the last activation or deactivation.
    pub comment: Option<String>,
}

/// A call by an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The issuer of the caller's token.
    pub issuer: String,
    /// The subject of the caller's token.
    pub subject: String,
    /// A name for people.
    pub display_name: String,
    /// When they called.
    pub at: DateTime<Utc>,
}

/// What a page shows; `None` filters nothing.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Part of the subject or the display name, without case.
    pub q: Option<String>,
    /// Active or deactivated ones.
    pub active: Option<bool>,
    /// Of this issuer.
    pub issuer: Option<String>,
    /// Those whose last call was before this.
    pub unseen_since: Option<DateTime<Utc>>,
}

/// The key of an identity in `identities` and `sessions`. Not [`sha256_of_parts`](crate::model::sha256_of_parts): rows
/// of earlier versions, and replicas of them in a rolling upgrade, have this hash. It is as unambiguous, since neither
/// part can contain a NUL.
pub(super) fn sha256(issuer: &str, subject: &str) -> String {
    crate::model::sha256(format!("{issuer}\0{subject}"))
}

/// Remembers these, each named once, in one statement. A sighting that is older than the row changes nothing.
pub async fn remember(conn: &mut Conn, seen: &[Sighting]) -> Result<(), Error> {
    let mut rows: Vec<(String, &Sighting)> =
        seen.iter().map(|one| (sha256(&one.issuer, &one.subject), one)).collect();
    // Two replicas that write the same ones lock them in the same order.
    rows.sort_by(|(a, _), (b, _)| a.cmp(b));
    let texts = |field: fn(&Sighting) -> &str| rows.iter().map(|(_, one)| field(one)).collect::<Vec<_>>();
    diesel::sql_query(
        "INSERT INTO identities AS i
             (id, sha256, issuer, subject, display_name, first_seen_at, last_seen_at)
         SELECT id, sha256, issuer, subject, display_name, seen_at, seen_at
         FROM unnest($1, $2, $3, $4, $5, $6) AS s (id, sha256, issuer, subject, display_name, seen_at)
         ON CONFLICT (sha256) DO UPDATE
             SET display_name = excluded.display_name, last_seen_at = excluded.last_seen_at
             WHERE i.last_seen_at < excluded.last_seen_at",
    )
    .bind::<Array<SqlUuid>, _>(rows.iter().map(|_| Uuid::now_v7()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(rows.iter().map(|(sha256, _)| sha256.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(texts(|one| &one.issuer))
    .bind::<Array<Text>, _>(texts(|one| &one.subject))
    .bind::<Array<Text>, _>(texts(|one| &one.display_name))
    .bind::<Array<Timestamptz>, _>(rows.iter().map(|(_, one)| one.at).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    Ok(())
}

/// (issuer, subject) of all deactivated identities.
pub async fn inactive(conn: &mut Conn) -> Result<Vec<(String, String)>, Error> {
    let rows = identities::table.filter(diesel::dsl::not(identities::active));
    Ok(rows.select((identities::issuer, identities::subject)).load(conn).await?)
}

/// Whether the identity is not deactivated; locks its row until this transaction ends. An unknown one is active.
pub async fn is_active(conn: &mut Conn, issuer: &str, subject: &str) -> Result<bool, Error> {
    let row = identities::table.filter(identities::sha256.eq(sha256(issuer, subject)));
    let active = row.select(identities::active).for_share().first(conn).await.optional()?;
    Ok(active.unwrap_or(true))
}

fn walk(filter: &Filter) -> Walk {
    let source = match filter.active {
        Some(false) => at("active", Value::Bool(false)).of(when("NOT active")),
        _ => Source::All,
    };
    let mut filters: Vec<Condition> =
        filter.active.filter(|is| *is).map(|_| when("active")).into_iter().collect();
    filters.extend(filter.q.as_ref().map(|q| {
        when("strpos(lower(subject), lower(?)) > 0 OR strpos(lower(display_name), lower(?)) > 0")
            .text(q)
            .text(q)
    }));
    filters.extend(filter.issuer.as_ref().map(|issuer| when("issuer = ?").text(issuer)));
    filters.extend(filter.unseen_since.map(|since| when("last_seen_at < ?").with(Value::Time(since))));
    Walk { table: "identities", sources: vec![source], lowest: None, filters }
}

/// The newest `most` that fit, however many rows have to be looked at for that.
pub async fn up_to(conn: &mut Conn, filter: &Filter, most: i64) -> Result<Vec<Identity>, Error> {
    let ids: Vec<Uuid> = walk(filter).up_to(conn, most).await?;
    let rows = identities::table.filter(identities::id.eq_any(&ids)).order(identities::id.desc());
    Ok(rows.select(Identity::as_select()).load(conn).await?)
}

/// Newest first (ids are UUID v7), at most `limit` of those older than `before`; and where the next page begins, for
/// which see `walk::Page`.
pub async fn page(
    conn: &mut Conn,
    filter: &Filter,
    before: Option<Uuid>,
    limit: i64,
) -> Result<(Vec<Identity>, Option<Uuid>), Error> {
    let page = walk(filter).page(conn, before, limit).await?;
    let rows = identities::table.filter(identities::id.eq_any(&page.ids)).order(identities::id.desc());
    Ok((rows.select(Identity::as_select()).load(conn).await?, page.next))
}

/// Whether the identity is deactivated.
pub async fn is_inactive(conn: &mut Conn, issuer: &str, subject: &str) -> Result<bool, Error> {
    let found = identities::table
        .filter(identities::sha256.eq(sha256(issuer, subject)))
        .filter(diesel::dsl::not(identities::active));
    Ok(diesel::select(diesel::dsl::exists(found)).get_result(conn).await?)
}

/// The identities with these ids, in no order.
pub async fn by_ids(conn: &mut Conn, ids: &[Uuid]) -> Result<Vec<Identity>, Error> {
    Ok(identities::table.filter(identities::id.eq_any(ids)).select(Identity::as_select()).load(conn).await?)
}

/// The row with this id and that of (`issuer`, `subject`), locked until the transaction ends. Both in the order
/// in which `remember` locks them, so that two transactions that want them never wait for each other.
pub async fn lock(
    conn: &mut Conn,
    id: Uuid,
    issuer: &str,
    subject: &str,
) -> Result<(Option<Identity>, Option<Identity>), Error> {
    let rows: Vec<(String, Identity)> = identities::table
        .filter(identities::id.eq(id).or(identities::sha256.eq(sha256(issuer, subject))))
        .order(identities::sha256)
        .select((identities::sha256, Identity::as_select()))
        .for_update()
        .load(conn)
        .await?;
    let find = |fits: &dyn Fn(&(String, Identity)) -> bool| {
        rows.iter().find(|row| fits(row)).map(|(_, row)| row.clone())
    };
    let own = sha256(issuer, subject);
    Ok((find(&|(_, row)| row.id == id), find(&|(key, _)| *key == own)))
}

/// Activates or deactivates an identity.
pub async fn set_active(
    conn: &mut Conn,
    id: Uuid,
    active: bool,
    comment: &str,
    now: DateTime<Utc>,
) -> Result<Identity, Error> {
    let deactivated_at = (!active).then_some(now);
    Ok(diesel::update(identities::table.find(id))
        .set((
            identities::active.eq(active),
            identities::deactivated_at.eq(deactivated_at),
            identities::comment.eq(comment),
        ))
        .returning(Identity::as_returning())
        .get_result(conn)
        .await?)
}
