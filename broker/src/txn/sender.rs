//! Markers on their way: from the coordinators of this node to the leaders of partitions, wherever they are.
//!
//! ```text
//!  Outbound ─► a queue per node ─► up to CALLS calls ─► MarkerReceiver there
//!                                       └─► the word that a marker is written, to who sent it
//! ```
//!
//! A coordinator tells again what it was not told of, so nothing is tried again here.
//! Promises: of one producer and partition one marker is under way; where epochs stay from transaction to transaction,
//! as long as it might still be written: it would end the next one. A call that comes after its time is refused where
//! it arrives.
//! Never here: a decision.

use super::aliases::TxnRoute;
use super::message::{Marked, Word};
use super::outbound::{Order, Origin};
use super::receiver::MarkerReceiver;
use super::ways::{Place, Round, Ways};
use crate::coordinator::{RequestTime, outcome_unknown};
use crate::metadata_cache::LeaderAt;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use troupe_machines::txn::{ClientVersion, Marker, Outcome, TxnPartition};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, NodeId};
use troupe_proto::internal::v1 as pb;
use troupe_proto::internal::v1::transaction_service_client::TransactionServiceClient;
use troupe_proto::log::v1::TopicPartition;

/// At one node at the same time: a partition that is slow holds up those that travel with it, and no others.
const CALLS: usize = 4;
/// Partitions of one call.
const CALL_PARTITIONS: usize = 1_000;
/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(5);
struct Item {
    origin: Origin,
    marker: Arc<Marker>,
    partition: TxnPartition,
}

impl Item {
    fn place(&self) -> Place {
        (self.marker.producer.id, self.partition.key())
    }

    fn round(&self) -> Round {
        (self.origin, self.marker.ticket)
    }

    /// Whether a late one could not be told from one of the next transaction.
    fn is_confusable(&self) -> bool {
        self.marker.version == ClientVersion::First
    }
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    calls: usize,
}

