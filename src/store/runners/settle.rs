//! The end of a successful provision: the row gets GitHub's runner, or its token.

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;

use super::{Claim, Issued};
use crate::store::{Conn, Error};

/// `requested → pending`. `false`: the row has changed, and the claim is void.
pub async fn settle(
    mut conn: &Conn,
    claim: Claim,
    issued: Issued<'_>,
    now: DateTime<Utc>,
) -> Result<bool, Error> {
    // diesel prepares an UPDATE of its own anew each time; this text never changes, so it is prepared once.
    struct Settle<'a> {
        claim: Claim,
        issued: Issued<'a>,
        /// A JIT runner is registered from the moment that GitHub makes it.
        registered_at: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    }
    impl QueryId for Settle<'_> {
        type QueryId = Settle<'static>;
        const HAS_STATIC_QUERY_ID: bool = true;
    }
    impl QueryFragment<Pg> for Settle<'_> {
        fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
            let Settle { claim, issued, registered_at, now } = self;
            out.push_sql("UPDATE runners SET status = 'pending', deleting_from = NULL, missed_sweeps = 0");
            out.push_sql(", github_runner_id = ");
            out.push_bind_param::<Nullable<BigInt>, _>(&issued.github_runner_id)?;
            out.push_sql(", credential_sha256 = ");
            out.push_bind_param::<Text, _>(issued.credential_sha256)?;
            out.push_sql(", registered_at = ");
            out.push_bind_param::<Nullable<Timestamptz>, _>(registered_at)?;
            out.push_sql(", expires_at = ");
            out.push_bind_param::<Timestamptz, _>(&issued.expires_at)?;
            // What a former generation's lost request may make, it may still make.
            out.push_sql(", may_appear = generation > 1 AND may_appear OR ");
            out.push_bind_param::<Bool, _>(&issued.may_appear)?;
            for column in [", updated_at = ", ", facts_at = "] {
                out.push_sql(column);
                out.push_bind_param::<Timestamptz, _>(now)?;
            }
            out.push_sql(" WHERE status = 'requested' AND id = ");
            out.push_bind_param::<SqlUuid, _>(&claim.id)?;
            out.push_sql(" AND generation = ");
            out.push_bind_param::<Integer, _>(&claim.generation)
        }
    }
    let registered_at = issued.github_runner_id.map(|_| now);
    Ok(Settle { claim, issued, registered_at, now }.execute(&mut conn).await? == 1)
}
