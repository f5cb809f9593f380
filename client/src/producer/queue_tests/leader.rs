//! One partition as I3 to I6 describe it.

use super::Sent;
use std::collections::HashMap;
use troupe_proto::error::ErrorCode;

/// What is known of a producer: its epoch, and first and last sequence and base offset of its last five
/// batches.
type Known = (u32, Vec<(u32, u32, u64)>);

/// One partition as I3 to I6 describe it.
#[derive(Default)]
pub(super) struct Leader {
    pub log: Vec<u64>,
    producers: HashMap<u64, Known>,
}

impl Leader {
    pub fn append(&mut self, sent: &Sent) -> Result<u64, ErrorCode> {
        let numbers = sent.numbers();
        let stamp = sent.stamp.unwrap();
        let (first, last) = (stamp.base_sequence.0, stamp.last_sequence(numbers.len() as u32).0);
        let base = self.log.len() as u64;
        let entry = self.producers.entry(stamp.id.0);
        let (epoch, known) = entry.or_insert((stamp.epoch.0, Vec::new()));
        if stamp.epoch.0 < *epoch {
            return Err(ErrorCode::ProducerFenced);
        }
        if stamp.epoch.0 > *epoch {
            if first != 0 {
                return Err(ErrorCode::OutOfOrderSequence);
            }
            *epoch = stamp.epoch.0;
            known.clear();
        }
        if let Some(&(.., base)) = known.iter().find(|&&(f, l, _)| (f, l) == (first, last)) {
            return Ok(base);
        }
        if known.last().is_some_and(|&(_, last, _)| first != last + 1) {
            return Err(ErrorCode::OutOfOrderSequence);
        }
        // I6: a producer that is not known may begin anywhere.
        known.push((first, last, base));
        if known.len() > 5 {
            known.remove(0);
        }
        self.log.extend(numbers);
        Ok(base)
    }

    pub fn may_refuse_size(&self, sent: &Sent) -> bool {
        let numbers = sent.numbers();
        numbers.len() > 1 && !self.log.contains(&numbers[0])
    }
}
