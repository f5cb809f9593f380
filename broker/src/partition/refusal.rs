//! A batch that is refused for some of its records: which of them, and why each (T15).
//!
//! Only what is refused is walked a second time, and on no shard: it may have to be unpacked.

use super::actor::PartitionActor;
use super::chain::Chain;
use super::messages::Appended;
use super::responder::Responder;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use troupe_machines::replica::AppendError;
use troupe_proto::batch::{Limits, ProducedBatch};
use troupe_proto::error::{Error, MAX_RECORDS, RecordError};

impl PartitionActor {
    /// Answers a batch that is not appended. What hangs together with it is refused from now on, though its answer may
    /// come later.
    pub(super) fn refuse(
        &self,
        error: AppendError,
        batch: ProducedBatch,
        chain: Option<Arc<Chain>>,
        responder: Responder<Appended>,
        budget: OwnedSemaphorePermit,
    ) {
        if !error.is_of_records() {
            return responder.answer(Err(error.into()));
        }
        if let Some(chain) = chain {
            chain.sever();
        }
        self.shared.flusher.submit(move || {
            responder.answer(Err(naming_records(&error, &batch)));
            drop(budget);
        });
    }
}

/// The refusal, and the first of the records that it is for.
fn naming_records(refusal: &AppendError, batch: &ProducedBatch) -> Error {
    let error = Error::from(refusal.clone());
    let (mut records, mut count) = (Vec::new(), 0);
    let walked = batch.each_record(Limits::default(), |index, timestamp, has_key| {
        let Some(message) = refusal.of_record(timestamp, has_key) else { return };
        count += 1;
        if records.len() < MAX_RECORDS {
            records.push(RecordError { index, reason: error.code.into(), message });
        }
    });
    match walked {
        Ok(()) if count > 0 => {
            let message =
                format!("{}, in {count} of {} records", error.message, batch.record_count);
            Error { message, ..error }.of_records(records, count)
        }
        // It was verified when it came; what it is refused for is said all the same.
        Ok(()) | Err(_) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_proto::batch::{Compression, RecordSetBuilder};
    use troupe_proto::error::ErrorCode;
    use troupe_proto::rope::Rope;

    /// Every third record has a key, and each is a second younger than the one before.
    fn batch(count: i64, compression: Compression) -> ProducedBatch {
        let mut builder = RecordSetBuilder::new();
        for n in 0..count {
            let key = (n % 3 == 0).then_some(&b"k"[..]);
            builder.push(1_000 * n, key, Some(b"v"), &[]);
        }
        let wire = builder.finish(compression, None).unwrap().into_wire();
        ProducedBatch::decode(Rope::from(wire)).unwrap()
    }

    fn indexes(error: &Error) -> Vec<u32> {
        error.records().iter().map(|record| record.index).collect()
    }

    #[test]
    fn a_refused_batch_names_the_records_that_it_is_refused_for() {
        for compression in [Compression::None, Compression::Zstd] {
            let batch = batch(6, compression);
            let keyless = naming_records(&AppendError::MissingKey, &batch);
            assert_eq!(
                (keyless.code, indexes(&keyless)),
                (ErrorCode::InvalidRecord, vec![1, 2, 4, 5])
            );
            assert!(keyless.names_all_records() && keyless.facts["bad_records"] == "4");
            let refusal =
                AppendError::TimestampOutOfRange { timestamp: 0, earliest: 1_500, latest: 4_500 };
            let dated = naming_records(&refusal, &batch);
            assert_eq!(indexes(&dated), [0, 1, 5]);
            assert_eq!(dated.records()[2].message, "timestamp 5000 is out of range");
            assert_eq!(dated.records()[2].reason(), ErrorCode::InvalidTimestamp);
            assert!(dated.message.ends_with("in 3 of 6 records"), "{dated}");
        }
    }

    #[test]
    fn of_many_records_the_first_are_named_and_all_are_counted() {
        let error = naming_records(&AppendError::MissingKey, &batch(300, Compression::None));
        assert_eq!(error.records().len(), MAX_RECORDS);
        assert_eq!((error.records()[0].index, error.facts["bad_records"].as_str()), (1, "200"));
        assert!(!error.names_all_records());
    }
}
