//! What only one broker knows, asked of that broker.
//!
//! Never here: what is asked, or what it means that there is no answer.

use super::mark::forwarding;
use super::relay::Relay;
use crate::peers::{Peers, Purpose, failure};
use tokio::time::Instant;
use tonic::Code;
use troupe_proto::error::{Error, ErrorCode};

/// The broker's answer.
///
/// # Errors
/// `unreachable` if it cannot be reached or is of a version that has no such call, `REQUEST_TIMED_OUT` if it does not
/// answer in time; its own.
pub async fn ask_broker<R: Send>(
    peers: &Peers,
    endpoint: &str,
    deadline: Instant,
    unreachable: ErrorCode,
    relay: &impl Relay<R>,
) -> Result<R, Error> {
    let channel = peers.channel(endpoint, Purpose::Control)?;
    let asked = relay.relay(channel, forwarding((), deadline));
    match tokio::time::timeout_at(deadline, asked).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) if status.code() == Code::Unimplemented => {
            let message = "it is of an earlier version, which cannot be asked";
            Err(Error::new(unreachable, message))
        }
        Ok(Err(status)) => Err(failure(status, unreachable)),
        Err(_) => Err(Error::new(ErrorCode::RequestTimedOut, "no answer in time")),
    }
}
