//! Settlements find the session that gave the id out, on whichever node it is.
//!
//! An acknowledgement is answered when it is committed, as far as it can be. Whether it is may not be known in the time
//! that the call has: then the answer says just that.

use super::ack_id::{AckId, echo};
use super::options::{EXTENSION, parse_action};
use super::request::SettleRequest;
use super::response::SettleResult;
use super::sessions::{Brought, Place, Sessions, Settlements};
use crate::forward::{Clocks, SettleAction, SettleOutcome, settle_there};
use crate::metadata_cache::MetadataCache;
use crate::peers::Peers;
use futures::future::join_all;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;
use troupe_proto::error::Error;
use troupe_proto::ids::NodeId;

/// How long a commit is waited for, if the call has so much time.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a call wants its answer.
#[derive(Clone, Copy)]
pub struct Terms {
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

/// Where settlements go.
pub struct Settle {
    pub(super) metadata: Arc<MetadataCache>,
    pub(super) sessions: Arc<Sessions>,
    peers: Arc<Peers>,
    clocks: Arc<Clocks>,
}

impl Settle {
    pub fn new(
        metadata: Arc<MetadataCache>,
        sessions: Arc<Sessions>,
        peers: Arc<Peers>,
        clocks: Arc<Clocks>,
    ) -> Self {
        Self { metadata, sessions, peers, clocks }
    }

    /// Settles ids, whoever gave them out. Every id gets its result, in the order of the request. `forwarded`: another
    /// node sent it here.
    ///
    /// # Errors
    /// `INVALID_REQUEST`: a settlement says nothing. Nothing is settled then.
    pub async fn settle(
        &self,
        request: SettleRequest,
        deadline: Instant,
        forwarded: bool,
    ) -> Result<Vec<SettleResult>, Error> {
        let until = deadline.min(Instant::now() + PATIENCE);
        let terms = Terms { until, confirm: true, forwarded };
        let mut texts = Vec::with_capacity(request.ack_ids.len() + request.settlements.len());
        let mut actions = Vec::with_capacity(texts.capacity());
        for ack_id in request.ack_ids {
            texts.push(ack_id);
            actions.push(SettleAction::Ack);
        }
        for settlement in request.settlements {
            actions.push(parse_action(settlement.action, EXTENSION)?);
            texts.push(settlement.ack_id);
        }
        let ids: Vec<Option<AckId>> = texts.iter().map(|text| text.parse().ok()).collect();
        let known =
            ids.iter().zip(actions).filter_map(|(id, action)| Some(((*id)?, action))).collect();
        let mut outcomes = self.settle_all(known, terms).await.into_iter();
        let results = texts.into_iter().zip(ids).map(|(ack_id, id)| {
            let outcome = id.and_then(|_| outcomes.next()).unwrap_or(SettleOutcome::UnknownId);
            SettleResult { ack_id: echo(ack_id), outcome }
        });
        Ok(results.collect())
    }

    /// The outcomes, in the order of the ids.
    pub async fn settle_all(
        &self,
        settlements: Vec<(AckId, SettleAction)>,
        terms: Terms,
    ) -> Vec<SettleOutcome> {
        let here = self.metadata.node_id;
        let mut outcomes = vec![SettleOutcome::UnknownId; settlements.len()];
        // By session here, by node elsewhere.
        let mut parts: BTreeMap<(NodeId, u64), Vec<usize>> = BTreeMap::new();
        for (at, (id, _)) in settlements.iter().enumerate() {
            let session = if id.node == here { id.session.0 } else { 0 };
            parts.entry((id.node, session)).or_default().push(at);
        }
        let settled = join_all(parts.into_iter().map(async |((node, _), places)| {
            let part: Vec<_> = places.iter().map(|at| settlements[*at]).collect();
            let count = part.len();
            let outcomes = match (node == here, terms.forwarded) {
                (true, _) => self.settle_here(part, terms).await,
                (false, false) => self.settle_there(node, part, terms).await,
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
        &self,
        settlements: Vec<(AckId, SettleAction)>,
        terms: Terms,
    ) -> Vec<SettleOutcome> {
        let count = settlements.len();
        let Some((first, _)) = settlements.first() else { return Vec::new() };
        let lost = match self.sessions.place_of(first.session) {
            Place::Live(inbox) => {
                let (reply, outcomes) = oneshot::channel();
                // A session that has ended takes nothing, and does not answer.
                let confirm = terms.confirm.then_some(terms.until);
                let settlements = Settlements { settlements, confirm, reply };
                let _ = inbox.send(Brought::Settlements(settlements)).await;
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
        &self,
        node: NodeId,
        settlements: Vec<(AckId, SettleAction)>,
        terms: Terms,
    ) -> Vec<SettleOutcome> {
        let count = settlements.len();
        let endpoint =
            self.metadata.image.borrow().broker(node).map(|broker| broker.endpoint.clone());
        let Some(endpoint) = endpoint else { return vec![SettleOutcome::UnknownId; count] };
        let settlements = settlements.into_iter().map(|(id, action)| (id.to_text(), action));
        let (settlements, until) = (settlements.collect(), terms.until);
        match settle_there(&self.peers, &self.clocks, &endpoint, settlements, until).await {
            Ok(outcomes) if outcomes.len() == count => outcomes,
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
}
