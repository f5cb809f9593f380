//! `consume -g`: as a member of a group.
//!
//! Promises: with `--commit after` nothing is committed that is not written out; what is written out is committed
//! before its partition is given up, and at the end. The consumer's positions are what is committed: each batch is
//! printed whole before the next one is asked for, or the position is set back. Only where writing has failed are
//! they ahead: then what was [`Printing::written`] before is committed instead. The end is orderly on a signal:
//! what is printed is committed, and the group is left.

use super::arguments::Consume;
use super::assignment::assignment_line;
use super::membership::Commit;
use super::printing::{Printing, Shared};
use super::sink::Sink;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::output::Format;
use crate::quantity::plural;
use crate::record_format::Printed;
use crate::signals::Stop;
use crate::streams::notice;
use crate::waiting::{Pending, Progress};
use futures::FutureExt;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};
use troupe_client::{
    Client, ClientError, Consumer, ConsumerConfig, FetchedBatch, OffsetAndMetadata, TopicPartition,
};
use troupe_proto::ids::{Offset, PartitionId};

/// How long nothing may come before it is looked whether something else has changed.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Between two commits, which are a write on every in-sync replica each: also where records come with short pauses.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// The same, if nothing has come for a moment.
const IDLE_COMMIT_INTERVAL: Duration = Duration::from_millis(200);
/// For the last commit and for leaving.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

pub async fn run(
    global: &Global,
    client: &Client,
    consume: &Consume,
    group: &str,
    sink: Sink,
    mut stop: Stop,
) -> Result<(), Failure> {
    let what = || format!("cannot consume as a member of group {group}");
    // A topic that is not there would be waited for: who has misspelt it had better know. Others come by --pattern.
    for topic in &consume.topics {
        client.topic_or_create(topic).await.with_context(|| format!("cannot consume {topic}"))?;
    }
    let commit = consume.membership.commit.unwrap_or_default();
    let earliest = consume.from_beginning || consume.until_end;
    let config = ConsumerConfig {
        client_rack: consume.rack.clone(),
        isolation_level: consume.isolation(),
        ..consume.membership.consumer_config(group, earliest)
    };
    let mut consumer = client.consumer(config).with_context(what)?;
    let shared = Shared::new(Printing::new(sink, commit));
    consumer.set_rebalance_listener(shared.clone());
    consumer.set_position_lost_listener(|lost| notice!("note: {lost}"));
    match &consume.membership.pattern {
        Some(pattern) => consumer.subscribe_pattern(pattern).with_context(what)?,
        None => consumer.subscribe(consume.topics.clone()).with_context(what)?,
    }
    let mut run = Run {
        shared,
        commit,
        client: client.clone(),
        group: group.to_owned(),
        left: consume.most(),
        printed: 0,
        progress: Progress::default(),
        committed_at: Instant::now(),
        ends: consume.until_end.then(BTreeMap::new),
        shown: consume.membership.show_assignment.then_some(None),
        json: global.chosen_format().is_some_and(Format::is_json),
    };
    let (printed, named) = (run.progress.clone(), group.to_owned());
    printed.set(1);
    let _watched = global.waiting().until_progress(move || {
        // Odd: it has not been given partitions.
        let (progress, may_idle) = (printed.get(), printed.get() % 2 == 0);
        let what = if may_idle { "records" } else { "partitions" };
        Some(Pending { what: format!("{what} of group {named}"), progress, may_idle })
    });
    let outcome = run.read(&mut consumer, &mut stop).await;
    // A signal is how it ends that has no end; what has one is not done.
    let outcome = outcome.and_then(|done| match stop.signal() {
        Some(signal) if !done && !consume.is_endless() => Err(Failure::interrupted(signal)),
        _ => Ok(()),
    });
    // Whatever ended it, what is written counts.
    let (flushed, written) = {
        let mut printing = run.shared.lock();
        // It is done here, where a failure is told.
        printing.commit = Commit::None;
        (printing.flush(), std::mem::take(&mut printing.written))
    };
    let committed = match (commit, &flushed) {
        (Commit::After, Ok(())) => consumer.commit_sync().await.with_context(what),
        (Commit::After, Err(_)) => consumer.commit_sync_offsets(written).await.with_context(what),
        (Commit::Before | Commit::None, _) => Ok(()),
    };
    let closed = consumer.close(CLOSE_TIMEOUT).await.with_context(what);
    if global.progress() && std::io::stdout().is_terminal() {
        notice!("{}", plural(run.printed, "record"));
    }
    outcome.and(flushed).and(committed).and(closed)
}

