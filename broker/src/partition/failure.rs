//! Why a log cannot be opened, or not be written any more.

use troupe_log::LogError;
use troupe_proto::error::Error;

pub struct Failure {
    pub reason: Error,
    /// Only for the moment.
    pub temporary: bool,
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        let temporary = error.is_temporary();
        Self { reason: error.into(), temporary }
    }
}
