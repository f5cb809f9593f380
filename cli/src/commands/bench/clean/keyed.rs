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

/// Keys are written in turn, round by round, to one partition: where a record lies says which one it is.
pub struct Keyed {
    keys: u64,
    times: u64,
    size: usize,
}

/// What was found in the log.
pub struct Left {
    pub records: u64,
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
        let what = || format!("cannot produce to {topic}");
        let producer = client.producer(ProducerConfig::default()).await.with_context(what)?;
        let handle = producer.topic(topic).await.with_context(what)?;
        let mut value = vec![b'.'; self.size];
        for number in 0..self.keys * self.times {
            value[..NUMBERS].copy_from_slice(format!("{number:>NUMBERS$}").as_bytes());
            let key = (number % self.keys).to_string();
            let record =
                Record { key: Some(key.as_bytes()), value: Some(&value), ..Record::default() };
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

    /// Reads the whole log.
    pub async fn check(&self, client: &Client, topic: &str) -> Result<Left, Failure> {
        let what = || format!("cannot read {topic} as it should be");
        let wrong = |cause: String| Err(Failure::new(Exit::Failed, what(), cause));
        let config = ReaderConfig { until_end: true, ..ReaderConfig::default() };
        let mut reader = client.reader(topic, config).await.with_context(what)?;
        let (mut records, mut last_values) = (0, 0);
        while let Some(batch) = reader.next_batch().await {
            for record in batch.with_context(what)?.iter() {
                let record = record.with_context(what)?;
                let offset = record.offset.0;
                let number =
                    record.value.and_then(|value| value.get(..NUMBERS)).map(str::from_utf8);
                let number = number.and_then(|text| text.ok()?.trim().parse::<u64>().ok());
                if number != Some(offset) {
                    return wrong(format!("at offset {offset} stands record {number:?}"));
                }
                records += 1;
                last_values += u64::from(offset >= self.keys * (self.times - 1));
            }
        }
        if last_values != self.keys {
            return wrong(format!("{last_values} of {} keys have their last value", self.keys));
        }
        Ok(Left { records })
    }
}
