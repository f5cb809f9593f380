//! Keeps a node's coordinators in step with the cluster's image: one for each partition of `__consumer_offsets`
//! that it leads, for each leader epoch a new one.

use super::coordinators::{Led, OFFSETS_TOPIC};
use super::handle::{CoordinatorHandle, Home};
use super::lead::Lead;
use crate::abort::AbortOnPanic;
use crate::context::Context;
use actix::ArbiterHandle;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use troupe_actor::supervise;
use troupe_machines::cluster::ClusterImage;
use troupe_machines::group::{Catalog, CatalogTopic};
use troupe_proto::ids::{LeaderEpoch, PartitionId, TopicId};

/// Logs that are loaded at the same time.
const LOADS: usize = 4;

/// Which coordinator: another topic id or leader epoch is another one.
type Term = (TopicId, LeaderEpoch);

struct Running {
    term: Term,
    handle: Arc<CoordinatorHandle>,
    over: CancellationToken,
}

/// Follows the image until the node is gone.
pub async fn follow(context: Arc<Context>, shards: Vec<ArbiterHandle>) {
    let gone = context.gone.clone();
    let follower = Follower {
        running: BTreeMap::new(),
        loads: Arc::new(Semaphore::new(LOADS)),
        shards,
        context,
    };
    tokio::select! {
        () = follower.run() => {}
        () = gone.cancelled() => {}
    }
}

struct Follower {
    context: Arc<Context>,
    running: BTreeMap<PartitionId, Running>,
    loads: Arc<Semaphore>,
    shards: Vec<ArbiterHandle>,
}

impl Follower {
    async fn run(mut self) {
        let _guard = AbortOnPanic("the keeper of the coordinators");
        let mut images = self.context.metadata.image.clone();
        loop {
            let image = images.borrow_and_update().clone();
            self.take_catalog(&image);
            let wanted = self.wanted(&image);
            self.end_others(&wanted);
            tokio::select! {
                // What is led here is known by its handle a little later.
                () = self.context.metadata.registry.reached(image.next_offset()) => self.start(&wanted),
                changed = images.changed() => if changed.is_err() { return } else { continue },
            }
            if images.changed().await.is_err() {
                return;
            }
        }
    }

    /// The partitions that this node leads.
    fn wanted(&self, image: &ClusterImage) -> BTreeMap<PartitionId, Term> {
        let Some(topic) = image.topic(OFFSETS_TOPIC) else { return BTreeMap::new() };
        (0..)
            .map(PartitionId)
            .zip(&topic.partitions)
            .filter(|(_, partition)| partition.leader == Some(self.context.node_id))
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

    fn lead(&self, number: PartitionId, term: Term) -> Option<Running> {
        let context = &self.context;
        let topic = context.metadata.registry.topic(OFFSETS_TOPIC).ok()?;
        let log = Arc::clone(topic.partitions.get(number.0 as usize)?.as_ref()?);
        if log.key().topic_id != term.0 {
            return None;
        }
        let home = Home {
            node_id: context.node_id,
            endpoint: context.endpoint.clone(),
            metrics: Arc::clone(&context.metrics),
            stall_detector: Arc::clone(&context.stall_detector),
            shutdown: context.shutdown.clone(),
            changes: context.groups.ticker(),
        };
        let over = context.gone.child_token();
        let arbiter = self.shards.get(log.shard)?.clone();
        let handle = Arc::new(CoordinatorHandle::new(log, term.1, home));
        let (loads, until) = (Arc::clone(&self.loads), over.clone());
        let mut life = Lead::new(Arc::clone(context), Arc::clone(&handle), arbiter, loads);
        let led = Arc::clone(&handle);
        actix_rt::spawn(async move { supervise(&mut life, &led.board, until.cancelled()).await });
        Some(Running { term, handle, over })
    }

    fn publish(&self) {
        let led =
            self.running.iter().map(|(number, running)| (*number, Arc::clone(&running.handle)));
        self.context.groups.replace(led.collect::<Led>());
    }

    /// The same for all coordinators, and the same as before unless topics have changed.
    fn take_catalog(&self, image: &ClusterImage) {
        let known = self.context.groups.catalog_now();
        let same = known.topics.len() == image.topic_count()
            && image.topics().zip(&known.topics).all(|(topic, (name, known))| {
                topic.name == *name
                    && topic.id == known.id
                    && topic.partitions.len() == known.partitions as usize
            });
        if same {
            return;
        }
        let topics = image.topics().map(|topic| {
            let described = CatalogTopic {
                id: topic.id,
                partitions: u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX),
                internal: topic.is_internal(),
            };
            (Arc::clone(&topic.name), described)
        });
        self.context.groups.set_catalog(Arc::new(Catalog { topics: topics.collect() }));
    }
}
