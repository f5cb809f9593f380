//! Classic bugs that a test can put back, to show that a simulation finds them. Only tests and the feature
//! `planted-bugs` have the switch; every other build has none of them.

/// What goes wrong with groups in the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// I13: a partition is given to its next member before the one that has it has said that it stopped.
    /// Both read it, and both commit it.
    GrantBeforeRelease,
    /// I12, I13: a commit is taken from whoever sends it: epochs, ownership, even membership do not count.
    /// What a member commits that was expelled long ago moves the offset back.
    CommitByStaleMember,
    /// I14: what a member commits while it gives a partition up is taken for the last record that it has
    /// processed, not for the next one to read (C16). The next member begins one record too far on.
    SkipAtHandOver,
    /// X15: what an aborted transaction has committed stands. What it has read nobody reads again, and what it wrote
    /// nobody sees.
    AbortedOffsetsStand,
    /// X19: what was committed in a transaction that has ended, and comes late, becomes part of the next one.
    CommitInEndedTransaction,
    /// X19: a marker that comes again ends the transaction that has begun since.
    EndTheNextToo,
    /// X15: who asks for what will stay is told what a transaction may be about to change. What that one has read
    /// is read twice.
    CallPendingStable,
}

pub(super) type Bugs = crate::planted::Bugs<Bug>;

#[cfg(any(test, feature = "planted-bugs"))]
impl super::Groups {
    /// These groups have the bug from now on.
    pub fn plant(&mut self, bug: Bug) {
        self.bugs = Bugs::with(bug);
    }
}