struct Run {
    shared: Shared,
    commit: Commit,
    client: Client,
    group: String,
    /// How many records may still be printed.
    left: u64,
    printed: u64,
    /// Twice the printed ones; and one while no partitions are assigned.
    progress: Progress,
    committed_at: Instant,
    /// Where each partition ended when it was assigned. None: it goes on for ever.
    ends: Option<BTreeMap<TopicPartition, Offset>>,
    /// The assignment that was shown last. None: none is shown.
    shown: Option<Option<Vec<TopicPartition>>>,
    json: bool,
}

impl Run {
    /// True if everything that was asked for is printed; false if somebody stops it before.
    async fn read(&mut self, consumer: &mut Consumer, stop: &mut Stop) -> Result<bool, Failure> {
        let what = self.what();
        while self.left > 0 && stop.signal().is_none() {
            let mut next = consumer.next_batch().now_or_never();
            if next.is_none() {
                // Nothing is there at the moment: whoever reads our output shall see what was.
                if self.committed_at.elapsed() >= IDLE_COMMIT_INTERVAL {
                    self.commit_printed(consumer)?;
                } else {
                    self.shared.lock().flush()?;
                }
                if self.at_end(consumer).await.with_context(|| what.clone())? {
                    self.print_uncommitted(consumer).await?;
                    return Ok(true);
                }
                let look =
                    self.uncommitted_waits().map_or(POLL_INTERVAL, |wait| wait.min(POLL_INTERVAL));
                next = tokio::select! {
                    next = consumer.next_batch() => Some(next),
                    () = tokio::time::sleep(look) => None,
                    _ = stop.wait() => None,
                };
            }
            self.show_assignment(consumer).await;
            self.progress.set(2 * self.printed + u64::from(consumer.assignment().is_empty()));
            if let Some(batch) = next {
                let batch = batch.with_context(|| what.clone())?;
                match self.commit {
                    Commit::Before => self.hold_back(consumer, batch).await?,
                    Commit::After | Commit::None => self.take(consumer, &batch)?,
                }
            }
            if self.uncommitted_waits().is_some_and(|wait| wait.is_zero()) {
                self.print_uncommitted(consumer).await?;
            }
            if self.committed_at.elapsed() >= COMMIT_INTERVAL {
                self.commit_printed(consumer)?;
            }
        }
        Ok(self.left == 0)
    }

    fn what(&self) -> String {
        format!("cannot consume as a member of group {}", self.group)
    }

    /// What of the batch is still wanted ends here.
    fn end_of(&self, batch: &FetchedBatch) -> Result<Offset, Failure> {
        if self.left < u64::from(batch.header.record_count) {
            let last = usize::try_from(self.left.saturating_sub(1)).unwrap_or(usize::MAX);
            if let Some(last) = batch.iter().nth(last) {
                return Ok(Offset(last.with_context(|| self.what())?.offset.0 + 1));
            }
        }
        Ok(batch.header.end_offset())
    }

    /// To be committed before it is printed: with others, unless it may be the last.
    async fn hold_back(
        &mut self,
        consumer: &mut Consumer,
        batch: FetchedBatch,
    ) -> Result<(), Failure> {
        let waiting = self.shared.lock().uncommitted.records();
        if waiting + u64::from(batch.header.record_count) < self.left {
            self.shared.lock().uncommitted.push(batch);
            return Ok(());
        }
        self.print_uncommitted(consumer).await?;
        let position = OffsetAndMetadata {
            leader_epoch: Some(batch.header.leader_epoch),
            ..OffsetAndMetadata::new(self.end_of(&batch)?)
        };
        let committed = consumer.commit_sync_offsets([(batch.topic_partition(), position)]).await;
        committed.with_context(|| self.what())?;
        self.take(consumer, &batch)
    }

