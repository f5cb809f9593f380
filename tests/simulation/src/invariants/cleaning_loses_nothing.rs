//! S20–S24: of each key the last value stays, what was deleted stays deleted, a tombstone stays its time, and
//! producers are known as before.

use crate::compaction::Read;
use crate::ledger::Ledger;
use crate::violation::{Checked, Violation, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use troupe_proto::batch::BatchHeader;
use troupe_proto::ids::{Offset, ProducerId};

/// Of a log that has all that is committed in this range: whose key is written again behind it, may be missing.
pub fn the_last_of_each_key_stays(
    ledger: &Ledger,
    range: &Range<Offset>,
    records: &[Read],
) -> Checked {
    let mut last = BTreeMap::new();
    for record in records.iter().filter(|record| range.contains(&record.offset)) {
        let known = ledger.records.get(&record.offset);
        ensure(known == Some(&record.written), "I2 committed never changes", || {
            format!("{record:?} was {known:?}")
        })?;
        if !ledger.without_commit.contains(&record.offset) {
            last.insert(record.written.key, record.offset);
        }
    }
    for (key, newest) in ledger.newest.iter().filter(|(_, newest)| **newest < range.end) {
        let deletes = ledger.records.get(newest).is_some_and(|record| record.deletes);
        let found = last.get(key);
        let fine = match found {
            Some(offset) => offset == newest,
            None => deletes || *newest < range.start,
        };
        if fine {
            continue;
        }
        let what = format!("k{key} was written last at {newest}, and {found:?} is left of it");
        let kind = if deletes { "S23 deleted keys stay deleted" } else { "S20 last values stay" };
        return Err(Violation::new(kind, what));
    }
    Ok(())
}

/// What a reader is not given must have been superseded, or have deleted its key.
pub fn what_is_missing_is_superseded(
    ledger: &Ledger,
    range: Range<Offset>,
    records: &[Read],
) -> Checked {
    let given: BTreeSet<Offset> = records.iter().map(|record| record.offset).collect();
    for (offset, record) in ledger.records.range(range) {
        let superseded = ledger.newest.get(&record.key).is_some_and(|newest| newest > offset);
        ensure(
            given.contains(offset)
                || superseded
                || record.deletes
                || ledger.without_commit.contains(offset),
            "S20 last values stay",
            || format!("a reader was not given {record:?} at {offset}"),
        )?;
    }
    Ok(())
}

/// Where no clock has jumped: a tombstone that was committed after `since` has not been seen for long enough.
pub fn tombstones_stay_their_time(
    ledger: &Ledger,
    range: Range<Offset>,
    since: u64,
    records: &[Read],
) -> Checked {
    let there: BTreeSet<Offset> = records.iter().map(|record| record.offset).collect();
    for newest in ledger.newest.values().filter(|newest| range.contains(newest)) {
        let deletes = ledger.records.get(newest).is_some_and(|record| record.deletes);
        let young = ledger.committed_since(*newest).is_some_and(|committed| committed > since);
        ensure(
            !deletes || !young || there.contains(newest),
            "S23 tombstones stay their time",
            || format!("the one at {newest} is gone"),
        )?;
    }
    Ok(())
}

/// S24. What was given up no cleaning has taken.
pub fn producers_stay_known(
    remembered: &BTreeSet<Offset>,
    log_start: Offset,
    headers: &[BatchHeader],
    ledger: &Ledger,
) -> Checked {
    let there: BTreeSet<Offset> = headers.iter().map(|header| header.base_offset).collect();
    let mut by_producer: BTreeMap<ProducerId, usize> = BTreeMap::new();
    let lost = remembered.range(log_start..).rev().find(|base| {
        let committed = ledger.committed.get(base).map(|known| known.header);
        let kept = committed.filter(|header| !ledger.is_given_up(header));
        let Some(stamp) = kept.and_then(|header| header.producer) else { return false };
        let newer = by_producer.entry(stamp.id).or_default();
        *newer += 1;
        // those before are there for the case that the log loses these
        *newer <= 5 && !there.contains(base)
    });
    ensure(lost.is_none(), "S24 producers stay known", || {
        format!("the batch at {lost:?} is gone, by which its producer is judged")
    })
}
