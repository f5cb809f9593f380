//! I2: what any replica shows below its high watermark is the same on all of them, for ever.

use super::super::chance::Violation;
use super::Ledger;
use troupe_proto::batch::BatchHeader;

/// Whether the batch has been seen before.
pub fn committed_never_changes(ledger: &Ledger, batch: &BatchHeader) -> Result<bool, Violation> {
    match ledger.committed.get(&batch.base_offset) {
        Some(known) if known == batch => Ok(true),
        None if batch.base_offset == ledger.end() => Ok(false),
        other => {
            let what = format!("{batch:?} is visible where {other:?} was");
            Err(Violation::new("I2 immutability", what))
        }
    }
}