    /// How long what waits to be committed may still wait; none: nothing does.
    fn uncommitted_waits(&self) -> Option<Duration> {
        let printing = self.shared.lock();
        (!printing.uncommitted.is_empty()).then(|| printing.uncommitted.wait(Instant::now()))
    }

    /// Commits what waits for it, and prints it.
    async fn print_uncommitted(&mut self, consumer: &mut Consumer) -> Result<(), Failure> {
        let (batches, positions) = self.shared.lock().uncommitted.take(Instant::now());
        if batches.is_empty() {
            return Ok(());
        }
        consumer.commit_sync_offsets(positions).await.with_context(|| self.what())?;
        batches.iter().try_for_each(|batch| self.take(consumer, batch))
    }

    fn take(&mut self, consumer: &mut Consumer, batch: &FetchedBatch) -> Result<(), Failure> {
        let end = self.end_of(batch)?;
        let at = batch.topic_partition();
        let mut next = batch.position();
        let printed = self.print(batch, end, &mut next);
        if next < batch.header.end_offset() {
            // The rest of the batch is not printed: it shall not be committed as if it were.
            consumer.seek(&at, next).with_context(|| self.what())?;
        }
        printed
    }

    /// Prints records up to `end`; `next` is behind the last of them.
    fn print(
        &mut self,
        batch: &FetchedBatch,
        end: Offset,
        next: &mut Offset,
    ) -> Result<(), Failure> {
        let shared = self.shared.clone();
        let mut printing = shared.lock();
        printing.begin(batch);
        let PartitionId(partition) = batch.partition;
        for record in batch.iter() {
            let record = record.with_context(|| self.what())?;
            if record.offset >= end {
                break;
            }
            let count = self.printed + 1;
            let (topic, header, offset) = (batch.topic(), &batch.header, record.offset);
            let out = printing.sink.write(&Printed { topic, partition, header, record, count })?;
            (self.printed, self.left) = (count, self.left - 1);
            *next = Offset(offset.0 + 1);
            printing.printed(*next);
            if out {
                printing.settle();
            }
        }
        *next = end;
        printing.printed(end);
        Ok(())
    }

    /// In the background; if that fails, how far it is by then is committed the next time.
    fn commit_printed(&mut self, consumer: &mut Consumer) -> Result<(), Failure> {
        self.committed_at = Instant::now();
        {
            let mut printing = self.shared.lock();
            printing.flush()?;
            if self.commit != Commit::After || !std::mem::take(&mut printing.is_due) {
                return Ok(());
            }
        }
        let shared = self.shared.clone();
        let done = move |committed: Result<(), ClientError>| {
            shared.lock().is_due |= committed.is_err();
        };
        consumer.commit_async(done).with_context(|| self.what())
    }

    /// Whether everything that is assigned has been read up to where it ended when it was assigned.
    async fn at_end(&mut self, consumer: &mut Consumer) -> Result<bool, ClientError> {
        let Some(ends) = &mut self.ends else { return Ok(false) };
        let assigned = consumer.assignment();
        if assigned.is_empty() {
            return Ok(false);
        }
        let new: Vec<TopicPartition> =
            assigned.iter().filter(|at| !ends.contains_key(at)).cloned().collect();
        if !new.is_empty() {
            ends.extend(consumer.end_offsets(&new).await?);
        }
        for at in &assigned {
            if consumer.position(at).await? < ends[at] {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Tells the assignment if it is another one.
    async fn show_assignment(&mut self, consumer: &Consumer) {
        let is_taken = self.shared.lock().take_given_up();
        let Some(shown) = &mut self.shown else { return };
        let assigned = consumer.assignment();
        // What was lost may have come back: who has read that it was lost shall read that too.
        if is_taken {
            *shown = None;
        }
        let Some(member_id) = consumer.member_id() else { return };
        if shown.as_ref() == Some(&assigned) {
            return;
        }
        let described = self.client.admin().describe_group(&self.group).await.ok();
        let members = described.iter().flat_map(|group| &group.members);
        let epoch = members
            .filter(|member| member.member_id == member_id)
            .map(|member| member.member_epoch)
            .next();
        notice!("{}", assignment_line(&member_id, epoch, &assigned, self.json));
        *shown = Some(assigned);
    }
}
