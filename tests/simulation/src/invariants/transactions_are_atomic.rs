//! I9–I11, X4–X6: what is decided of a transaction is decided once, all of it and nothing else becomes of it, and nobody is
//! told otherwise.

use crate::txn::Number;
use crate::violation::{Checked, ensure};
use std::collections::BTreeSet;
use troupe_log::Aborted;
use troupe_machines::txn::{Outcome, Producer};
use troupe_proto::batch::BatchHeader;
use troupe_proto::ids::{LeaderEpoch, Offset, PartitionKey, ProducerId};

pub fn one_client_per_epoch(producer: Producer, owner: usize, client: usize) -> Checked {
    ensure(owner == client, "I10 one client per epoch", || {
        format!("{producer} is client {owner}, and client {client} as well")
    })
}

/// An abort may be of what never began.
pub fn told_is_decided(number: Number, told: Outcome, decided: Option<Outcome>) -> Checked {
    let fine = decided == Some(told) || (decided.is_none() && told == Outcome::Abort);
    ensure(fine, "I9 what is told is decided", || {
        format!("{number}: {told:?} was told, {decided:?} is committed")
    })
}

pub fn decided_once(number: Number, before: Outcome, outcome: Outcome) -> Checked {
    ensure(before == outcome, "X6 decided once", || {
        format!("{number} was decided: {before:?}, and then {outcome:?}")
    })
}

/// Of a marker.
pub fn closed_as_decided(number: Number, decided: Option<Outcome>, closed: Outcome) -> Checked {
    ensure(decided == Some(closed), "I9 partitions are told what is decided", || {
        format!("{number} is closed by {closed:?}, decided is {decided:?}")
    })
}

/// At the marker of a commit: no part of it is missing there.
pub fn all_of_it_is_there(number: Number, wrote: &BTreeSet<u64>, there: &BTreeSet<u64>) -> Checked {
    ensure(wrote == there, "I9 all or nothing", || {
        format!("{number} is committed with {there:?}, and wrote {wrote:?}")
    })
}

/// In the end, of one that was committed.
pub fn committed_is_whole(
    number: Number,
    key: &PartitionKey,
    closed: Option<Outcome>,
    is_deleted: bool,
) -> Checked {
    ensure(closed == Some(Outcome::Commit) || is_deleted, "I9 all or nothing", || {
        format!("{number} was committed, and is {closed:?} at {key}")
    })
}

/// I11: of a batch that becomes visible. `open`: whose transaction is, of that producer; `closed`: what became of its own
/// one there before.
pub fn transactions_stay_apart(
    number: Number,
    open: Option<Number>,
    closed: Option<Outcome>,
    header: &BatchHeader,
) -> Checked {
    let fine = closed.is_none() && open.is_none_or(|open| open == number);
    ensure(fine, "I11 transactions stay apart", || {
        format!("of {number}, which was closed: {closed:?}, while {open:?} is open: {header:?}")
    })
}

/// X5.
pub fn coordinators_only_grow(id: ProducerId, newest: LeaderEpoch, epoch: LeaderEpoch) -> Checked {
    ensure(epoch >= newest, "X5 no marker of an old coordinator", || {
        format!("of {id}, in coordinator epoch {epoch} after {newest}")
    })
}

/// I11: of a reader of what is committed.
pub fn only_what_is_committed_is_given(
    header: &BatchHeader,
    outcome: Option<Outcome>,
    is_kept: bool,
) -> Checked {
    let fine = outcome.is_some_and(|outcome| is_kept == (outcome == Outcome::Commit));
    ensure(fine, "I11 only what is committed is given", || {
        format!("{header:?} of a transaction that is {outcome:?}; given: {is_kept}")
    })
}

/// X13: whoever reads here can leave out what was aborted. Of what began before the log does a replica may have heard too
/// little.
pub fn aborted_are_known(start: Offset, aborted: &[Aborted], known: &[Aborted]) -> Checked {
    let missing = aborted.iter().find(|it| it.first_offset >= start && !known.contains(it));
    let is_one = |it: &&Aborted| {
        let same = |other: &Aborted| {
            (other.producer_id, other.last_offset) == (it.producer_id, it.last_offset)
        };
        aborted.iter().any(same)
    };
    let strange = known.iter().find(|it| !is_one(it));
    ensure(missing.is_none() && strange.is_none(), "X13 what was aborted is known", || {
        format!("from {start}: {missing:?} is not known, and {strange:?} is none")
    })
}
