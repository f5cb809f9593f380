//! What the cleaner asks of an actor.

use actix::Message;
use tokio::sync::oneshot;
use troupe_log::disk::FileDisk;
use troupe_log::{Cleaned, Cleaning, CleaningReport, Ending, LogError};
use troupe_machines::cleaning::Standing;

/// Tell how the log stands; close the segment that takes the appends, if it has to be compacted. Answered with nothing
/// if the topic is not compacted.
#[derive(Message)]
#[rtype(result = "()")]
pub struct LookAtLog {
    /// The topic is the cluster's own.
    pub is_read_whole: bool,
    pub reply: oneshot::Sender<Result<Option<LogLook>, LogError>>,
}

/// How a log stands.
#[derive(Clone, Copy, Debug)]
pub struct LogLook {
    pub standing: Standing,
    /// A segment was closed just now: what is in it can be cleaned as soon as it is on disk.
    pub rolled: bool,
}

/// Make a plan for a pass. Answered with nothing if there is nothing to clean.
#[derive(Message)]
#[rtype(result = "()")]
pub struct BeginCleaning {
    pub reply: oneshot::Sender<Result<Option<Cleaning<FileDisk>>, LogError>>,
}

/// A pass was carried out: take what it made. Asked of the actor that made the plan, or of none. Answered with nothing
/// if the log was cut or shortened meanwhile, or tombstones would go that somebody lacks by now.
#[derive(Message)]
#[rtype(result = "()")]
pub struct FinishCleaning {
    pub cleaned: Cleaned<FileDisk>,
    pub reply: oneshot::Sender<Result<Option<FinishedCleaning>, LogError>>,
}

/// A pass whose result stands in the log.
pub struct FinishedCleaning {
    pub report: CleaningReport,
    /// To be run by the cleaner's thread, still holding its turn: it waits for the disk.
    pub ending: Ending<FileDisk>,
}