pub struct MarkerSender {
    route: Arc<TxnRoute>,
    receiver: Arc<MarkerReceiver>,
    ways: Mutex<Ways>,
    queues: Mutex<BTreeMap<NodeId, Queue>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MarkerSender {
    pub fn new(route: Arc<TxnRoute>, receiver: Arc<MarkerReceiver>) -> Self {
        Self { route, receiver, ways: Mutex::default(), queues: Mutex::default() }
    }

    /// Carries what this node's coordinators decide, until the node is gone.
    pub async fn run(self: Arc<Self>, gone: CancellationToken) {
        let outbound = Arc::clone(&self.route.coordinators.common);
        loop {
            tokio::select! {
                orders = outbound.take() => self.queue(orders),
                () = gone.cancelled() => return,
            }
        }
    }

    fn queue(self: &Arc<Self>, orders: Vec<Order>) {
        let mut nodes = BTreeSet::new();
        let mut queues = locked(&self.queues);
        for Order { origin, marker } in orders {
            let marker = Arc::new(marker);
            for partition in &marker.partitions {
                // Told again, when somebody leads.
                let Some(leader) = self.route.metadata.leader_of(&partition.key()) else {
                    continue;
                };
                let item =
                    Item { origin, marker: Arc::clone(&marker), partition: partition.clone() };
                if locked(&self.ways).sets_out(item.place(), item.round()) {
                    queues.entry(leader.node_id).or_default().items.push_back(item);
                    nodes.insert(leader.node_id);
                }
            }
        }
        for node in nodes {
            let Some(queue) = queues.get_mut(&node) else { continue };
            if queue.calls < CALLS {
                queue.calls += 1;
                tokio::spawn(Arc::clone(self).drain(node));
            }
        }
    }

    /// Calls the node until nothing is left for it.
    async fn drain(self: Arc<Self>, node: NodeId) {
        loop {
            let items: Vec<Item> = {
                let mut queues = locked(&self.queues);
                let Some(queue) = queues.get_mut(&node) else { return };
                let count = queue.items.len().min(CALL_PARTITIONS);
                if count == 0 {
                    queue.calls -= 1;
                    return;
                }
                queue.items.drain(..count).collect()
            };
            self.carry(node, items).await;
        }
    }

    /// One call, and what comes of it.
    async fn carry(self: &Arc<Self>, node: NodeId, items: Vec<Item>) {
        let until = Instant::now() + PATIENCE;
        let results = self.call(node, &items, until).await;
        let mut words: BTreeMap<Origin, Vec<Word>> = BTreeMap::new();
        let (mut over, mut lost) = (Vec::new(), Vec::new());
        for (item, result) in items.into_iter().zip(results) {
            match result {
                Ok(()) => {
                    words.entry(item.origin).or_default().push(Word {
                        transactional_id: Arc::clone(&item.marker.transactional_id),
                        ticket: item.marker.ticket,
                        partition: item.partition.key(),
                    });
                    over.push((item, true));
                }
                Err(error) => {
                    let (id, partition) = (&item.marker.transactional_id, &item.partition);
                    tracing::debug!(%id, %partition, %error, "a marker was not written");
                    match error.surely_not_done() || !item.is_confusable() {
                        true => over.push((item, false)),
                        false => lost.push(item),
                    }
                }
            }
        }
        for (origin, words) in words {
            self.tell(origin, words).await;
        }
        // Not before the words are heard: until then the same is ordered again.
        let mut ways = locked(&self.ways);
        for (item, is_written) in over {
            match is_written && item.is_confusable() {
                true => ways.written(item.place(), item.round()),
                false => ways.over(&item.place()),
            }
        }
        if !lost.is_empty() {
            let this = Arc::clone(self);
            tokio::spawn(async move {
                sleep_until(until).await;
                let mut ways = locked(&this.ways);
                for item in lost {
                    ways.over(&item.place());
                }
            });
        }
    }

    /// To who sent the markers, if it lives.
    async fn tell(&self, origin: Origin, words: Vec<Word>) {
        let Ok(handle) = self.route.coordinators.find(origin.partition) else { return };
        if handle.leader_epoch == origin.leader_epoch {
            // Whoever comes next sends them anew.
            let _ = handle.marked(Marked { life: origin.life, words }).await;
        }
    }

    /// What became of each.
    async fn call(&self, node: NodeId, items: &[Item], until: Instant) -> Vec<Result<(), Error>> {
        let (markers, counts) = together(items);
        let answer = self.write(node, pb::WriteMarkersRequest { markers }, until).await;
        let results = answer.and_then(|answer| {
            let results = answer.results.iter();
            let answered: Vec<usize> = results.map(|result| result.partitions.len()).collect();
            match answered == counts {
                true => Ok(answer.results.into_iter().flat_map(|result| result.partitions)),
                false => {
                    let message = "the node did not answer for each partition";
                    Err(Error::new(ErrorCode::OutcomeUnknown, message))
                }
            }
        });
        match results {
            Ok(results) => {
                results.map(|result| result.error.map_or(Ok(()), |it| Err(it.into()))).collect()
            }
            Err(error) => vec![Err(error); items.len()],
        }
    }

    async fn write(
        &self,
        node: NodeId,
        request: pb::WriteMarkersRequest,
        until: Instant,
    ) -> Result<pb::WriteMarkersResponse, Error> {
        let metadata = &self.route.metadata;
        if node == metadata.node_id {
            return Ok(self.receiver.write(request, until).await);
        }
        let leader = {
            let image = metadata.image.borrow();
            image.broker(node).map(|broker| LeaderAt {
                node_id: node,
                endpoint: broker.endpoint.clone(),
                // Of many partitions: each says in which epoch it is led.
                leader_epoch: LeaderEpoch(0),
            })
        };
        let leader = leader.ok_or_else(|| {
            let message = "the node that leads the partitions is gone";
            Error::new(ErrorCode::LeaderNotAvailable, message)
        })?;
        let time = RequestTime { came: Instant::now(), until };
        let max = self.route.calls.max_answer_bytes;
        let asked =
            self.route.calls.change(&leader, request, time, |channel, request| async move {
                let client = TransactionServiceClient::new(channel);
                client.max_decoding_message_size(max).write_markers(request).await
            });
        timeout_at(until, asked).await.unwrap_or_else(|_| Err(outcome_unknown()))
    }
}

/// In one call: what comes of one marker, and how many partitions each has.
fn together(items: &[Item]) -> (Vec<pb::TransactionMarker>, Vec<usize>) {
    let of_one = |a: &Item, b: &Item| Arc::ptr_eq(&a.marker, &b.marker) && a.origin == b.origin;
    let markers: Vec<_> = items.chunk_by(of_one).filter_map(wire).collect();
    let counts = markers.iter().map(|marker| marker.partitions.len()).collect();
    (markers, counts)
}

fn wire(items: &[Item]) -> Option<pb::TransactionMarker> {
    let Item { origin, marker, .. } = items.first()?;
    let partitions = items.iter().map(|Item { partition, .. }| TopicPartition {
        topic: partition.topic.to_string(),
        partition: i32::try_from(partition.partition.0).unwrap_or(i32::MAX),
        topic_id: partition.topic_id.to_wire(),
    });
    Some(pb::TransactionMarker {
        producer_id: marker.producer.id.0,
        producer_epoch: marker.producer.epoch.0,
        commit: marker.outcome == Outcome::Commit,
        coordinator_epoch: origin.leader_epoch.0,
        client_version: marker.version as u32,
        partitions: partitions.collect(),
        transactional_id: marker.transactional_id.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_machines::txn::{Producer, Ticket};
    use troupe_proto::ids::{PartitionId, ProducerEpoch, ProducerId, TopicId};

    fn item(marker: &Arc<Marker>, life: u64, partition: u32) -> Item {
        let origin = Origin { partition: PartitionId(3), leader_epoch: LeaderEpoch(7), life };
        let topic_id = TopicId::from_wire(&[1; 16]).unwrap();
        let partition =
            TxnPartition { topic: "t".into(), topic_id, partition: PartitionId(partition) };
        Item { origin, marker: Arc::clone(marker), partition }
    }

    fn marker(id: u64, ticket: u64) -> Arc<Marker> {
        let producer = Producer { id: ProducerId(id), epoch: ProducerEpoch(1) };
        Arc::new(Marker {
            ticket: Ticket(ticket),
            transactional_id: format!("x{id}").into(),
            producer,
            version: ClientVersion::First,
            outcome: Outcome::Commit,
            partitions: Vec::new(),
        })
    }

    #[test]
    fn what_travels_together_is_told_apart_by_its_marker() {
        let (one, other) = (marker(1, 1), marker(2, 2));
        let items = [item(&one, 0, 0), item(&one, 0, 1), item(&other, 0, 0)];
        let (markers, counts) = together(&items);
        assert_eq!(counts, [2, 1]);
        let ids: Vec<_> = markers.iter().map(|it| &*it.transactional_id).collect();
        assert_eq!(ids, ["x1", "x2"]);
        assert_eq!((markers[0].coordinator_epoch, markers[0].client_version), (7, 1));
    }
}
