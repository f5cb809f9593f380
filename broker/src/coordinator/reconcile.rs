//! Keeps a node's coordinators in step with the cluster's image: one for each partition of the internal topic that it
//! leads, for each leader epoch a new one.

use super::coordinators::Coordinators;
use super::handle::CoordinatorHandle;
use super::home::{Home, Node};
use super::life::CoordinatorLife;
use super::machine::Machine;
use crate::abort::AbortOnPanic;
use actix::ArbiterHandle;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use troupe_actor::supervise;
use troupe_machines::cluster::ClusterImage;
use troupe_proto::ids::{LeaderEpoch, PartitionId, TopicId};

/// Logs that are loaded at the same time.
const LOADS: usize = 4;

/// Which coordinator: another topic id or leader epoch is another one.
type Term = (TopicId, LeaderEpoch);

struct Running<M: Machine> {
    term: Term,
    handle: Arc<CoordinatorHandle<M>>,
    over: CancellationToken,
}

/// Follows the image until the node is gone.
pub async fn reconcile<M: Machine>(
    node: Node,
    coordinators: Arc<Coordinators<M>>,
    settings: watch::Receiver<M::Settings>,
    shards: Vec<ArbiterHandle>,
) {
    let gone = node.gone.clone();
    let reconciler = Reconciler {
        node: Arc::new(node),
        coordinators,
        settings,
        running: BTreeMap::new(),
        loads: Arc::new(Semaphore::new(LOADS)),
        shards,
    };
    tokio::select! {
        () = reconciler.run() => {}
        () = gone.cancelled() => {}
    }
}

struct Reconciler<M: Machine> {
    node: Arc<Node>,
    coordinators: Arc<Coordinators<M>>,
    settings: watch::Receiver<M::Settings>,
    running: BTreeMap<PartitionId, Running<M>>,
    loads: Arc<Semaphore>,
    shards: Vec<ArbiterHandle>,
}

impl<M: Machine> Reconciler<M> {
    async fn run(mut self) {
        let _guard = AbortOnPanic("the keeper of the coordinators");
        let node = Arc::clone(&self.node);
        let mut images = node.metadata.image.clone();
        loop {
            let image = images.borrow_and_update().clone();
            self.coordinators.take_catalog(&image);
            let wanted = self.wanted(&image);
            self.end_others(&wanted);
            tokio::select! {
                // What is led here is known by its handle a little later.
                () = node.metadata.registry.reached(image.next_offset()) => self.start(&wanted),
                changed = images.changed() => if changed.is_err() { return } else { continue },
            }
            if images.changed().await.is_err() {
                return;
            }
        }
    }

    /// The partitions that this node leads.
    fn wanted(&self, image: &ClusterImage) -> BTreeMap<PartitionId, Term> {
        let Some(topic) = image.topic(M::TOPIC) else { return BTreeMap::new() };
        (0..)
            .map(PartitionId)
            .zip(&topic.partitions)
            .filter(|(_, partition)| partition.leader == Some(self.node.metadata.node_id))
            .map(|(number, partition)| (number, (topic.id, partition.leader_epoch)))
            .collect()
    }

    fn end_others(&mut self, wanted: &BTreeMap<PartitionId, Term>) {
        let before = self.running.len();
        self.running.retain(|number, running| {
            let stays = wanted.get(number) == Some(&running.term);
            if !stays {
                running.over.cancel();
            }
            stays
        });
        if self.running.len() != before {
            self.publish();
        }
    }

    fn start(&mut self, wanted: &BTreeMap<PartitionId, Term>) {
        let before = self.running.len();
        for (number, term) in wanted {
            if !self.running.contains_key(number)
                && let Some(running) = self.lead(*number, *term)
            {
                self.running.insert(*number, running);
            }
        }
        if self.running.len() != before {
            self.publish();
        }
    }

    fn lead(&self, number: PartitionId, term: Term) -> Option<Running<M>> {
        let topic = self.node.metadata.registry.topic(M::TOPIC).ok()?;
        let log = Arc::clone(topic.partitions.get(number.0 as usize)?.as_ref()?);
        if log.key().topic_id != term.0 {
            return None;
        }
        let over = self.node.gone.child_token();
        let arbiter = self.shards.get(log.shard)?.clone();
        let common = Arc::clone(&self.coordinators.common);
        let home = Home::new(log, term.1, Arc::clone(&self.node), common);
        let handle = Arc::new(CoordinatorHandle::new(home));
        let mut life = CoordinatorLife::new(
            Arc::clone(&handle),
            Arc::clone(&self.coordinators),
            self.settings.clone(),
            arbiter,
            Arc::clone(&self.loads),
        );
        let (led, until) = (Arc::clone(&handle), over.clone());
        actix_rt::spawn(async move { supervise(&mut life, &led.board, until.cancelled()).await });
        Some(Running { term, handle, over })
    }

    fn publish(&self) {
        let led =
            self.running.iter().map(|(number, running)| (*number, Arc::clone(&running.handle)));
        self.coordinators.replace(led.collect());
    }
}
