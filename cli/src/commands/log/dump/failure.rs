//! Why a file was not printed to its end.

use crate::failure::Failure;
use troupe_log::LogError;
use troupe_log::dump::DumpError;

/// See the module.
pub enum DumpFailure {
    Printing(Failure),
    /// What is wrong with the file.
    Reading(String),
}

impl From<Failure> for DumpFailure {
    fn from(failure: Failure) -> Self {
        DumpFailure::Printing(failure)
    }
}

impl From<LogError> for DumpFailure {
    fn from(error: LogError) -> Self {
        DumpFailure::Reading(error.to_string())
    }
}

impl From<DumpError> for DumpFailure {
    fn from(error: DumpError) -> Self {
        DumpFailure::Reading(error.to_string())
    }
}
