//! How long a call may take, and where it comes from.

use super::mark::is_forwarded;
use super::request_time::{Times, meant_epoch, times_of};
use super::time::deadline_of;
use tokio::time::Instant;
use tonic::Request;
use troupe_proto::error::Error;

#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub deadline: Instant,
    /// Another node sent it here: it goes no further.
    pub forwarded: bool,
    /// When it came, to the first node that took it.
    pub came: Instant,
    /// Who forwarded it has said so; an earlier version does not, and does not know what it would be told.
    pub is_ordered: bool,
    /// The leader epoch in which who forwarded it took this node for the leader or the coordinator.
    pub meant_epoch: Option<u32>,
}

impl Call {
    /// One of this node itself.
    pub fn until(deadline: Instant) -> Self {
        let came = Instant::now();
        Self { deadline, forwarded: false, came, is_ordered: true, meant_epoch: None }
    }

    /// One that came in.
    ///
    /// # Errors
    /// `REQUEST_TOO_LATE`: its time is over.
    pub fn of<T>(request: &Request<T>) -> Result<Self, Error> {
        let metadata = request.metadata();
        let deadline = deadline_of(metadata);
        if !is_forwarded(request) {
            return Ok(Self::until(deadline));
        }
        let Times { came, until } = times_of(metadata)?;
        Ok(Self {
            deadline: until.map_or(deadline, |until| until.min(deadline)),
            forwarded: true,
            came,
            is_ordered: until.is_some(),
            meant_epoch: meant_epoch(metadata.as_ref()),
        })
    }
}
