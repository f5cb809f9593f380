//! What the leader of a partition knows of producers, and its word that a transaction that nobody ends is over.

use super::partitions::producers_here;
use super::receiver::MarkerReceiver;
use super::wire::producer;
use crate::forward::{Leaders, Target, ask_leader, forwarding, set_meant_epoch};
use crate::metadata_cache::LeaderAt;
use crate::partition::PartitionHandle;
use crate::peers::{Purpose, failure};
use std::sync::Arc;
use tokio::time::Instant;
use troupe_machines::replica::ProducerState;
use troupe_machines::time::Time;
use troupe_proto::admin::v1 as pb;
use troupe_proto::admin::v1::transaction_service_client::TransactionServiceClient;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, Offset, Sequence};
use troupe_proto::internal::v1 as internal;
use troupe_proto::internal::v1::transaction_service_client::TransactionServiceClient as InternalClient;

/// As the partition's leader knows them; asks on while somebody else leads, until `deadline`.
///
/// # Errors
/// `LEADER_NOT_AVAILABLE`, `UNKNOWN_TOPIC`, `REQUEST_TIMED_OUT`.
pub async fn producers_at(
    leaders: &Leaders,
    target: &Target,
    deadline: Instant,
) -> Result<Vec<ProducerState>, Error> {
    let here =
        |handle: Arc<PartitionHandle>, epoch| async move { producers_here(&handle, epoch).await };
    let there = |leader: LeaderAt| async move {
        let request = pb::DescribeProducersRequest {
            topic: target.topic.to_string(),
            partition: target.number(),
        };
        let mut request = forwarding(request, deadline);
        set_meant_epoch(request.metadata_mut(), leader.leader_epoch.0);
        let channel = leaders.peers.channel(&leader.endpoint, Purpose::Control)?;
        let answer = TransactionServiceClient::new(channel).describe_producers(request).await;
        let answer = answer.map_err(|status| failure(status, ErrorCode::LeaderNotAvailable))?;
        answer.into_inner().producers.into_iter().map(state).collect()
    };
    ask_leader(leaders, target, deadline, here, there).await
}

fn state(known: pb::ProducerState) -> Result<ProducerState, Error> {
    let malformed = |_| {
        let message = "the partition's leader answered what cannot be";
        Error::new(ErrorCode::LeaderNotAvailable, message)
    };
    let producer = producer(known.producer_id, known.producer_epoch).map_err(malformed)?;
    Ok(ProducerState {
        id: producer.id,
        epoch: producer.epoch,
        last_sequence: known.last_sequence.map(Sequence),
        last_append: Time(u64::try_from(known.last_timestamp_ms).unwrap_or(0)),
        coordinator_epoch: known.coordinator_epoch.map(LeaderEpoch),
        transaction_first_offset: known.transaction_start_offset.and_then(Offset::from_wire),
    })
}

/// Has the partition's leader write an abort of what the producer has open there.
///
/// # Errors
/// Those of [`MarkerReceiver::write`] for the partition.
pub async fn abort_at(
    leaders: &Leaders,
    receiver: &MarkerReceiver,
    target: &Target,
    open: &ProducerState,
    deadline: Instant,
) -> Result<(), Error> {
    let marker = internal::TransactionMarker {
        producer_id: open.id.0,
        producer_epoch: open.epoch.0,
        commit: false,
        // Whoever coordinates the producer's id goes on as before.
        coordinator_epoch: open.coordinator_epoch.map_or(0, |epoch| epoch.0),
        // Just this transaction, and no later one.
        client_version: 1,
        partitions: vec![target.named()],
        transactional_id: String::new(),
    };
    let request = &internal::WriteMarkersRequest { markers: vec![marker] };
    let here = |_, _| async move { written(receiver.write(request.clone(), deadline).await) };
    let there = |leader: LeaderAt| async move {
        let channel = leaders.peers.channel(&leader.endpoint, Purpose::Control)?;
        let request = forwarding(request.clone(), deadline);
        let answer = InternalClient::new(channel).write_markers(request).await;
        written(
            answer.map_err(|status| failure(status, ErrorCode::LeaderNotAvailable))?.into_inner(),
        )
    };
    ask_leader(leaders, target, deadline, here, there).await
}

fn written(answer: internal::WriteMarkersResponse) -> Result<(), Error> {
    let result = answer.results.into_iter().flat_map(|result| result.partitions).next();
    match result.map(|result| result.error) {
        Some(None) => Ok(()),
        Some(Some(error)) => Err(error.into()),
        None => Err(Error::new(ErrorCode::OutcomeUnknown, "the leader gave no answer")),
    }
}
