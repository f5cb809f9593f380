//! Transactions that are open at partitions while no coordinator knows of them.
//!
//! Partitions are looked at first, then coordinators, then partitions once more: what is open at both looks, and known
//! to nobody between, is not merely about to begin or to end.

use super::coordination::Transactions;
use crate::clock::wall_clock;
use crate::forward::{Call, Target};
use crate::operations::topic_lookup::{target_of, unknown_topic};
use crate::txn::{Described, Filter, ListedTxn, abort_at, list_here, list_there, producers_at};
use futures::{StreamExt, stream};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::time::Instant;
use troupe_machines::cluster::{ClusterImage, check_topic_name};
use troupe_machines::replica::ProducerState;
use troupe_machines::txn::{OpenAtPartition, Producer};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{Offset, PartitionId, PartitionKey, ProducerId};
use troupe_proto::log::v1::TopicPartition;

/// Partitions, or coordinators, that are asked at the same time.
const TOGETHER: usize = 64;

/// Where to look.
pub struct HangingQuery {
    /// `None`: everywhere.
    pub topic: Option<String>,
    /// `None`: all of them.
    pub partition: Option<i32>,
    /// Only what has been open for longer.
    pub open_for_ms: u64,
}

/// One that nobody ends.
pub struct Hanging {
    pub at: Target,
    pub open: ProducerState,
}

/// What was found, and where nobody could be asked.
#[derive(Default)]
pub struct LookedAt {
    pub hanging: Vec<Hanging>,
    pub unasked: Vec<(Target, Error)>,
}

impl Transactions {
    /// # Errors
    /// `UNKNOWN_TOPIC`, `INVALID_TOPIC`, `UNKNOWN_PARTITION`; those of [`Transactions::list`].
    pub async fn find_hanging(
        &self,
        query: HangingQuery,
        deadline: Instant,
    ) -> Result<LookedAt, Error> {
        let targets = self.targets(&query).await?;
        let mut looked = self.look(targets, deadline).await;
        let now = wall_clock();
        looked.hanging.retain(|it| it.open.last_append.plus(query.open_for_ms) < now);
        self.leave_unknown(&mut looked.hanging, deadline).await?;
        let places: BTreeMap<PartitionKey, Target> =
            looked.hanging.iter().map(|it| (it.at.key, it.at.clone())).collect();
        let again = self.look(places.into_values().collect(), deadline).await;
        let still = |it: &Hanging| {
            let same = |other: &Hanging| other.at.key == it.at.key && other.open == it.open;
            again.hanging.iter().any(same)
        };
        looked.hanging.retain(still);
        looked.unasked.extend(again.unasked);
        Ok(looked)
    }

    /// Ends the transaction that is open from there on, and hangs.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC`, `UNKNOWN_PARTITION`; `INVALID_TRANSACTION_STATE`: none is, or its coordinator knows of it.
    pub async fn abort_hanging(
        &self,
        topic: String,
        partition: i32,
        start: Option<Offset>,
        deadline: Instant,
    ) -> Result<(), Error> {
        check_topic_name(&topic)?;
        let named = TopicPartition { topic, partition, topic_id: Default::default() };
        let target = target_of(&self.leaders.metadata, &named).await?;
        let known = producers_at(&self.leaders, &target, deadline).await?;
        let is_meant = |it: &ProducerState| start.is_some() && it.transaction_first_offset == start;
        let refuse = |message| Error::new(ErrorCode::InvalidTransactionState, message);
        let Some(open) = known.into_iter().find(is_meant) else {
            return Err(refuse("no transaction is open from that offset on"));
        };
        let mut hanging = vec![Hanging { at: target.clone(), open }];
        self.leave_unknown(&mut hanging, deadline).await?;
        if hanging.is_empty() {
            return Err(refuse(
                "the transaction's coordinator knows of it and will end it; to have it aborted now, abort it by its \
                 transactional id",
            ));
        }
        abort_at(&self.leaders, &self.receiver, &target, &open, deadline).await
    }

    async fn targets(&self, query: &HangingQuery) -> Result<Vec<Target>, Error> {
        let metadata = &self.leaders.metadata;
        let all_of = |image: &ClusterImage, name: &str| {
            let topic = image.topic(name);
            let targets = topic.map(|topic| {
                let numbers = (0..).map(PartitionId).take(topic.partitions.len());
                let target =
                    |number| Target { topic: Arc::clone(&topic.name), key: topic.key(number) };
                numbers.map(target).collect::<Vec<_>>()
            });
            targets.unwrap_or_default()
        };
        let Some(topic) = &query.topic else {
            let image = metadata.now();
            let names: Vec<_> = image.topics().filter(|topic| !topic.is_internal()).collect();
            return Ok(names.iter().flat_map(|topic| all_of(&image, &topic.name)).collect());
        };
        check_topic_name(topic)?;
        if let Some(partition) = query.partition {
            let (topic, topic_id) = (topic.clone(), Default::default());
            let named = TopicPartition { topic, partition, topic_id };
            return Ok(vec![target_of(metadata, &named).await?]);
        }
        match all_of(&metadata.now(), topic) {
            targets if targets.is_empty() => Err(unknown_topic(topic)),
            targets => Ok(targets),
        }
    }

    /// All that is open there.
    async fn look(&self, targets: Vec<Target>, deadline: Instant) -> LookedAt {
        let asked = targets.into_iter().map(|target| async move {
            let known = producers_at(&self.leaders, &target, deadline).await;
            (target, known)
        });
        let mut answers = stream::iter(asked).buffered(TOGETHER);
        let mut looked = LookedAt::default();
        while let Some((at, known)) = answers.next().await {
            match known {
                Ok(known) => {
                    let open = known.into_iter().filter(|it| it.transaction_first_offset.is_some());
                    looked.hanging.extend(open.map(|open| Hanging { at: at.clone(), open }));
                }
                Err(error) => looked.unasked.push((at, error)),
            }
        }
        looked
    }

    /// Takes out what a coordinator knows of.
    async fn leave_unknown(&self, open: &mut Vec<Hanging>, deadline: Instant) -> Result<(), Error> {
        if open.is_empty() {
            return Ok(());
        }
        let ids: BTreeSet<ProducerId> = open.iter().map(|it| it.open.id).collect();
        let known = self.known(&ids, deadline).await?;
        open.retain(|it| {
            let producer = Producer { id: it.open.id, epoch: it.open.epoch };
            let at = OpenAtPartition { producer, partition: it.at.key };
            !known.iter().any(|described| described.known.answers_for(&at))
        });
        Ok(())
    }

    /// What coordinators know of these producers.
    async fn known(
        &self,
        ids: &BTreeSet<ProducerId>,
        deadline: Instant,
    ) -> Result<Vec<Described>, Error> {
        let filter = &Filter::default();
        let here = |handle| list_here(handle, filter);
        let there = |leader, until| list_there(&self.route, leader, until, filter);
        let listed = self.route.ask_all(deadline, here, there).await?;
        let theirs = |one: &ListedTxn| ids.contains(&one.producer.id);
        let described = listed.items.into_values().filter(theirs).map(|one| async move {
            self.route.describe(&one.transactional_id, Call::until(deadline)).await
        });
        let mut answers = stream::iter(described).buffered(TOGETHER);
        let mut known = Vec::new();
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(described) => known.push(described),
                Err(error) if error.code == ErrorCode::TransactionalIdNotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(known)
    }
}
