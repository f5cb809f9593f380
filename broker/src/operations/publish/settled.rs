//! What became of records that were handed over: results, or one failure that says no more than is so.

use super::record::RecordResult;
use crate::partition::Appended;
use std::collections::BTreeMap;
use std::ops::Range;
use troupe_proto::error::{Error, ErrorCode, PartitionOutcome, Publication, RecordError};

/// A batch, and what became of it.
struct Batch {
    partition: i32,
    /// Indexes of its records, ascending.
    records: Vec<usize>,
    outcome: Result<(), Error>,
}

impl Batch {
    /// Index of its first record that is not before `first`.
    fn first_from(&self, first: usize) -> Option<usize> {
        self.records.get(self.records.partition_point(|index| *index < first)).copied()
    }
}

/// Records that were submitted together.
pub struct Settled {
    /// By index; none for those that failed.
    results: Vec<Option<RecordResult>>,
    batches: Vec<Batch>,
}

impl Settled {
    pub fn new(count: usize) -> Self {
        Self { results: vec![None; count], batches: Vec::new() }
    }

    /// A batch of a partition is answered that holds these records, in order: their indexes and timestamps.
    pub fn take(
        &mut self,
        partition: i32,
        records: Vec<(usize, i64)>,
        answer: Result<Appended, Error>,
    ) {
        let answer = answer.map_err(|error| {
            with_indexes(error, |index| {
                records.get(index as usize).and_then(|(index, _)| u32::try_from(*index).ok())
            })
        });
        let outcome = answer.map(|appended| {
            for ((index, timestamp), delta) in records.iter().zip(0..) {
                self.results[*index] = Some(RecordResult {
                    partition,
                    offset: appended.base_offset.map(|base| base.plus(delta)),
                    timestamp_ms: appended.log_append_time_ms.unwrap_or(*timestamp),
                });
            }
        });
        let records = records.into_iter().map(|(index, _)| index).collect();
        self.batches.push(Batch { partition, records, outcome });
    }

    /// The results of these records; none if one of them has none.
    pub fn results_of(&mut self, records: Range<usize>) -> Option<Vec<RecordResult>> {
        let results = self.results.get_mut(records)?;
        if results.iter().any(Option::is_none) {
            return None;
        }
        Some(results.iter_mut().filter_map(Option::take).collect())
    }

    /// All results, or the failure of the whole.
    pub fn into_answer(self) -> Result<Vec<RecordResult>, Error> {
        let mut remains = Remains::default();
        remains.add(&self, 0);
        match remains.into_error(0) {
            Some(error) => Err(error),
            None => Ok(self.results.into_iter().flatten().collect()),
        }
    }
}

/// What is not answered, by partition, and the failure that is to be told of it.
#[derive(Default)]
pub struct Remains {
    partitions: BTreeMap<i32, Part>,
    cause: Option<Error>,
    /// Of what nobody has heard.
    lost: Option<Error>,
}

#[derive(Default)]
struct Part {
    done: bool,
    /// The failure that says least: one that leaves the outcome open.
    failure: Option<Error>,
}

impl Remains {
    /// Of what was submitted together, the records from `first` on.
    pub fn add(&mut self, settled: &Settled, first: usize) {
        let mut batches: Vec<(usize, &Batch)> = settled
            .batches
            .iter()
            .filter_map(|batch| Some((batch.first_from(first)?, batch)))
            .collect();
        // The failure of the first record is the cause.
        batches.sort_by_key(|(first, _)| *first);
        for (_, batch) in batches {
            let part = self.partitions.entry(batch.partition).or_default();
            let error = match &batch.outcome {
                Ok(()) => {
                    part.done = true;
                    continue;
                }
                Err(error) => error,
            };
            let counted = |index: u32| index.checked_sub(u32::try_from(first).ok()?);
            self.cause.get_or_insert_with(|| with_indexes(error.clone(), counted));
            if part
                .failure
                .as_ref()
                .is_none_or(|told| told.surely_not_done() && !error.surely_not_done())
            {
                part.failure = Some(error.clone());
            }
        }
    }

    /// Why nothing more is submitted; counts if nothing that was has failed before.
    pub fn refuse(&mut self, error: Error) {
        self.cause.get_or_insert(error);
    }

    pub fn cause(&self) -> Option<&Error> {
        self.cause.as_ref()
    }

    /// There is more, and nobody knows what became of it.
    pub fn lose(&mut self, error: Error) {
        self.lost = Some(error);
    }

    /// The failure of the whole: it surely was not done only if no part of it was.
    pub fn into_error(self, sequence: u64) -> Option<Error> {
        let cause = self.cause?;
        let failures = self.partitions.values().filter_map(|part| part.failure.as_ref());
        let open = failures.chain(&self.lost).find(|failure| !failure.surely_not_done()).cloned();
        let some_done = self.partitions.values().any(|part| part.done);
        let error = match open {
            _ if !cause.surely_not_done() => cause,
            // The facts of a refusal would be read as if they were the whole's.
            Some(open) => {
                let message = format!("{}; something beside it was refused: {cause}", open.message);
                Error { message, ..open }
            }
            None if some_done => {
                let message = format!("some records are appended, others were refused: {cause}");
                Error { code: ErrorCode::OutcomeUnknown, message, ..cause }
            }
            None => cause,
        };
        let partitions = match self.partitions.len() {
            0 | 1 => Vec::new(),
            _ => self.partitions.iter().map(|(partition, part)| part.outcome(*partition)).collect(),
        };
        Some(error.of_publication(Publication { partitions, sequence }))
    }
}

