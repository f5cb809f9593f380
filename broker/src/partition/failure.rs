//! Why a log cannot be opened, or not be written any more.

use troupe_log::LogError;
use troupe_proto::error::Error;

pub struct Failure {
    pub reason: Error,
    /// Only for the moment.
    pub temporary: bool,
    /// The whole disk has failed, or is not there: nothing but a start of the node brings the replica back.
    pub disk_is_away: bool,
    /// Nothing new is known to be wrong: an actor that opens the log anew may have more luck. Not again and again.
    pub in_doubt: bool,
}

impl Failure {
    /// For a person to look at.
    pub fn lasting(reason: Error) -> Failure {
        Failure { reason, temporary: false, disk_is_away: false, in_doubt: false }
    }

    pub fn in_doubt(error: LogError) -> Failure {
        Failure { in_doubt: true, ..Failure::lasting(error.into()) }
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        let temporary = error.is_temporary();
        let disk_is_away = matches!(error, LogError::DirectoryOffline { .. });
        Self { reason: error.into(), temporary, disk_is_away, in_doubt: false }
    }
}
