//! What is counted topic by topic. The exporter keeps a series for ever once it was counted; these go with their topic.

use super::help;
use super::produce_times::ProduceTimes;
use super::stages::Stages;
use crate::clock::now;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use troupe_machines::time::Time;
use troupe_proto::batch::Batches;
use troupe_proto::error::{Error, ErrorCode};

/// The topics that somebody counts for.
#[derive(Default)]
pub(super) struct ByTopic(Arc<Topics>);

#[derive(Default)]
struct Topics(Mutex<BTreeMap<Arc<str>, Weak<TopicMetrics>>>);

impl Topics {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Weak<TopicMetrics>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When an append was last refused because the disk was full.
#[derive(Clone, Default)]
pub struct DiskFull(Arc<AtomicU64>);

impl DiskFull {
    fn note(&self) {
        self.0.store(now().0, Ordering::Relaxed);
    }

    pub fn last(&self) -> Option<Time> {
        Some(Time(self.0.load(Ordering::Relaxed))).filter(|time| time.0 > 0)
    }
}

/// The counters of one topic on one node.
pub struct TopicMetrics {
    topic: Arc<str>,
    counts: [AtomicU64; SERIES.len()],
    /// By reason.
    errors: Mutex<BTreeMap<&'static str, u64>>,
    produce_times: ProduceTimes,
    disk_full: DiskFull,
    among: Weak<Topics>,
}

/// The series of a topic, in the order in which they are counted.
const SERIES: [&str; 9] = [
    "troupe_records_in_total",
    "troupe_batches_in_total",
    "troupe_bytes_in_total",
    "troupe_bytes_out_total",
    "troupe_records_replicated_total",
    "troupe_bytes_replicated_total",
    "troupe_records_out_total",
    "troupe_follower_records_out_total",
    "troupe_follower_bytes_out_total",
];
const RECORDS_IN: usize = 0;
const BATCHES_IN: usize = 1;
const BYTES_IN: usize = 2;
const BYTES_OUT: usize = 3;
const RECORDS_REPLICATED: usize = 4;
const BYTES_REPLICATED: usize = 5;
const RECORDS_OUT: usize = 6;
const FOLLOWER_RECORDS_OUT: usize = 7;
const FOLLOWER_BYTES_OUT: usize = 8;

impl TopicMetrics {
    fn add(&self, series: usize, count: u64) {
        self.counts[series].fetch_add(count, Ordering::Relaxed);
    }

    /// A batch was appended.
    pub fn appended(&self, records: u32, bytes: usize) {
        self.add(RECORDS_IN, records.into());
        self.add(BATCHES_IN, 1);
        self.add(BYTES_IN, bytes as u64);
    }

    /// Batches came from the leader.
    pub fn replicated(&self, records: u32, bytes: usize) {
        self.add(RECORDS_REPLICATED, records.into());
        self.add(BYTES_REPLICATED, bytes as u64);
    }

    /// Batches left for a reader, of a replica that leads or follows.
    pub fn handed_out(&self, batches: &Bytes, by_follower: bool) {
        let headers = Batches::new(batches.clone()).map_while(Result::ok);
        let records = headers.map(|(header, _)| u64::from(header.record_count)).sum();
        self.add(RECORDS_OUT, records);
        self.add(BYTES_OUT, batches.len() as u64);
        if by_follower {
            self.add(FOLLOWER_RECORDS_OUT, records);
            self.add(FOLLOWER_BYTES_OUT, batches.len() as u64);
        }
    }

    /// A batch is answered, which has gone through these since it was checked.
    pub fn answered(&self, stages: &Stages, error: Option<&Error>) {
        let Some(error) = error else {
            return self.produce_times.record(stages.began().elapsed(), stages);
        };
        if error.code == ErrorCode::DiskFull {
            self.disk_full.note();
        }
        *self.lock_errors().entry(error.code.reason()).or_default() += 1;
    }