/// The same error, with other numbers for the records that it names; those that get none are not named.
pub fn with_indexes(error: Error, number: impl Fn(u32) -> Option<u32>) -> Error {
    let named = error
        .records()
        .iter()
        .filter_map(|record| Some(RecordError { index: number(record.index)?, ..record.clone() }));
    let named = named.collect();
    error.with_records(named)
}

impl Part {
    fn outcome(&self, partition: i32) -> PartitionOutcome {
        let (reason, message) = match &self.failure {
            Some(failure) => (failure.code, failure.message.clone()),
            None => (ErrorCode::Unspecified, String::new()),
        };
        let refused = self.failure.as_ref().is_some_and(Error::surely_not_done);
        PartitionOutcome {
            partition,
            done: self.failure.is_none(),
            reason: reason.into(),
            surely_not_done: refused && !self.done,
            message,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_proto::ids::Offset;

    fn batch(settled: &mut Settled, partition: i32, at: &[usize], code: Option<ErrorCode>) {
        let records = at.iter().map(|index| (*index, 7)).collect();
        let outcome = match code {
            Some(code) => Err(Error::new(code, "why")),
            None => Ok(Appended {
                base_offset: Some(Offset(40)),
                log_append_time_ms: None,
                log_start: Offset(0),
                duplicate: false,
            }),
        };
        settled.take(partition, records, outcome);
    }

    /// Partition 0, then partition 1; what the whole is called, and whether it surely was not done.
    #[test]
    fn the_whole_is_surely_not_done_only_if_every_part_is() {
        use troupe_proto::v1::ErrorReason::*;
        for (parts, code, surely_not_done) in [
            ([Some(NotEnoughReplicas), Some(LeaderNotAvailable)], NotEnoughReplicas, true),
            ([Some(NotEnoughReplicas), Some(OutcomeUnknown)], OutcomeUnknown, false),
            ([Some(OutcomeUnknown), Some(NotEnoughReplicas)], OutcomeUnknown, false),
            ([Some(NotEnoughReplicas), Some(RequestTimedOut)], RequestTimedOut, false),
            ([Some(NotEnoughReplicas), None], OutcomeUnknown, false),
            ([None, Some(DiskFull)], OutcomeUnknown, false),
        ] {
            let mut settled = Settled::new(2);
            batch(&mut settled, 0, &[0], parts[0]);
            batch(&mut settled, 1, &[1], parts[1]);
            let error = settled.into_answer().unwrap_err();
            assert_eq!((error.code, error.surely_not_done()), (code, surely_not_done), "{parts:?}");
            assert_eq!(error.is_retriable(), surely_not_done, "{parts:?}");
            let outcomes = &error.publication.as_ref().unwrap().partitions;
            for (outcome, part) in outcomes.iter().zip(parts) {
                assert_eq!(outcome.done, part.is_none(), "{parts:?}");
                assert_eq!(outcome.reason(), part.unwrap_or(Unspecified), "{parts:?}");
                let refused = part.is_some_and(ErrorCode::surely_not_done);
                assert_eq!(outcome.surely_not_done, refused, "{parts:?}");
            }
        }
    }

    #[test]
    fn a_partition_whose_batches_went_different_ways_is_not_surely_undone() {
        let mut settled = Settled::new(3);
        batch(&mut settled, 0, &[0], None);
        batch(&mut settled, 0, &[1], Some(ErrorCode::NotEnoughReplicas));
        batch(&mut settled, 1, &[2], Some(ErrorCode::NotEnoughReplicas));
        let error = settled.into_answer().unwrap_err();
        assert!(!error.surely_not_done());
        let outcomes = error.publication.unwrap().partitions;
        assert!(!outcomes[0].done && !outcomes[0].surely_not_done);
        assert!(!outcomes[1].done && outcomes[1].surely_not_done);
    }

    #[test]
    fn the_records_of_a_refused_batch_are_named_as_the_request_has_them() {
        let mut settled = Settled::new(6);
        batch(&mut settled, 0, &[0, 2], None);
        let record = |index| RecordError { index, ..RecordError::default() };
        let refused = Error::new(ErrorCode::InvalidTimestamp, "why");
        let refused = refused.of_records(vec![record(0), record(2)], 2);
        settled.take(1, [1, 3, 5].map(|index| (index, 7)).to_vec(), Err(refused));
        let indexes = |error: Error| error.records().iter().map(|it| it.index).collect::<Vec<_>>();
        let mut remains = Remains::default();
        remains.add(&settled, 1);
        assert_eq!(indexes(remains.into_error(2).unwrap()), [0, 4], "from request 2 on");
        assert_eq!(indexes(settled.into_answer().unwrap_err()), [1, 5]);
    }

    #[test]
    fn what_is_answered_already_is_not_part_of_the_failure() {
        let mut settled = Settled::new(2);
        batch(&mut settled, 0, &[0], None);
        batch(&mut settled, 1, &[1], Some(ErrorCode::NotEnoughReplicas));
        let mut remains = Remains::default();
        remains.add(&settled, 1);
        let error = remains.into_error(9).unwrap();
        assert!(error.surely_not_done());
        assert_eq!(error.publication.unwrap().sequence, 9);
    }
}
