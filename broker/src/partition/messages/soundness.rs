//! What is asked about damage: whether there is some, what to look at, and to do without what is lost.

use actix::Message;
use std::ops::Range;
use tokio::sync::oneshot;
use troupe_log::disk::FileDisk;
use troupe_log::{FileCheck, LogError, Scrub};
use troupe_proto::error::Error;
use troupe_proto::ids::Offset;

/// What was read and cannot be what was written.
#[derive(Clone, Debug)]
pub enum Suspicion {
    /// The batch that holds this offset.
    At(Offset),
    /// A file, as this error says.
    Log(LogError),
}

impl From<LogError> for Suspicion {
    fn from(error: LogError) -> Self {
        Suspicion::Log(error)
    }
}

/// Whoever has read says what he suspects. The answer: what a reader is to be told, or nothing, if all is sound as it
/// stands in the file; an error if that could not be looked at.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Suspect {
    pub suspicion: Suspicion,
    pub reply: oneshot::Sender<Result<Option<Error>, Error>>,
}

/// Which offsets were given up, or why nothing was.
pub type GivenUp = Result<Vec<Range<Offset>>, Error>;

/// What is damaged, and no other replica has, is given up: the rest is served. Answered when that is so.
#[derive(Message)]
#[rtype(result = "()")]
pub struct GiveUpDamage {
    pub reply: oneshot::Sender<GivenUp>,
}

/// Begin to look at every batch.
#[derive(Message)]
#[rtype(result = "()")]
pub struct BeginScrub {
    pub reply: oneshot::Sender<Scrub<FileDisk>>,
}

/// Look at the small files, and make these segments' indexes again.
#[derive(Message)]
#[rtype(result = "()")]
pub struct MendFiles {
    pub wrong_indexes: Vec<Offset>,
    pub reply: oneshot::Sender<Result<FileCheck, Error>>,
}