    fn lock_errors(&self) -> MutexGuard<'_, BTreeMap<&'static str, u64>> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for TopicMetrics {
    fn drop(&mut self) {
        let Some(among) = self.among.upgrade() else { return };
        let mut topics = among.lock();
        // A topic made again under the name has its own by now.
        if topics.get(&self.topic).is_some_and(|known| known.strong_count() == 0) {
            topics.remove(&self.topic);
        }
    }
}

impl ByTopic {
    pub fn of(
        &self,
        topic: &str,
        produce_times: &ProduceTimes,
        disk_full: &DiskFull,
    ) -> Arc<TopicMetrics> {
        let mut topics = self.0.lock();
        if let Some(known) = topics.get(topic).and_then(Weak::upgrade) {
            return known;
        }
        let topic: Arc<str> = topic.into();
        let metrics = Arc::new(TopicMetrics {
            topic: Arc::clone(&topic),
            counts: Default::default(),
            errors: Mutex::default(),
            produce_times: produce_times.clone(),
            disk_full: disk_full.clone(),
            among: Arc::downgrade(&self.0),
        });
        topics.insert(topic, Arc::downgrade(&metrics));
        metrics
    }

    pub fn render(&self, node: &str, out: &mut String) {
        // Dropped after the lock: the last one takes itself out.
        let topics: Vec<_> = self.0.lock().values().filter_map(Weak::upgrade).collect();
        if topics.is_empty() {
            return;
        }
        for (series, name) in SERIES.iter().enumerate() {
            heading(name, out);
            for one in &topics {
                let count = one.counts[series].load(Ordering::Relaxed);
                line(name, format_args!("node=\"{node}\",topic=\"{}\"", one.topic), count, out);
            }
        }
        let name = "troupe_produce_errors_total";
        heading(name, out);
        for one in &topics {
            for (reason, count) in &*one.lock_errors() {
                let topic = &one.topic;
                let labels = format_args!("node=\"{node}\",topic=\"{topic}\",reason=\"{reason}\"");
                line(name, labels, *count, out);
            }
        }
    }
}

fn heading(name: &str, out: &mut String) {
    // Writing to a string does not fail.
    if let Some(what) = help::of(name) {
        let _ = writeln!(out, "# HELP {name} {what}");
    }
    let _ = writeln!(out, "# TYPE {name} counter");
}

fn line(name: &str, labels: std::fmt::Arguments<'_>, count: u64, out: &mut String) {
    let _ = writeln!(out, "{name}{{{labels}}} {count}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(all: &ByTopic) -> String {
        let mut out = String::new();
        all.render("1", &mut out);
        out
    }

    #[test]
    fn the_series_of_a_topic_go_with_it_and_begin_anew_with_its_name() {
        let all = ByTopic::default();
        let of = |name: &str| all.of(name, &ProduceTimes::new("1"), &DiskFull::default());
        let (orders, others) = (of("orders"), of("others"));
        of("orders").appended(3, 100);
        let error = Error::new(ErrorCode::DiskFull, "full");
        orders.answered(&Stages::begin(), Some(&error));
        assert!(orders.disk_full.last().is_some());
        let text = rendered(&all);
        assert!(
            text.contains("troupe_records_in_total{node=\"1\",topic=\"orders\"} 3\n"),
            "{text}"
        );
        let failed =
            "troupe_produce_errors_total{node=\"1\",topic=\"orders\",reason=\"DISK_FULL\"} 1\n";
        assert!(text.contains(failed), "{text}");
        drop(orders);
        assert!(!rendered(&all).contains("orders"));
        assert_eq!(all.0.lock().len(), 1);
        assert!(rendered(&all).contains("others"));
        let again = of("orders");
        let zero = "troupe_records_in_total{node=\"1\",topic=\"orders\"} 0\n";
        assert!(rendered(&all).contains(zero));
        drop((again, others));
        assert_eq!(rendered(&all), "");
    }
}
