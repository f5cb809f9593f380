//! What every coordinator's actor is told, and what comes with what it is asked.

use crate::forward::Call;
use actix::Message;
use tokio::sync::oneshot;
use tokio::time::Instant;
use troupe_machines::time::Time;
use troupe_proto::error::{Error, ErrorCode};

/// Messages that may wait for one coordinator.
pub const MAILBOX_CAPACITY: usize = 16 << 10;

/// Where an answer goes.
pub type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// This node does not lead the partition in that epoch any more.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Resign;

/// When a request came, to the first node that took it, and until when it may be carried out.
#[derive(Clone, Copy, Debug)]
pub struct RequestTime {
    pub came: Instant,
    pub until: Instant,
}

impl From<Call> for RequestTime {
    fn from(call: Call) -> Self {
        Self { came: call.came, until: call.deadline }
    }
}

impl RequestTime {
    /// When it came, in the time in which it is `now`.
    ///
    /// # Errors
    /// `REQUEST_TOO_LATE`: its time is over.
    pub fn came_before(self, now: Time) -> Result<Time, Error> {
        if self.until <= Instant::now() {
            let message =
                "the request waited for the coordinator until its time was over; nothing was done";
            return Err(Error::new(ErrorCode::RequestTooLate, message));
        }
        let age = u64::try_from(self.came.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(Time(now.0.saturating_sub(age)))
    }
}
