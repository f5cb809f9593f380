//! Settlements find the session that gave the id out, on whichever node it is.
//!
//! An acknowledgement is answered when it is committed, as far as it can be. Whether it is may not be known in the time
//! that the call has: then the answer says just that.

use super::ack_id::{AckId, echo};
use super::ledger::Action;
use super::options::{EXTENSION, parse_action};
use super::sessions::{Inbound, Place, Settlements};
use crate::context::Context;
use crate::forward::{deadline_of, is_forwarded, is_stale_stamp};
use crate::peers::Purpose;
use futures::future::join_all;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::Request;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::NodeId;
use troupe_proto::v1 as pb;
use troupe_proto::v1::SettleOutcome;
use troupe_proto::v1::event_bus_service_client::EventBusServiceClient;

/// How long a commit is waited for, if the call has so much time.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a call wants its answer.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    /// It is answered by then.
    until: Instant,
    /// With what is committed.
    confirm: bool,
    /// Another node sent it here.
    forwarded: bool,
}

impl Terms {
    /// Of ids that came on the stream of another session.
    pub fn of_stream(confirm: bool) -> Terms {
        Terms { until: Instant::now() + PATIENCE, confirm, forwarded: false }
    }
}

/// Every id gets its result, in the order of the request.
///
/// # Errors
/// `INVALID_REQUEST`: a settlement says nothing. Nothing is settled then.
pub(super) async fn settle(
    context: &Arc<Context>,
    request: Request<pb::SettleRequest>,
) -> Result<pb::SettleResponse, Error> {
    let terms = Terms {
        until: deadline_of(request.metadata()).min(Instant::now() + PATIENCE),
        confirm: true,
        forwarded: is_forwarded(&request),
    };
    let request = request.into_inner();
    let mut texts = Vec::with_capacity(request.ack_ids.len() + request.settlements.len());
    let mut actions = Vec::with_capacity(texts.capacity());
    for ack_id in request.ack_ids {
        texts.push(ack_id);
        actions.push(Action::Ack);
    }
    for settlement in request.settlements {
        actions.push(parse_action(&settlement, EXTENSION)?);
        texts.push(settlement.ack_id);
    }
    let ids: Vec<Option<AckId>> = texts.iter().map(|text| text.parse().ok()).collect();
    let known = ids.iter().zip(actions).filter_map(|(id, action)| Some(((*id)?, action))).collect();
    let mut outcomes = settle_all(context, known, terms).await.into_iter();
    let results = texts.into_iter().zip(ids).map(|(ack_id, id)| {
        let outcome = id.and_then(|_| outcomes.next()).unwrap_or(SettleOutcome::UnknownId);
        pb::SettleResult { ack_id: echo(ack_id), outcome: outcome.into() }
    });
    Ok(pb::SettleResponse { results: results.collect() })
}

/// The outcomes, in the order of the ids.
pub(super) async fn settle_all(
    context: &Arc<Context>,
    settlements: Vec<(AckId, Action)>,
    terms: Terms,
) -> Vec<SettleOutcome> {
    let mut outcomes = vec![SettleOutcome::UnknownId; settlements.len()];
    // By session here, by node elsewhere.
    let mut parts: BTreeMap<(NodeId, u64), Vec<usize>> = BTreeMap::new();
    for (at, (id, _)) in settlements.iter().enumerate() {
        let session = if id.node == context.node_id { id.session.0 } else { 0 };
        parts.entry((id.node, session)).or_default().push(at);
    }
    let settled = join_all(parts.into_iter().map(async |((node, _), places)| {
        let part: Vec<_> = places.iter().map(|at| settlements[*at]).collect();
        let count = part.len();
        let outcomes = match (node == context.node_id, terms.forwarded) {
            (true, _) => settle_here(context, part, terms).await,
            (false, false) => settle_there(context, node, part, terms).await,
            // Whoever forwarded it took this node for another.
            (false, true) => vec![SettleOutcome::UnknownId; count],
        };
        (places, outcomes)
    }));
    for (places, part) in settled.await {
        for (at, outcome) in places.into_iter().zip(part) {
            outcomes[at] = outcome;
        }
    }
    outcomes
}

