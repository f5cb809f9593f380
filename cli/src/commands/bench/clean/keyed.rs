//! A log in which every key was written so many times, and whether the last value of each is still where it was.

use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::producer::send;
use crate::quantity::grouped;
use std::time::Duration;
use troupe_client::{Client, ProducerConfig, ReaderConfig, Record};

const CLOSE_TIMEOUT: Duration = Duration::from_secs(30);
/// Number of the record, and of the key, in the value.
const NUMBERS: usize = 24;
/// One key of so many is deleted at the end.
const DELETED_OF: u64 = 10;

/// Keys are written in turn, round by round, to one partition: where a record lies says which one it is.
pub struct Keyed {
    keys: u64,
    times: u64,
    size: usize,
}

/// What was found in the log.
#[derive(Clone, Copy, Debug, Default)]
pub struct Left {
    pub records: u64,
    pub tombstones: u64,
    /// Last values of keys, and those of them that belong to keys that were deleted.
    last_values: u64,
    deleted_values: u64,
}

impl Keyed {
    pub fn new(keys: u64, times: u64, size: u64) -> Result<Keyed, Failure> {
        let size = usize::try_from(size).map_err(Failure::usage)?;
        if size < NUMBERS {
            return Err(Failure::usage(format!("--size has to be {NUMBERS} at least")));
        }
        Ok(Keyed { keys, times, size })
    }

    pub async fn write(&self, client: &Client, topic: &str) -> Result<(), Failure> {
        let mut value = vec![b'.'; self.size];
        let numbers = 0..self.keys * self.times;
        self.send(client, topic, numbers, |number| {
            value[..NUMBERS].copy_from_slice(format!("{number:>NUMBERS$}").as_bytes());
            Some(value.clone())
        })
        .await
    }

    /// A tombstone for every tenth key. Returns how many.
    pub async fn delete_some(&self, client: &Client, topic: &str) -> Result<u64, Failure> {
        let deleted = (0..self.keys).step_by(DELETED_OF as usize);
        let count = self.keys.div_ceil(DELETED_OF);
        self.send(client, topic, deleted, |_| None).await.map(|()| count)
    }

    async fn send(
        &self,
        client: &Client,
        topic: &str,
        numbers: impl Iterator<Item = u64>,
        mut value: impl FnMut(u64) -> Option<Vec<u8>>,
    ) -> Result<(), Failure> {
        let what = || format!("cannot produce to {topic}");
        let producer = client.producer(ProducerConfig::default()).await.with_context(what)?;
        let handle = producer.topic(topic).await.with_context(what)?;
        for number in numbers {
            let (key, value) = ((number % self.keys).to_string(), value(number));
            let record =
                Record { key: Some(key.as_bytes()), value: value.as_deref(), ..Record::default() };
            drop(send(&handle, record).await.with_context(what)?);
        }
        producer.flush().await.with_context(what)?;
        let failed = producer.metrics().records_failed;
        if failed > 0 {
            let cause = format!("{} records were not delivered", grouped(failed));
            return Err(Failure::new(Exit::Failed, what(), cause));
        }
        producer.close(CLOSE_TIMEOUT).await.with_context(what)
    }

    /// Reads the whole log: each record with a value has to lie where it was written.
    pub async fn read(&self, client: &Client, topic: &str) -> Result<Left, Failure> {
        let what = || format!("cannot read {topic} as it should be");
        let config = ReaderConfig { until_end: true, ..ReaderConfig::default() };
        let mut reader = client.reader(topic, config).await.with_context(what)?;
        let mut left = Left::default();
        while let Some(batch) = reader.next_batch().await {
            for record in batch.with_context(what)?.iter() {
                let record = record.with_context(what)?;
                let offset = record.offset.0;
                left.records += 1;
                let Some(value) = record.value else {
                    left.tombstones += 1;
                    continue;
                };
                let number = value.get(..NUMBERS).and_then(|text| str::from_utf8(text).ok());
                let number = number.and_then(|text| text.trim().parse::<u64>().ok());
                if number != Some(offset) {
                    let cause = format!("at offset {offset} stands record {number:?}");
                    return Err(Failure::new(Exit::Failed, what(), cause));
                }
                if offset >= self.keys * (self.times - 1) {
                    left.last_values += 1;
                    left.deleted_values +=
                        u64::from((offset % self.keys).is_multiple_of(DELETED_OF));
                }
            }
        }
        Ok(left)
    }

    /// The same, and every key has its last value.
    pub async fn check(&self, client: &Client, topic: &str) -> Result<Left, Failure> {
        let left = self.read(client, topic).await?;
        self.expect(topic, &left, self.keys)?;
        Ok(left)
    }

    /// The same, but for the keys that were deleted.
    pub fn check_deleted(&self, topic: &str, left: &Left) -> Result<(), Failure> {
        self.expect(topic, left, self.keys - self.keys.div_ceil(DELETED_OF))
    }

    fn expect(&self, topic: &str, left: &Left, keys: u64) -> Result<(), Failure> {
        let found = left.last_values;
        if found == keys && (keys == self.keys || left.deleted_values == 0) {
            return Ok(());
        }
        let what = format!("cannot read {topic} as it should be");
        let cause = format!(
            "{found} of {keys} keys have their last value, {} of them were deleted",
            left.deleted_values
        );
        Err(Failure::new(Exit::Failed, what, cause))
    }
}
