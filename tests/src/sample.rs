//! Records with everything that a record may have, from a seed.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use troupe_proto::log::v1 as log;
use troupe_proto::v1::{Header, Record};

/// The seed of this run: `TROUPE_TEST_SEED`, or drawn. Print it: a failure is found again with it.
pub fn seed() -> u64 {
    match std::env::var("TROUPE_TEST_SEED") {
        Ok(text) => text.parse().expect("TROUPE_TEST_SEED is a number"),
        Err(_) => rand::random_range(0..1_000_000),
    }
}

/// A record as an application sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    pub timestamp_ms: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Nulls and empties, headers that come twice, values up to `max_value` bytes.
pub fn samples(seed: u64, count: usize, max_value: usize) -> Vec<Sample> {
    const NAMES: [&str; 4] = ["", "trace", "trace", "ключ"];
    let mut chance = StdRng::seed_from_u64(seed);
    let some = |chance: &mut StdRng, max: usize| match chance.random_range(0..4) {
        0 => None,
        1 => Some(Vec::new()),
        _ => {
            let mut bytes = vec![0; chance.random_range(1..=max)];
            chance.fill(&mut bytes[..]);
            Some(bytes)
        }
    };
    (0..count)
        .map(|n| Sample {
            timestamp_ms: 1_700_000_000_000 + n as i64 * 3,
            key: some(&mut chance, 40),
            value: some(&mut chance, max_value),
            headers: (0..chance.random_range(0..4))
                .map(|_| {
                    let name = NAMES[chance.random_range(0..NAMES.len())];
                    (name.to_owned(), some(&mut chance, 20))
                })
                .collect(),
        })
        .collect()
}

impl Sample {
    /// A record with a value alone.
    pub fn of(value: impl Into<Vec<u8>>, timestamp_ms: i64) -> Sample {
        Sample { timestamp_ms, key: None, value: Some(value.into()), headers: Vec::new() }
    }

    /// For the thin API, into `partition`.
    pub fn to_record(&self, partition: i32) -> Record {
        Record {
            key: self.key.clone().map(Into::into),
            value: self.value.clone().map(Into::into),
            headers: self
                .headers
                .iter()
                .map(|(key, value)| Header {
                    key: key.clone(),
                    value: value.clone().map(Into::into),
                })
                .collect(),
            timestamp_ms: Some(self.timestamp_ms),
            partition: Some(partition),
        }
    }

    /// From the thin API.
    pub fn from_record(record: &Record) -> Sample {
        let vec = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map(|bytes| bytes.to_vec());
        Sample {
            timestamp_ms: record.timestamp_ms(),
            key: vec(&record.key),
            value: vec(&record.value),
            headers: record
                .headers
                .iter()
                .map(|header| (header.key.clone(), vec(&header.value)))
                .collect(),
        }
    }

    /// For a batch whose base timestamp is `base`, at `delta` behind its base offset.
    pub fn to_log_record(&self, base: i64, delta: u32) -> log::Record {
        log::Record {
            offset_delta: delta,
            timestamp_delta: self.timestamp_ms - base,
            key: self.key.clone().map(Into::into),
            value: self.value.clone().map(Into::into),
            headers: self
                .headers
                .iter()
                .map(|(key, value)| log::Header {
                    key: key.clone(),
                    value: value.clone().map(Into::into),
                })
                .collect(),
        }
    }

    /// From a batch whose base timestamp is `base`.
    pub fn from_log_record(record: &log::Record, base: i64) -> Sample {
        let vec = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map(|bytes| bytes.to_vec());
        Sample {
            timestamp_ms: base + record.timestamp_delta,
            key: vec(&record.key),
            value: vec(&record.value),
            headers: record
                .headers
                .iter()
                .map(|header| (header.key.clone(), vec(&header.value)))
                .collect(),
        }
    }
}
