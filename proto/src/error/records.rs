//! For which of its records a batch or a request was refused (T15).

use super::{Error, RecordError};

/// Records that something was refused for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedRecords(Vec<RecordError>);

/// Records that are named at most, where a batch or a request is refused for some.
pub const MAX_RECORDS: usize = 10;
/// The fact that says how many there are.
const BAD_RECORDS: &str = "bad_records";

impl Error {
    /// The same error, for these records among others: no more than [`MAX_RECORDS`] are kept. `count`: how many there
    /// are.
    #[must_use]
    pub fn of_records(self, records: Vec<RecordError>, count: usize) -> Self {
        self.with(BAD_RECORDS, count).with_records(records)
    }

    /// The same error, naming these records: no more than [`MAX_RECORDS`].
    #[must_use]
    pub fn with_records(self, mut records: Vec<RecordError>) -> Self {
        records.truncate(MAX_RECORDS);
        let refused = (!records.is_empty()).then(|| Box::new(RefusedRecords(records)));
        Self { refused, ..self }
    }

    /// For which records a batch or a request was refused: the first few, in order.
    pub fn records(&self) -> &[RecordError] {
        self.refused.as_ref().map_or(&[], |refused| &refused.0)
    }

    /// How many records it is for.
    pub fn record_count(&self) -> Option<usize> {
        self.facts.get(BAD_RECORDS).and_then(|count| count.parse().ok())
    }

    /// Whether all records that it is for are named.
    pub fn names_all_records(&self) -> bool {
        self.record_count().is_some_and(|count| count <= self.records().len())
    }
}
