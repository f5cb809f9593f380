//! How a supervisor hears that an actor is gone: by the drop of a field, which nothing can prevent.

use actix::{Message, Recipient};
use troupe_proto::error::Error;
use troupe_proto::ids::PartitionKey;

/// An actor is gone.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Down {
    pub key: PartitionKey,
    /// Which of the partition's actors.
    pub generation: u64,
    pub panicked: bool,
    /// It stopped for want of something that the machine may have again soon.
    pub wanting: Option<Error>,
}

/// Tells the supervisor that its actor is gone, however it went.
pub struct DownGuard {
    supervisor: Recipient<Down>,
    key: PartitionKey,
    generation: u64,
    armed: bool,
    wanting: Option<Error>,
}

impl DownGuard {
    pub fn new(supervisor: Recipient<Down>, key: PartitionKey, generation: u64) -> Self {
        Self { supervisor, key, generation, armed: true, wanting: None }
    }

    /// The actor stops because it was told to: no new one is wanted.
    pub fn disarm(&mut self) {
        self.armed = false;
    }

    /// The actor stops because it could not do what it had to; a new one may, in a while.
    pub fn note_want(&mut self, reason: Error) {
        self.wanting = Some(reason);
    }
}

impl Drop for DownGuard {
    fn drop(&mut self) {
        if self.armed {
            self.supervisor.do_send(Down {
                key: self.key,
                generation: self.generation,
                panicked: std::thread::panicking(),
                wanting: self.wanting.take(),
            });
        }
    }
}
