//! X4, X19: what a marker ends is one transaction, with the outcome that was decided for it, and no batch of it comes
//! later.

use super::super::chance::Violation;
use super::Ledger;
use troupe_proto::batch::BatchHeader;

const NAME: &str = "transactions stay apart";

/// For a batch that becomes visible for the first time.
pub fn transactions_stay_apart(ledger: &mut Ledger, batch: &BatchHeader) -> Result<(), Violation> {
    let Some(stamp) = batch.producer.filter(|_| batch.attributes.is_transactional()) else {
        return Ok(());
    };
    let violation = |what: String| Err(Violation::new(NAME, format!("{batch:?} {what}")));
    let number = ledger.parts[&batch.payload_crc];
    let open = ledger.open.get(&stamp.id).copied();
    match batch.marker() {
        None => {
            let ended = ledger.ended.get(&stamp.id).copied();
            if ended >= Some(number) || open.is_some_and(|open| open != number) {
                return violation(format!("of {number}: {ended:?} has ended, {open:?} is open"));
            }
            ledger.open.insert(stamp.id, number);
        }
        Some(marker) => {
            if let Some(open) = ledger.open.remove(&stamp.id) {
                let decided = ledger.decided.get(&(stamp.id, open)).copied();
                if open != number || decided != Some(marker.committed) {
                    return violation(format!("of {number} ends {open}, decided is {decided:?}"));
                }
            }
            let ended = ledger.ended.entry(stamp.id).or_insert(number);
            *ended = number.max(*ended);
        }
    }
    Ok(())
}
