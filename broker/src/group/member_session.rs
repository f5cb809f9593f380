//! One stream of a member, from its start until it is over.
//!
//! Promise: when either end of the stream goes, the coordinator hears of it.

use super::aliases::GroupHandle;
use super::member_stream::{MemberStream, Slot};
use super::message::{Disconnected, Join, UpdateMember};
use futures::StreamExt;
use futures::stream::BoxStream;
use std::sync::Arc;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::log::v1 as pb;

impl GroupHandle {
    /// A membership: answered when the member is in the group, or refused. The first request is a start.
    /// `host`: the address that the member came from. The member goes when either stream is dropped.
    ///
    /// # Errors
    /// Those of `GroupService.RunMember`.
    pub async fn run_member(
        self: &Arc<Self>,
        host: String,
        mut requests: BoxStream<'static, pb::RunMemberRequest>,
    ) -> Result<BoxStream<'static, Result<pb::RunMemberResponse, Error>>, Error> {
        let start = requests.next().await.and_then(|request| request.start).ok_or_else(|| {
            Error::new(ErrorCode::InvalidRequest, "a membership begins with a request with `start`")
        })?;
        let session = self.shared.next_session();
        let name = match start.client_id.as_str() {
            "" => "consumer",
            name => name,
        };
        let new_member_id = format!("{name}-{}", uuid::Uuid::new_v4());
        self.check_serves()?;
        let (stream, sink) = MemberStream::open();
        let join = Join { session, new_member_id, host, start, sink };
        // On a task of its own: whoever asked may go at any time, and the coordinator has to hear of it.
        tokio::spawn(run(Arc::clone(self), join, requests, stream.slot()));
        let begun = stream.begin().await;
        self.told(Some(begun)).await
    }
}

/// Has a member join, and hands on what it says, until one of the streams is over or the node stops. The
/// coordinator hears of the end of whatever it has heard the beginning of.
async fn run(
    coordinator: Arc<GroupHandle>,
    join: Join,
    mut requests: BoxStream<'static, pb::RunMemberRequest>,
    slot: Arc<Slot>,
) {
    let session = join.session;
    // Not among the states that wait: an idle member does not pay for what it has said once.
    if Box::pin(coordinator.tell(join)).await.is_err() {
        // The sink went with it, and has told.
        return;
    }
    loop {
        tokio::select! {
            request = requests.next() => match request {
                Some(request) => {
                    let leaves = request.leave;
                    if coordinator.tell(UpdateMember { session, request }).await.is_err() || leaves {
                        break;
                    }
                }
                None => break,
            },
            () = slot.ended() => break,
            () = coordinator.node.metadata.shutdown.cancelled() => {
                let message = "the node is stopping; come back to another one";
                slot.end(Some(Error::new(ErrorCode::ShuttingDown, message)));
                break;
            }
        }
    }
    drop(requests);
    // An actor that is gone has forgotten who was connected.
    let _ = coordinator.tell(Disconnected(session)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Beside what the machine knows of it and what its connection takes.
    #[test]
    fn an_idle_member_costs_less_than_two_kilobytes() {
        fn size_of_future<A, B, C, D, F>(_: impl FnOnce(A, B, C, D) -> F) -> usize {
            size_of::<F>()
        }
        let (task, slot) = (size_of_future(run), size_of::<Slot>());
        assert!(task + slot <= 2_048, "task {task} bytes, slot {slot} bytes");
    }
}
