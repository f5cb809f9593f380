//! Classic bugs that a test can put back, to show that a simulation finds them. Only tests and the feature
//! `planted-bugs` have the switch; every other build has none of them.

/// One of reliability.md §10, of a repair, of deleting records, or of transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// 1: a follower reports as flushed what it has only appended.
    AcknowledgeBeforeFlush,
    /// 2: a replica that begins to follow truncates its log to its own high watermark.
    TruncateByHighWatermark,
    /// 11: a follower joins the ISR as soon as its stream is open.
    JoinTooEarly,
    /// 6: a follower does not keep what its batches say of producers.
    ForgetProducers,
    /// 3: the high watermark goes by the ISR that was committed, while a larger one is asked for.
    IgnorePendingExpansion,
    /// 3 again: a request that is refused as stale is taken for one that was never done.
    ForgetStaleRequest,
    /// 8: who led goes on after the news of another leader.
    ServeAfterEpochEnded,
    /// A leader believes that it leads, and asks nobody.
    ConfirmAlone,
    /// A replica whose log was found damaged goes on before the controller knows of it.
    IgnoreDamage,
    /// A damaged replica follows on from where its log ends, over the gap within it.
    FillFromOldEnd,
    /// Records are deleted on request that are not committed yet.
    DeleteAboveHighWatermark,
    /// A deletion is answered once the leader has done it.
    AnswerDeletionAlone,
    /// Who lacks tombstones that its leader has not got any more is filled on from where its log ends.
    FillOnWithoutTombstones,
    /// A follower does not move its log's start to that of its leader.
    KeepOldLogStart,
    /// Who begins to lead does not know which transactions are open.
    ForgetOpenTransactions,
    /// A batch that was verified is appended though a marker has come between.
    JoinTheNextTransaction,
    /// A marker is taken of a coordinator that has been replaced.
    TakeOldCoordinators,
    /// A late marker ends the next transaction.
    AnyMarkerEnds,
}

pub(super) type Bugs = crate::planted::Bugs<Bug>;

#[cfg(any(test, feature = "planted-bugs"))]
impl super::Replica {
    /// This replica has the bug from now on.
    pub fn plant(&mut self, bug: Bug) {
        self.bugs = Bugs::with(bug);
    }
}