/// Ids of one session of this node.
async fn settle_here(
    context: &Arc<Context>,
    settlements: Vec<(AckId, Action)>,
    terms: Terms,
) -> Vec<SettleOutcome> {
    let count = settlements.len();
    let Some((first, _)) = settlements.first() else { return Vec::new() };
    let lost = match context.subscriptions.place_of(first.session) {
        Place::Live(inbox) => {
            let (reply, outcomes) = oneshot::channel();
            // A session that has ended takes nothing, and does not answer.
            let confirm = terms.confirm.then_some(terms.until);
            let _ = inbox.send(Inbound::Settle(Settlements { settlements, confirm, reply })).await;
            match outcomes.await {
                Ok(outcomes) => return outcomes,
                Err(_) => SettleOutcome::LeaseLost,
            }
        }
        Place::Ended => SettleOutcome::LeaseLost,
        Place::Unknown => SettleOutcome::UnknownId,
    };
    vec![lost; count]
}

/// Ids of one other node. One that cannot be asked has ended its sessions, or will: its records are delivered again.
async fn settle_there(
    context: &Arc<Context>,
    node: NodeId,
    settlements: Vec<(AckId, Action)>,
    terms: Terms,
) -> Vec<SettleOutcome> {
    let count = settlements.len();
    let endpoint =
        context.metadata.image.borrow().broker(node).map(|broker| broker.endpoint.clone());
    let Some(endpoint) = endpoint else { return vec![SettleOutcome::UnknownId; count] };
    let asked = async {
        let channel = context.peers.channel(&endpoint, Purpose::Control)?;
        let request = pb::SettleRequest {
            ack_ids: Vec::new(),
            settlements: settlements.into_iter().map(on_the_wire).collect(),
        };
        let (came, clocks) = (Instant::now(), &context.clocks);
        let times = (came, terms.until);
        loop {
            let (to, unreachable) = ((&*endpoint, &channel), ErrorCode::LeaderNotAvailable);
            let request = clocks.stamp(to, request.clone(), times, unreachable).await?;
            let sent = Instant::now();
            let answer = EventBusServiceClient::new(channel.clone()).settle(request).await;
            match &answer {
                Ok(answer) => clocks.note(&endpoint, sent, answer.metadata()),
                Err(status) => clocks.note(&endpoint, sent, status.metadata()),
            }
            match answer.map_err(Error::from) {
                // It brought a newer time.
                Err(error) if is_stale_stamp(&error) && Instant::now() < times.1 => {}
                answer => return Ok::<_, Error>(answer?.into_inner().results),
            }
        }
    };
    match asked.await {
        Ok(results) if results.len() == count => {
            results.iter().map(pb::SettleResult::outcome).collect()
        }
        Ok(_) => vec![SettleOutcome::UnknownId; count],
        Err(error) => {
            tracing::debug!(%error, %node, "settlements did not reach their node, or its answer not this one");
            let lost = match error.surely_not_done() {
                true => SettleOutcome::LeaseLost,
                false => SettleOutcome::NotCommitted,
            };
            vec![lost; count]
        }
    }
}

fn on_the_wire((id, action): (AckId, Action)) -> pb::Settlement {
    use pb::settlement::Action as Wire;
    // A day at most, by then.
    let duration = |time: Duration| prost_types::Duration::try_from(time).ok();
    let action = match action {
        Action::Ack => Wire::Ack(pb::Ack {}),
        Action::Nack(delay) => Wire::Nack(pb::Nack { delay: duration(delay) }),
        Action::Extend(by) => Wire::Extend(pb::Extend { by: duration(by) }),
    };
    pb::Settlement { ack_id: id.to_text(), action: Some(action) }
}
