//! Records of a partition are deleted by whoever leads it.

use super::backoff::Backoff;
use super::leaders::Leaders;
use super::mark::forwarding;
use super::request_time::set_meant_epoch;
use super::route::{Route, Target, no_leader};
use crate::metadata_cache::LeaderAt;
use crate::partition::DeletionRequest;
use crate::peers::{Purpose, failure};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tonic::{Code, Status};
use troupe_machines::replica::DeleteUpTo;
use troupe_proto::admin::v1 as pb;
use troupe_proto::admin::v1::topic_service_client::TopicServiceClient;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::Offset;

/// Of the time that is left, what a leader does not have: its answer has to come in time.
const ANSWER_SHARE: u32 = 10;
/// How much later than its deadline an answer may come: a leader has a clock of its own.
const GRACE: Duration = Duration::from_millis(500);

/// Deletes the records below an offset, or only checks it; asks on while somebody else leads, until `deadline`. Returns
/// where the logs of the in-sync replicas start then.
///
/// # Errors
/// Those of [`crate::partition::PartitionHandle::delete_records`], of the last leader that was asked.
pub async fn delete_records(
    leaders: &Leaders,
    target: &Target,
    up_to: DeleteUpTo,
    validate_only: bool,
    deadline: Instant,
) -> Result<Offset, Error> {
    let mut backoff = Backoff::new();
    loop {
        let led = target.led(&leaders.metadata.image.borrow());
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout_ms = (left - left / ANSWER_SHARE).as_millis();
        let timeout_ms = u32::try_from(timeout_ms).unwrap_or(u32::MAX).max(1);
        let request = DeletionRequest { up_to, timeout_ms, validate_only };
        let asked = async {
            match target.route(&leaders.metadata)? {
                // A leader that has not heard yet that it leads anew would go by what was so before.
                Route::Here(handle) => {
                    handle.delete_records(request, led.map(|(_, epoch)| epoch)).await
                }
                Route::There(leader) => ask(leaders, target, &leader, request, deadline).await,
            }
        };
        let asked = async {
            tokio::select! {
                answer = asked => answer,
                // One that hangs is not waited for. It may have deleted them, and the next one not.
                () = target.moves(&leaders.metadata, led) => Err(replaced()),
            }
        };
        let error = match timeout_at(deadline + GRACE, asked).await {
            Ok(Err(error)) if may_be_repeated(leaders, target, up_to, &error) => error,
            Ok(outcome) => return outcome,
            Err(_) => {
                let message = "the partition's leader did not answer in time: it may have deleted the records, or not; \
                               ask again";
                return Err(Error::new(ErrorCode::RequestTimedOut, message));
            }
        };
        let next = Instant::now() + backoff.next();
        if next >= deadline {
            return Err(leaders.metadata.redirect(error, &target.key));
        }
        target.news(&leaders.metadata, led, next).await;
    }
}

/// Up to a fixed offset, twice is as good as once. Up to the high watermark, what came meanwhile would go too.
fn may_be_repeated(leaders: &Leaders, target: &Target, up_to: DeleteUpTo, error: &Error) -> bool {
    match up_to {
        DeleteUpTo::Offset(_) => target.is_readable_elsewhere(&leaders.metadata, error),
        DeleteUpTo::HighWatermark => target.is_led_elsewhere(&leaders.metadata, error),
    }
}

fn replaced() -> Error {
    let message = "the partition's leader was replaced meanwhile: the records may be deleted, or not; ask again";
    Error::new(ErrorCode::OutcomeUnknown, message)
}

async fn ask(
    leaders: &Leaders,
    target: &Target,
    leader: &LeaderAt,
    asked: DeletionRequest,
    deadline: Instant,
) -> Result<Offset, Error> {
    let named = target.named();
    let deletion = pb::RecordsDeletion {
        topic: named.topic,
        partition: named.partition,
        topic_id: named.topic_id,
        before_offset: match asked.up_to {
            DeleteUpTo::Offset(offset) => offset.to_wire(),
            DeleteUpTo::HighWatermark => -1,
        },
    };
    let message = pb::DeleteRecordsRequest {
        partitions: vec![deletion],
        timeout_ms: asked.timeout_ms,
        validate_only: asked.validate_only,
    };
    let mut request = forwarding(message, deadline + GRACE);
    set_meant_epoch(request.metadata_mut(), leader.leader_epoch.0);
    let channel = leaders.peers.channel(&leader.endpoint, Purpose::Control)?;
    let answer = TopicServiceClient::new(channel).delete_records(request).await;
    let answer = answer.map_err(|status| refused(status, leader))?;
    let result = answer.into_inner().results.into_iter().next().unwrap_or_default();
    match result.error {
        Some(detail) => Err(detail.into()),
        None => Offset::from_wire(result.low_watermark)
            .ok_or_else(|| no_leader("the partition's leader gave no answer")),
    }
}

/// An earlier version has no such call.
fn refused(status: Status, leader: &LeaderAt) -> Error {
    if status.code() == Code::Unimplemented {
        let node = leader.node_id;
        let message = format!(
            "node {node} leads the partition and runs an earlier version, which cannot delete records: update it first"
        );
        return Error::new(ErrorCode::InvalidRequest, message).with("node", node);
    }
    failure(status, ErrorCode::LeaderNotAvailable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_proto::ids::{LeaderEpoch, NodeId};

    #[test]
    fn whoever_has_to_be_updated_first_is_named() {
        let endpoint = "n2:7070".to_owned();
        let leader = LeaderAt { node_id: NodeId(2), endpoint, leader_epoch: LeaderEpoch(3) };
        let error = refused(Status::unimplemented("no such method"), &leader);
        assert!(error.code == ErrorCode::InvalidRequest && error.surely_not_done());
        assert!(error.message.starts_with("node 2 leads") && error.facts["node"] == "2", "{error}");
        let answered = Status::from(Error::new(ErrorCode::NotLeader, "another leads"));
        assert_eq!(refused(answered, &leader).code, ErrorCode::NotLeader);
    }
}
