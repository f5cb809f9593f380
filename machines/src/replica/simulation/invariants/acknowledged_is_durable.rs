//! I1: what was acknowledged with acks all is readable for ever, but for deletion.

use super::super::chance::Violation;
use super::super::disk::DiskLog;
use super::Ledger;
use troupe_proto::ids::Offset;

const NAME: &str = "I1 durability";

/// At the moment of the answer.
pub fn acknowledged_is_committed(
    ledger: &Ledger,
    base: Offset,
    value: u32,
) -> Result<(), Violation> {
    match ledger.committed.get(&base) {
        Some(batch) if batch.payload_crc == value => Ok(()),
        other => Err(Violation::new(NAME, format!("{value} acknowledged at {base}: {other:?}"))),
    }
}

/// `log` is the disk of a replica that may lead: all that was committed is in it.
pub fn committed_is_durable(ledger: &Ledger, node: usize, log: &DiskLog) -> Result<(), Violation> {
    let from = ledger.deleted_before.max(log.start);
    if log.start > ledger.deleted_before {
        let deleted = ledger.deleted_before;
        let what = format!("node {node} starts at {}, deleted was up to {deleted}", log.start);
        return Err(Violation::new(NAME, what));
    }
    for (base, batch) in ledger.committed.range(from..) {
        if log.at(*base) != Some(batch) {
            let found = log.at(*base);
            let what = format!("node {node} lacks {batch:?}, has {found:?}");
            return Err(Violation::new(NAME, what));
        }
    }
    for (base, value) in ledger.acknowledged.iter().filter(|(base, _)| *base >= from) {
        acknowledged_is_committed(ledger, *base, *value)?;
    }
    Ok(())
}
