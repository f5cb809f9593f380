//! The batches of a call, over all its topics; and their answers, in the order of the request.

use super::begun::Begun;
use crate::forward::{Allotted, Caller, Leaders, PartitionSender};
use crate::operations::publish::{
    BatchedRecords, Batcher, Record, RecordResult, Remains, Submitted, answered, under_way,
    with_indexes,
};
use crate::operations::subscriptions::{Commit, Coordination};
use crate::registry::TopicEntry;
use futures::future::{join_all, join3};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Place;
use std::ops::Range;
use std::sync::Arc;
use troupe_machines::replica::Acks;
use troupe_proto::batch::ProducerStamp;
use troupe_proto::error::{Error, ErrorCode, RecordError};
use troupe_proto::ids::{PartitionKey, Sequence};
use troupe_proto::log::v1::TopicPartition;

pub struct Prepared {
    topics: Vec<Topic>,
    /// Of each of the request's topics: which one it is here, and its records there.
    parts: Vec<(usize, Range<usize>)>,
    /// Offsets of a group.
    pub commit: Option<Commit>,
}

/// All records to one topic.
struct Topic {
    batches: Vec<BatchedRecords>,
    count: usize,
    /// Of each record, its number in the request, counted over all topics.
    numbers: Vec<u32>,
}

impl Prepared {
    /// `entries`: the request's topics, in their order.
    ///
    /// # Errors
    /// Why the first of those records that cannot be appended cannot, and which they are, counted over all topics.
    pub fn new<R: Record>(
        entries: &[Arc<TopicEntry>],
        request: &[(String, Vec<R>)],
    ) -> Result<Self, Error> {
        let (mut batchers, mut at_of, mut parts) = (Vec::new(), BTreeMap::new(), Vec::new());
        let (mut refusals, mut first) = (Vec::new(), 0_u32);
        for (entry, (_, records)) in entries.iter().zip(request) {
            let at = match at_of.entry(entry.id) {
                Place::Occupied(at) => *at.get(),
                Place::Vacant(place) => {
                    batchers.push((Batcher::new(entry), Vec::new()));
                    *place.insert(batchers.len() - 1)
                }
            };
            let (batcher, numbers) = &mut batchers[at];
            let before = batcher.count();
            if let Err(error) = batcher.add(records) {
                refusals.push(with_indexes(error, |index| first.checked_add(index)));
            }
            parts.push((at, before..batcher.count()));
            let next = first.saturating_add(u32::try_from(records.len()).unwrap_or(u32::MAX));
            numbers.extend(first..next);
            first = next;
        }
        if let Some(error) = joined(refusals) {
            return Err(error);
        }
        let topic = |(batcher, numbers): (Batcher<'_>, Vec<u32>)| {
            let count = batcher.count();
            Ok::<_, Error>(Topic { batches: batcher.finish()?, count, numbers })
        };
        let topics = batchers.into_iter().map(topic).collect::<Result<_, _>>()?;
        Ok(Self { topics, parts, commit: None })
    }

    /// What is written to, each once: partitions, and the group.
    pub fn places(&self) -> (Vec<TopicPartition>, Vec<String>) {
        let batches = self.topics.iter().flat_map(|topic| &topic.batches);
        let named: BTreeMap<PartitionKey, TopicPartition> =
            batches.map(|batched| (batched.target.key, batched.target.named())).collect();
        let group = self.commit.as_ref().map(|commit| commit.group.clone());
        (named.into_values().collect(), group.into_iter().collect())
    }

    /// Sends all there is, once. The results, in the order of the request.
    ///
    /// # Errors
    /// What failed first.
    pub async fn send(
        &mut self,
        (leaders, groups): (&Arc<Leaders>, &Coordination),
        begun: &Begun,
        caller: &Caller,
        time: Allotted,
    ) -> Result<Vec<Vec<RecordResult>>, Error> {
        let mut senders: BTreeMap<PartitionKey, (PartitionSender, Sequence)> = BTreeMap::new();
        let mut submitted = Vec::with_capacity(self.topics.len());
        for topic in &mut self.topics {
            let mut pending = Vec::with_capacity(topic.batches.len());
            for mut batched in topic.batches.drain(..) {
                let target = batched.target.clone();
                let (sender, sequence) = senders.entry(target.key).or_insert_with(|| {
                    let (leaders, caller) = (Arc::clone(leaders), caller.clone());
                    let sender = PartitionSender::new(leaders, target, Acks::All, caller);
                    (sender.in_transaction(Arc::clone(&begun.id)), Sequence(0))
                });
                let (id, epoch) = (begun.producer.id, begun.producer.epoch);
                let stamp = ProducerStamp { id, epoch, base_sequence: *sequence };
                batched.batch.join_transaction(stamp);
                *sequence = sequence.plus(u32::try_from(batched.records.len()).unwrap_or(0));
                let (entry, waiting) = under_way(batched, time, None);
                sender.push(entry);
                pending.push(waiting);
            }
            submitted.push(answered(Submitted { count: topic.count, pending }));
        }
        let delivered = join_all(senders.into_values().map(|(sender, _)| sender.run()));
        let commit = self.commit.as_ref();
        let committed = async {
            let Some(commit) = commit else { return Ok(()) };
            let by = (&*begun.id, begun.producer);
            let committed = groups.commit_in_transaction(commit, by, time.deadline).await;
            committed.inspect_err(|error| caller.halt(error))
        };
        let (_, mut settled, committed) = join3(delivered, join_all(submitted), committed).await;
        let failures = settled.iter().zip(&self.topics).filter_map(|(settled, topic)| {
            let mut remains = Remains::default();
            remains.add(settled, 0);
            let number = |index: u32| topic.numbers.get(index as usize).copied();
            remains.cause().map(|cause| with_indexes(cause.clone(), number))
        });
        let failures: Vec<Error> = committed.err().into_iter().chain(failures).collect();
        if let Some(first) = failures.first() {
            // What was not sent because of it says less.
            let cause = caller.cause().map_or(first.code, |cause| cause.code);
            let told = failures.iter().find(|failure| failure.code == cause);
            return Err(told.unwrap_or(first).clone());
        }
        let parts = self.parts.iter().map(|(at, records)| {
            let missing = || Error::new(ErrorCode::Internal, "a record has no result");
            settled[*at].results_of(records.clone()).ok_or_else(missing)
        });
        parts.collect()
    }
}

/// The first refusal, naming the records of all.
fn joined(refusals: Vec<Error>) -> Option<Error> {
    let records: Vec<RecordError> =
        refusals.iter().flat_map(|error| error.records()).cloned().collect();
    let count = refusals.iter().filter_map(Error::record_count).sum();
    refusals.into_iter().next().map(|first| first.of_records(records, count))
}
