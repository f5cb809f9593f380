//! Reads everything back: whether each acknowledged record is there once and where it was said to be, and from
//! which offset on each leader wrote.

use super::load::{NUMBER_BYTES, Sent};
use std::collections::BTreeMap;
use troupe_client::{Client, ClientError, ReaderConfig};

/// What one partition holds.
#[derive(Debug, Default)]
pub struct Stored {
    /// By offset, the number of the record there.
    pub records: BTreeMap<u64, u64>,
    /// The first offset that was written in each leader epoch.
    pub epochs: BTreeMap<u32, u64>,
}

pub async fn read_back(
    client: &Client,
    topic: &str,
    partitions: usize,
) -> Result<Vec<Stored>, ClientError> {
    let mut stored: Vec<Stored> = (0..partitions).map(|_| Stored::default()).collect();
    let config = ReaderConfig { until_end: true, ..ReaderConfig::default() };
    let mut reader = client.reader(topic, config).await?;
    while let Some(batch) = reader.next_batch().await {
        let batch = batch?;
        let Some(stored) = stored.get_mut(batch.partition.0 as usize) else { continue };
        let first = stored.epochs.entry(batch.header.leader_epoch.0);
        first.or_insert(batch.header.base_offset.0);
        for record in batch.iter() {
            let record = record?;
            // u64::MAX was never sent, and counts as foreign.
            stored.records.insert(record.offset.0, number(record.value).unwrap_or(u64::MAX));
        }
    }
    Ok(stored)
}

fn number(value: Option<&[u8]>) -> Option<u64> {
    value?.first_chunk::<NUMBER_BYTES>().map(|bytes| u64::from_le_bytes(*bytes))
}

/// What is wrong. All zero: nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Anomalies {
    /// Acknowledged, and not at the offset that was told.
    pub lost: u64,
    /// There more than once.
    pub duplicated: u64,
    /// Stored after a record that was sent later.
    pub reordered: u64,
    /// Never sent.
    pub foreign: u64,
}

impl Anomalies {
    pub fn add(&mut self, other: Anomalies) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.foreign += other.foreign;
    }
}

/// Compares what was acknowledged with what is there. A record whose outcome is unknown may be there or not.
pub fn compare(sent: &Sent, stored: &Stored) -> Anomalies {
    let mut anomalies = Anomalies::default();
    for ack in &sent.acks {
        anomalies.lost += u64::from(stored.records.get(&ack.offset) != Some(&ack.number));
    }
    let mut seen = vec![false; usize::try_from(sent.end).unwrap_or(usize::MAX)];
    let mut highest = None;
    for &number in stored.records.values() {
        let Some(seen) = usize::try_from(number).ok().and_then(|number| seen.get_mut(number))
        else {
            anomalies.foreign += 1;
            continue;
        };
        if std::mem::replace(seen, true) {
            anomalies.duplicated += 1;
        } else {
            anomalies.reordered += u64::from(highest > Some(number));
        }
        highest = highest.max(Some(number));
    }
    anomalies
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::bench::failover::load::Ack;
    use std::time::Instant;

    fn sent(numbers: u64) -> Sent {
        let ack = |number| Ack { at: Instant::now(), number, offset: number };
        Sent { end: numbers, acks: (0..numbers).map(ack).collect(), ..Sent::default() }
    }

    fn stored(numbers: &[u64]) -> Stored {
        Stored { records: (0..).zip(numbers.iter().copied()).collect(), ..Stored::default() }
    }

    #[test]
    fn every_kind_of_wrong_is_found() {
        assert_eq!(compare(&sent(3), &stored(&[0, 1, 2])), Anomalies::default());
        assert_eq!(compare(&sent(3), &stored(&[0, 1])).lost, 1);
        assert_eq!(compare(&sent(3), &stored(&[0, 1, 2, 2])).duplicated, 1);
        assert_eq!(compare(&sent(3), &stored(&[0, 2, 1])).reordered, 1);
        assert_eq!(compare(&sent(3), &stored(&[0, 1, 2, 9])).foreign, 1);
    }
}
