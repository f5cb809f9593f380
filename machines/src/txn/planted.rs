//! Classic bugs that a test can put back, to show that the model finds them, or what they do. Only tests and the feature
//! `planted-bugs` have the switch; every other build has none of them.

/// What goes wrong with transactions in the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// X6: who ends a transaction otherwise, while its markers are being written, is believed.
    DecideAgain,
    /// I11, KIP-890: a transaction ends in the epoch in which it wrote, and what it still has under way gets into the
    /// next one.
    EndInTheSameEpoch,
    /// I10: a transaction that lasts too long is aborted in its own epoch: its producer goes on with half of it.
    TimeOutWithoutFence,
    /// I10: a new instance is given the epoch of the one before.
    InitWithoutFence,
    /// I10: who was there before a new instance may still ask again, and is told the new one's epoch.
    OldInstanceAsksAgain,
    /// I9, I15: the first partition that has its marker stands for all of them.
    CompleteAtTheFirstMarker,
    /// I15: the next coordinator does not know that markers are owed.
    MarkersAreForgotten,
    /// I11: a partition's word about a marker counts for whatever transaction is being completed.
    AnyWordCounts,
    /// I11: of a client whose epoch stays, what the network kept counts for the transaction of now.
    LateRequestsCount,
}

pub(super) type Bugs = crate::planted::Bugs<Bug>;

#[cfg(any(test, feature = "planted-bugs"))]
impl super::Transactions {
    /// These transactions have the bug from now on.
    pub fn plant(&mut self, bug: Bug) {
        self.bugs = Bugs::with(bug);
    }
}
