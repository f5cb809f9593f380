//! The way of a mutation to the active controller, and of its answer back.
//!
//! Promises: a call is forwarded once only; one that surely was not done is tried again while it has time; one
//! that may have been done is `OUTCOME_UNKNOWN`; one that was held up on its way undoes nothing that was decided about
//! the same meanwhile; when it is answered, this node knows what was decided.

use super::backoff::Backoff;
use super::call::Call;
use super::relay::Relay;
use super::request_time::{Clocks, is_stale_stamp, told_in_order};
use crate::controller_channel::{ControllerChannel, Route};
use crate::metadata_cache::MetadataCache;
use crate::peers::failure;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tonic::Response;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use troupe_controller::ControllerHandle;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::MetadataOffset;

/// In the answer to a request that was forwarded: the decision is in the metadata below this offset.
const METADATA_OFFSET: &str = "troupe-metadata-offset";

/// How long an answer waits for this node to learn what it says.
const NEWS_PATIENCE: Duration = Duration::from_secs(10);

/// The cluster's active controller, wherever it is.
pub struct ActiveController {
    pub channel: Arc<ControllerChannel>,
    pub metadata: Arc<MetadataCache>,
    pub clocks: Arc<Clocks>,
}

/// What was decided: here, or there, in the words of the door that was asked.
pub enum Decided<T, R> {
    /// It is in the metadata below this offset.
    Here(T, MetadataOffset),
    There(R),
}

impl<T, R> Decided<T, R> {
    /// The answer to the call.
    pub fn respond(self, call: &Call, encode: impl FnOnce(T) -> R) -> Response<R> {
        match self {
            Decided::There(answer) => Response::new(answer),
            Decided::Here(decided, offset) => {
                let mut answer = Response::new(encode(decided));
                if call.forwarded {
                    set_offset(answer.metadata_mut(), offset);
                }
                answer
            }
        }
    }
}

impl ActiveController {
    /// Has a request decided by the active controller: by `here` on this node, by `relay` on another.
    ///
    /// # Errors
    /// `NOT_CONTROLLER` if none was active in time; `OUTCOME_UNKNOWN` if the way broke after the request was sent.
    pub async fn decide<T, R, Here>(
        &self,
        call: &Call,
        here: impl Fn(ControllerHandle) -> Here + Send + Sync,
        relay: &impl Relay<R>,
    ) -> Result<Decided<T, R>, Error>
    where
        Here: Future<Output = Result<T, Error>> + Send,
        T: Send,
        R: Send,
    {
        if call.forwarded {
            let controller = self.channel.here()?;
            let asked = match call.is_ordered {
                true => controller.since(call.came.into_std()),
                false => controller.clone(),
            };
            let decided = here(asked).await?;
            return Ok(Decided::Here(decided, next_offset(&controller)));
        }
        let decided = until_active(&self.metadata, call.deadline, || async {
            match self.channel.route()? {
                Route::Here(controller) => {
                    let decided = here(controller.clone()).await?;
                    let offset = next_offset(&controller);
                    Ok((Decided::Here(decided, offset), Some(offset)))
                }
                Route::There(channel) => {
                    let (answer, offset) = self.ask(channel, call, relay).await?;
                    Ok((Decided::There(answer), offset))
                }
            }
        });
        let (decided, offset) = match decided.await {
            Ok(decided) => decided,
            Err(error) => return Err(told_in_order(call.came, error).await),
        };
        if let Some(offset) = offset {
            // It is decided, and that is the answer, also if this node learns of it late.
            let patience = call.deadline.min(Instant::now() + NEWS_PATIENCE);
            let _ = timeout_at(patience, self.metadata.caught_up_to(offset)).await;
        }
        Ok(decided)
    }

    /// Asks the controller on another node.
    async fn ask<R: Send>(
        &self,
        channel: Channel,
        call: &Call,
        relay: &impl Relay<R>,
    ) -> Result<(R, Option<MetadataOffset>), Error> {
        let clocks = &self.clocks;
        let node = self.channel.controller_id().map_or(-1, |controller| controller.0);
        let node = format!("controller {node}");
        let known = clocks.came(&node, call.came);
        match send(clocks, (&node, &channel), call, relay).await {
            // It seems to be of the past. The refusal may tell better when it came: once more, then, but no
            // more often, for what is overtaken stays so.
            Err(error)
                if error.code == ErrorCode::Overtaken && clocks.came(&node, call.came) > known =>
            {
                send(clocks, (&node, &channel), call, relay).await
            }
            answer => answer,
        }
    }
}

fn next_offset(controller: &ControllerHandle) -> MetadataOffset {
    controller.image().borrow().next_offset()
}

/// The answer of the controller on another node, and how far this node then has to know.
async fn send<R: Send>(
    clocks: &Clocks,
    (node, channel): (&str, &Channel),
    call: &Call,
    relay: &impl Relay<R>,
) -> Result<(R, Option<MetadataOffset>), Error> {
    let unreachable = ErrorCode::NotController;
    let times = (call.came, call.deadline);
    let stamp = clocks.stamp((node, channel), (), times, unreachable).await?;
    let sent = Instant::now();
    match relay.relay(channel.clone(), stamp).await {
        Ok(answer) => {
            clocks.note(node, sent, answer.metadata());
            let offset = offset_in(answer.metadata());
            Ok((answer.into_inner(), offset))
        }
        Err(status) => {
            clocks.note(node, sent, status.metadata());
            Err(failure(status, unreachable))
        }
    }
}

/// Tries again as long as no controller is active, and surely nothing was done, until `deadline`.
pub async fn until_active<T, Try>(
    metadata: &MetadataCache,
    deadline: Instant,
    attempt: impl Fn() -> Try + Send + Sync,
) -> Result<T, Error>
where
    Try: Future<Output = Result<T, Error>> + Send,
{
    let mut backoff = Backoff::new();
    loop {
        let error = match attempt().await {
            Err(error) if is_not_yet(&error) => error,
            outcome => return outcome,
        };
        let next = Instant::now() + backoff.next();
        if next >= deadline || metadata.shutdown.is_cancelled() {
            return Err(error);
        }
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = metadata.shutdown.cancelled() => return Err(error),
        }
    }
}

/// There is no active controller, or it is about to be another.
fn is_not_yet(error: &Error) -> bool {
    matches!(error.code, ErrorCode::NotController | ErrorCode::ShuttingDown)
        || is_stale_stamp(error)
}

fn set_offset(metadata: &mut MetadataMap, offset: MetadataOffset) {
    metadata.insert(METADATA_OFFSET, offset.0.into());
}

fn offset_in(metadata: &MetadataMap) -> Option<MetadataOffset> {
    metadata.get(METADATA_OFFSET)?.to_str().ok()?.parse().ok().map(MetadataOffset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_carries_where_the_decision_stands() {
        let mut metadata = MetadataMap::new();
        assert_eq!(offset_in(&metadata), None);
        set_offset(&mut metadata, MetadataOffset(u64::MAX));
        assert_eq!(offset_in(&metadata), Some(MetadataOffset(u64::MAX)));
    }
}
