//! How far the sealer can be sure to be, and which rows nobody honest can have written.

use chrono::{DateTime, Utc};

use super::Sealer;
use crate::seal::SLACK;
use crate::store::audit_sealing::{Horizon, Moment, Row};

/// A horizon to be: sealed up to `id` once every transaction below `later` has ended.
#[derive(Debug)]
pub struct Candidate {
    id: i64,
    at: DateTime<Utc>,
    later: Option<(i64, DateTime<Utc>)>,
}

/// What becomes of a row without a leaf.
pub enum Verdict {
    /// It becomes a leaf now.
    Seal,
    /// Its transaction may not have ended.
    Wait,
    /// It was not written by the broker, for this reason.
    Planted(&'static str),
}

impl Sealer {
    /// Whether what was a candidate before this moment is the horizon once this pass has sealed all that it can.
    pub fn confirm(&mut self, moment: &Moment, horizon: &Horizon) -> Option<Horizon> {
        let ahead = moment.last_id > horizon.horizon_id;
        if self.candidate.is_none() && ahead {
            self.candidate = Some(Candidate { id: moment.last_id, at: moment.now, later: None });
        }
        let candidate = self.candidate.as_mut()?;
        if candidate.later.is_none() && moment.now - candidate.at >= self.settled_after {
            candidate.later = Some((moment.xmax, moment.now));
        }
        let (xid, time) = candidate.later.filter(|(xid, _)| moment.xmin >= *xid)?;
        let horizon_id = self.candidate.take()?.id;
        Some(Horizon { place: moment.place.clone(), horizon_id, horizon_xid: xid, horizon_time: Some(time) })
    }
}

/// Nobody honest writes a row of a transaction that had ended before, or has not begun, or with a number that was
/// not drawn, or about a time long before its transaction.
pub fn verdict(row: &Row, horizon: &Horizon) -> Verdict {
    let is_early = |earliest: DateTime<Utc>| row.at.is_none_or(|at| at < earliest - SLACK);
    match () {
        () if row.is_ahead => Verdict::Planted("its transaction is yet to come"),
        () if row.is_beyond => Verdict::Planted("its id was not given out"),
        () if !row.is_settled => Verdict::Wait,
        () if row.xid < horizon.horizon_xid => Verdict::Planted("all events of its transaction were sealed"),
        () if horizon.horizon_time.is_some_and(is_early) => {
            Verdict::Planted("it is dated before it can have been written")
        }
        () => Verdict::Seal,
    }
}
