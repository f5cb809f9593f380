//! The deliveries that a call acknowledges: the node that gave them out carries the call out, and keeps them until it is
//! known how it ends.

use super::ending::{aborted, unknown};
use crate::forward::{Leaders, Relay, ask_broker};
use crate::operations::subscriptions::{Pledge, PledgedIds, Settle};
use std::time::Duration;
use tokio::time::Instant;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::NodeId;

/// How long deliveries before them are waited for, if the call has so much time.
const PATIENCE: Duration = Duration::from_secs(5);

/// # Errors
/// Those of [`Settle::pledge`].
pub async fn pledge(
    settle: &Settle,
    ids: Option<PledgedIds>,
    deadline: Instant,
) -> Result<Option<Pledge>, Error> {
    let Some(ids) = ids else { return Ok(None) };
    let now = Instant::now();
    let patience = PATIENCE.min(deadline.saturating_duration_since(now) / 2);
    settle.pledge(ids, now + patience).await.map(Some).map_err(aborted)
}

/// Tells what came of it. Where nobody knows, nothing is told.
pub fn end<T>(pledge: Option<Pledge>, done: &Result<T, Error>) {
    let Some(pledge) = pledge else { return };
    match done {
        Ok(_) => pledge.end(true),
        Err(error) if error.code == ErrorCode::OutcomeUnknown => drop(pledge),
        Err(_) => pledge.end(false),
    }
}

/// The answer of the node that has the deliveries.
///
/// # Errors
/// `LEASE_LOST` if it cannot be reached: it has ended its sessions, or will. Its own.
pub async fn ask_there<R: Send>(
    leaders: &Leaders,
    node: NodeId,
    deadline: Instant,
    has_key: bool,
    relay: &impl Relay<R>,
) -> Result<R, Error> {
    let endpoint = leaders.metadata.now().broker(node).map(|broker| broker.endpoint.clone());
    let Some(endpoint) = endpoint else {
        let message = format!("node {node}, which delivered what is acknowledged, is not there");
        return Err(aborted(Error::new(ErrorCode::LeaseLost, message)));
    };
    let lost = ErrorCode::LeaseLost;
    let answer = ask_broker(&leaders.peers, &endpoint, deadline, lost, relay).await;
    answer.map_err(|error| match error.surely_not_done() {
        true => error,
        false => unknown(has_key, error.code.reason()),
    })
}
