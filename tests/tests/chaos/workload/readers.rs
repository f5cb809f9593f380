//! Readers, and what they note.

use super::{Histories, Place};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use troupe_client::{Client, Partitions, Reader, ReaderConfig, Start};
use troupe_proto::ids::{Offset, PartitionId};
use troupe_tests::{PATIENCE, Stored};

/// One reader of a topic.
pub struct Reading {
    pub client: Client,
    pub topic: String,
    /// After so many records it is closed, and another begins a little before that place.
    pub returns: Option<usize>,
    pub histories: Histories,
    pub ends: watch::Receiver<Option<BTreeMap<Place, u64>>>,
    /// By partition, the offset that has to come next.
    pub next: BTreeMap<PartitionId, u64>,
    /// Since when it has known where the end is.
    pub told: Option<Instant>,
    pub wrong: Vec<String>,
}

impl Reading {
    /// Until the end is known and reached; what it met that it must not.
    pub async fn run(mut self) -> Vec<String> {
        /// It hears of the end in time.
        const GLANCE: Duration = Duration::from_millis(200);
        let mut reader = self.open().await;
        let mut read = 0;
        while !self.is_at_end() {
            if self.returns.is_some_and(|most| read >= most) {
                reader = self.come_back().await;
                read = 0;
            }
            let Ok(next) = timeout(GLANCE, reader.next_batch()).await else {
                if self.gives_up() {
                    break;
                }
                continue;
            };
            match next {
                Some(Ok(batch)) => {
                    for record in batch.records() {
                        let record = record.unwrap();
                        read += 1;
                        self.note(record.partition, record.offset.0, &record.value.unwrap());
                    }
                }
                Some(Err(error)) => {
                    // It mends what can be mended by itself.
                    self.wrong.push(format!("{}: a reader ended: {error}", self.topic));
                    reader = self.open().await;
                }
                None => {
                    self.wrong.push(format!("{}: a reader of everything has an end", self.topic));
                    return self.wrong;
                }
            }
        }
        self.wrong
    }

    /// In the midst of a fault nobody may answer.
    async fn open(&self) -> Reader {
        const AGAIN: Duration = Duration::from_millis(50);
        let start = |(partition, next): (&PartitionId, &u64)| (*partition, Offset(*next));
        let start = Start::Each(self.next.iter().map(start).collect());
        let config = ReaderConfig { start, ..ReaderConfig::default() };
        let began = Instant::now();
        loop {
            match self.client.reader(&self.topic, config.clone()).await {
                Ok(reader) => return reader,
                Err(error) => {
                    assert!(began.elapsed() < PATIENCE, "a reader does not open: {error}")
                }
            }
            sleep(AGAIN).await;
        }
    }

    async fn come_back(&mut self) -> Reader {
        const BACK: u64 = 100;
        self.next.values_mut().for_each(|next| *next = next.saturating_sub(BACK));
        self.open().await
    }

    fn note(&mut self, partition: PartitionId, offset: u64, value: &[u8]) {
        let expected = self.next.insert(partition, offset + 1).unwrap_or(0);
        if offset != expected {
            let topic = &self.topic;
            self.wrong.push(format!("{topic}-{partition}: offset {offset} came for {expected}"));
        }
        let place = (self.topic.clone(), partition.0);
        self.histories[&place].lock().unwrap().saw(offset, value.to_vec());
    }

    /// The end is there, everything is whole, and it does not come.
    fn gives_up(&mut self) -> bool {
        let Some(missing) = self.missing() else { return false };
        if self.told.get_or_insert_with(Instant::now).elapsed() < PATIENCE {
            return false;
        }
        self.wrong.extend(missing);
        true
    }

    fn is_at_end(&self) -> bool {
        self.missing().is_some_and(|missing| missing.is_empty())
    }

    /// Partitions whose end is known and was not reached.
    fn missing(&self) -> Option<Vec<String>> {
        let ends = self.ends.borrow();
        let own = ends.as_ref()?.iter().filter(|((topic, _), _)| *topic == self.topic);
        let missing = own.filter_map(|((topic, partition), end)| {
            let next = self.next.get(&PartitionId(*partition)).copied().unwrap_or(0);
            (next < *end).then(|| format!("{topic}-{partition}: a reader is at {next} of {end}"))
        });
        Some(missing.collect())
    }
}

/// Everything in a partition.
pub async fn read_whole(client: &Client, topic: &str, partition: u32) -> Vec<Stored> {
    let config = ReaderConfig {
        partitions: Partitions::Only(vec![PartitionId(partition)]),
        until_end: true,
        ..ReaderConfig::default()
    };
    let mut reader = client.reader(topic, config).await.unwrap();
    let mut stored = Vec::new();
    while let Some(batch) = timeout(PATIENCE, reader.next_batch()).await.unwrap() {
        let records = batch.unwrap().records().map(Result::unwrap);
        stored.extend(records.map(|one| (one.offset.0, one.value.unwrap().to_vec())));
    }
    stored
}
