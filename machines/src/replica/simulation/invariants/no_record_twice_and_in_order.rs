//! I3, I4: one sequence of a producer has one offset, and offsets follow the order of sending.

use super::super::chance::Violation;
use super::Ledger;
use troupe_proto::batch::BatchHeader;
use troupe_proto::ids::{Offset, Sequence};

/// For a batch that becomes visible for the first time.
pub fn no_record_twice_and_in_order(
    ledger: &mut Ledger,
    batch: &BatchHeader,
) -> Result<(), Violation> {
    if ledger
        .committed
        .last_key_value()
        .is_some_and(|(_, last)| last.leader_epoch > batch.leader_epoch)
    {
        return Err(Violation::new("I4 order", format!("{batch:?} is of an earlier epoch")));
    }
    let Some(stamp) = batch.producer.filter(|_| batch.marker().is_none()) else { return Ok(()) };
    let next = ledger.sequences.entry((stamp.id, stamp.epoch)).or_insert(Sequence(0));
    if stamp.base_sequence < *next {
        let remembered = |(_, other): (&Offset, &BatchHeader)| {
            other.producer == Some(stamp) && other.marker().is_none()
        };
        // I6: of a batch that was deleted, no replica made from what is left can know.
        if !ledger.committed.range(ledger.deleted_before..).any(remembered) {
            return Ok(());
        }
        return Err(Violation::new("I3 no duplicates", format!("{batch:?} again")));
    }
    if stamp.base_sequence > *next {
        return Err(Violation::new("I4 order", format!("{batch:?} where {next} is next")));
    }
    *next = next.plus(batch.record_count);
    Ok(())
}
