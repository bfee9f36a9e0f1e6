//! The states of a runner, and the moves between them.

use super::words::words;

words! {
    /// Where a runner stands in its life.
    Status {
        /// The intent is written; GitHub may or may not have heard of it.
        Requested = "requested",
        /// The credential was handed out; the runner has not connected yet.
        Pending = "pending",
        /// It is connected to GitHub.
        Active = "active",
        /// It is registered with GitHub, but not connected.
        Offline = "offline",
        /// Its removal has begun; GitHub has not confirmed it.
        Deleting = "deleting",
        /// GitHub no longer has it.
        Deleted = "deleted",
        /// Its credential was never handed out.
        Failed = "failed",
    }
}

impl Status {
    /// The states in which a runner counts in its team's quota and keeps its name.
    pub const LIVE: &[Status] =
        &[Status::Requested, Status::Pending, Status::Active, Status::Offline, Status::Deleting];

    /// Whether it is one of [`Status::LIVE`].
    pub fn is_live(self) -> bool {
        Status::LIVE.contains(&self)
    }

    /// Whether a runner may go from this state to `next`. The only table of allowed moves.
    pub fn may_become(self, next: Status) -> bool {
        use Status::*;
        match self {
            Requested => matches!(next, Pending | Deleting | Failed),
            Pending => matches!(next, Requested | Active | Offline | Deleting | Deleted),
            Active => matches!(next, Offline | Deleting | Deleted),
            Offline => matches!(next, Active | Deleting | Deleted),
            // Back to what it was when GitHub says busy; `Failed` when an interrupted provision is repaired.
            Deleting => matches!(next, Pending | Active | Offline | Deleted | Failed),
            Deleted | Failed => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_its_last_state() {
        for &next in Status::ALL {
            assert!(!Status::Deleted.may_become(next) && !Status::Failed.may_become(next));
        }
    }
}
