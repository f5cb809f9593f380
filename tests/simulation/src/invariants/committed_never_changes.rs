//! I2: below a high watermark an offset holds the same bytes, on any replica, ever. And the second half of
//! I6: readers are given nothing else. Of a topic that is compacted, records may be missing there.

use crate::compaction::is_left_of;
use crate::ledger::Ledger;
use crate::violation::{Checked, ensure};
use troupe_proto::batch::BatchHeader;

/// True if it was committed before.
pub fn committed_never_changes(ledger: &Ledger, header: &BatchHeader) -> Checked<bool> {
    let Some(known) = ledger.committed.get(&header.base_offset) else { return Ok(false) };
    ensure(is_seen(ledger, header), "I2 committed never changes", || {
        format!("{header:?} was {:?}", known.header)
    })?;
    Ok(true)
}

/// Whether that very batch was committed there, or what cleaning has left of it is.
pub fn is_seen(ledger: &Ledger, header: &BatchHeader) -> bool {
    let cleaned = |known| ledger.compaction.is_some() && is_left_of(known, header);
    let known = ledger.committed.get(&header.base_offset).map(|known| &known.header);
    known.is_some_and(|known| known == header || cleaned(known))
}

pub fn only_committed_is_read(ledger: &Ledger, header: &BatchHeader) -> Checked {
    let known = committed_never_changes(ledger, header)?;
    ensure(known, "I6 only what is committed is read", || format!("{header:?}"))
}
