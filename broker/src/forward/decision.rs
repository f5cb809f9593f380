//! The way of a mutation to the active controller, and of its answer back.
//!
//! Promises: a call is forwarded once only; one that surely was not done is tried again while it has time; one
//! that may have been done is `OUTCOME_UNKNOWN`; one that was held up on its way undoes nothing that was decided about
//! the same meanwhile; when it is answered, this node knows what was decided.

use super::backoff::Backoff;
use super::mark::is_forwarded;
use super::order::{Clocks, Times, is_stale_stamp, times_of, told_in_order};
use super::time::deadline_of;
use crate::controller_channel::{ControllerChannel, Route};
use crate::metadata_cache::MetadataCache;
use crate::peers::failure;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use troupe_controller::ControllerHandle;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::MetadataOffset;

/// In the answer to such a request: the decision is in the metadata below this offset.
const METADATA_OFFSET: &str = "troupe-metadata-offset";

/// How long an answer waits for this node to learn what it says.
const NEWS_PATIENCE: Duration = Duration::from_secs(10);

/// The cluster's active controller, wherever it is.
pub struct ActiveController {
    pub channel: Arc<ControllerChannel>,
    pub metadata: Arc<MetadataCache>,
    pub clocks: Arc<Clocks>,
}

impl ActiveController {
    /// Has a request decided by the active controller: by `here` on this node, by `there` on another, which is
    /// the same call once more.
    ///
    /// # Errors
    /// `NOT_CONTROLLER` if none was active in time; `OUTCOME_UNKNOWN` if the way broke after the request was sent.
    pub async fn decide<Req, Res, Here, There>(
        &self,
        request: Request<Req>,
        here: impl Fn(ControllerHandle, Req) -> Here + Send + Sync,
        there: impl Fn(Channel, Request<Req>) -> There + Send + Sync,
    ) -> Result<Response<Res>, Status>
    where
        Req: Clone + Send + Sync,
        Res: Send,
        Here: Future<Output = Result<Res, Error>> + Send,
        There: Future<Output = Result<Response<Res>, Status>> + Send,
    {
        let (deadline, forwarded) = (deadline_of(request.metadata()), is_forwarded(&request));
        let came = Instant::now();
        if forwarded {
            let controller = self.channel.here()?;
            let asked = match times_of(request.metadata())? {
                Times { came, until: Some(_) } => controller.since(came.into_std()),
                // Of an earlier version, which does not know what it would be told.
                Times { until: None, .. } => controller.clone(),
            };
            let decided = here(asked, request.into_inner()).await?;
            let mut answer = Response::new(decided);
            set_offset(answer.metadata_mut(), controller.image().borrow().next_offset());
            return Ok(answer);
        }
        let message = request.into_inner();
        let decided = until_active(&self.metadata, deadline, || async {
            match self.channel.route()? {
                Route::Here(controller) => {
                    let answer = here(controller.clone(), message.clone()).await?;
                    let offset = controller.image().borrow().next_offset();
                    Ok((answer, Some(offset)))
                }
                Route::There(channel) => {
                    let clocks = &self.clocks;
                    let node = self.channel.controller_id().map_or(-1, |controller| controller.0);
                    let (node, times) = (format!("controller {node}"), (came, deadline));
                    let known = clocks.came(&node, came);
                    match send(clocks, (&node, &channel), message.clone(), times, &there).await {
                        // It seems to be of the past. The refusal may tell better when it came: once more, then, but no
                        // more often, for what is overtaken stays so.
                        Err(error)
                            if error.code == ErrorCode::Overtaken
                                && clocks.came(&node, came) > known =>
                        {
                            send(clocks, (&node, &channel), message.clone(), times, &there).await
                        }
                        answer => answer,
                    }
                }
            }
        });
        let (answer, offset) = match decided.await {
            Ok(decided) => decided,
            Err(error) => return Err(told_in_order(came, error).await.into()),
        };
        if let Some(offset) = offset {
            // It is decided, and that is the answer, also if this node learns of it late.
            let patience = deadline.min(Instant::now() + NEWS_PATIENCE);
            let _ = timeout_at(patience, self.metadata.caught_up_to(offset)).await;
        }
        Ok(Response::new(answer))
    }
}

/// Asks the controller on another node: its answer, and how far this node then has to know.
async fn send<Req, Res, There>(
    clocks: &Clocks,
    (node, channel): (&str, &Channel),
    message: Req,
    times: (Instant, Instant),
    there: &(impl Fn(Channel, Request<Req>) -> There + Send + Sync),
) -> Result<(Res, Option<MetadataOffset>), Error>
where
    There: Future<Output = Result<Response<Res>, Status>> + Send,
{
    let unreachable = ErrorCode::NotController;
    let request = clocks.stamp((node, channel), message, times, unreachable).await?;
    let sent = Instant::now();
    match there(channel.clone(), request).await {
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
