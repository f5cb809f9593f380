//! Settlements on their way to the node that gave the deliveries out, and their outcomes back.

use super::request_time::{Clocks, is_stale_stamp};
use crate::peers::{Peers, Purpose};
use std::time::Duration;
use tokio::time::Instant;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::v1 as pb;
use troupe_proto::v1::event_bus_service_client::EventBusServiceClient;

/// What a client says of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettleAction {
    Ack,
    /// Delivered again after this long.
    Nack(Duration),
    /// The lease ends this much from now.
    Extend(Duration),
}

/// What became of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettleOutcome {
    /// Another node said what this one does not know.
    Unspecified,
    Accepted,
    /// The record has been taken back, to be delivered again.
    LeaseLost,
    /// No such id was given out, or long ago.
    UnknownId,
    /// It may have been taken, but nobody knew in time of its commit.
    NotCommitted,
}

impl From<SettleOutcome> for pb::SettleOutcome {
    fn from(outcome: SettleOutcome) -> Self {
        match outcome {
            SettleOutcome::Unspecified => pb::SettleOutcome::Unspecified,
            SettleOutcome::Accepted => pb::SettleOutcome::Accepted,
            SettleOutcome::LeaseLost => pb::SettleOutcome::LeaseLost,
            SettleOutcome::UnknownId => pb::SettleOutcome::UnknownId,
            SettleOutcome::NotCommitted => pb::SettleOutcome::NotCommitted,
        }
    }
}

impl From<pb::SettleOutcome> for SettleOutcome {
    fn from(outcome: pb::SettleOutcome) -> Self {
        match outcome {
            pb::SettleOutcome::Unspecified => SettleOutcome::Unspecified,
            pb::SettleOutcome::Accepted => SettleOutcome::Accepted,
            pb::SettleOutcome::LeaseLost => SettleOutcome::LeaseLost,
            pb::SettleOutcome::UnknownId => SettleOutcome::UnknownId,
            pb::SettleOutcome::NotCommitted => SettleOutcome::NotCommitted,
        }
    }
}

/// Has the node at that endpoint settle ids that it gave out. It answers by then, with an outcome for each.
///
/// # Errors
/// Why it could not be asked, or its answer did not come.
pub async fn settle_there(
    peers: &Peers,
    clocks: &Clocks,
    endpoint: &str,
    settlements: Vec<(String, SettleAction)>,
    until: Instant,
) -> Result<Vec<SettleOutcome>, Error> {
    let channel = peers.channel(endpoint, Purpose::Control)?;
    let request = pb::SettleRequest {
        ack_ids: Vec::new(),
        settlements: settlements.into_iter().map(on_the_wire).collect(),
    };
    let times = (Instant::now(), until);
    loop {
        let (to, unreachable) = ((endpoint, &channel), ErrorCode::LeaderNotAvailable);
        let request = clocks.stamp(to, request.clone(), times, unreachable).await?;
        let sent = Instant::now();
        let answer = EventBusServiceClient::new(channel.clone()).settle(request).await;
        match &answer {
            Ok(answer) => clocks.note(endpoint, sent, answer.metadata()),
            Err(status) => clocks.note(endpoint, sent, status.metadata()),
        }
        match answer.map_err(Error::from) {
            // It brought a newer time.
            Err(error) if is_stale_stamp(&error) && Instant::now() < until => {}
            answer => {
                let results = answer?.into_inner().results;
                return Ok(results.iter().map(|result| result.outcome().into()).collect());
            }
        }
    }
}

fn on_the_wire((ack_id, action): (String, SettleAction)) -> pb::Settlement {
    use pb::settlement::Action as Wire;
    // A day at most, by then.
    let duration = |time: Duration| prost_types::Duration::try_from(time).ok();
    let action = match action {
        SettleAction::Ack => Wire::Ack(pb::Ack {}),
        SettleAction::Nack(delay) => Wire::Nack(pb::Nack { delay: duration(delay) }),
        SettleAction::Extend(by) => Wire::Extend(pb::Extend { by: duration(by) }),
    };
    pb::Settlement { ack_id, action: Some(action) }
}
