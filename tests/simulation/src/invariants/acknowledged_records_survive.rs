//! I1: what was acknowledged with acks all is there for good, until it is deleted on purpose.

use crate::ledger::Ledger;
use crate::violation::{Checked, Violation, ensure};
use troupe_proto::batch::BatchHeader;
use troupe_proto::ids::Offset;

/// When it is acknowledged it is committed, there.
pub fn acknowledged_is_committed(ledger: &Ledger, value: u64, base: Offset) -> Checked {
    let known = ledger.committed.get(&base);
    ensure(known.is_some_and(|known| known.value == Some(value)), "I1 acks are promises", || {
        format!("value {value} acknowledged at {base}, where {known:?} is committed")
    })
}

/// Whoever begins to lead has everything that was ever committed and is not deleted.
pub fn leader_has_what_is_committed(
    ledger: &Ledger,
    log_start: Offset,
    headers: &[BatchHeader],
) -> Checked {
    if ledger.compaction.is_some() {
        // which of the records have to be there is another promise
        let known = |header: &&BatchHeader| header.base_offset < ledger.end();
        let mut own = headers.iter().filter(known);
        return own.try_for_each(|header| super::committed_never_changes(ledger, header).map(drop));
    }
    let mut own = headers.iter().peekable();
    for (base, committed) in ledger.committed.range(log_start..) {
        while own.next_if(|header| header.base_offset < *base).is_some() {}
        if own.peek().is_none_or(|header| **header != committed.header) {
            let what = format!("{:?} is missing; there: {:?}", committed.header, own.peek());
            return Err(Violation::new("I1 leaders have what is committed", what));
        }
    }
    Ok(())
}

/// In the end, on a replica.
pub fn acknowledged_is_there(
    ledger: &Ledger,
    log_start: Offset,
    headers: &[BatchHeader],
) -> Checked {
    ensure(log_start <= ledger.deleted_before, "I1 nothing else is deleted", || {
        format!("the log starts at {log_start}, deleted before {}", ledger.deleted_before)
    })?;
    if ledger.compaction.is_some() {
        return Ok(());
    }
    for (value, base) in ledger.acknowledged.iter().filter(|(_, base)| **base >= log_start) {
        let at = headers.partition_point(|header| header.base_offset < *base);
        let found = headers.get(at).and_then(|header| ledger.value_of(header));
        ensure(found == Some(*value), "I1 acknowledged records survive", || {
            format!("value {value} was acknowledged at {base}, where {found:?} stands")
        })?;
    }
    Ok(())
}
