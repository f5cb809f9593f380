//! A load, and what comes of it.

use crate::cluster::Cluster;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use troupe_chaos::report::Report;
use troupe_chaos::{Ending, Session};
use troupe_client::ReaderConfig;

/// Between two looks at what has come.
const LOOK: Duration = Duration::from_millis(200);

/// A producer with acks=all and idempotence, and a group that reads.
pub struct Load {
    session: Arc<Session>,
}

/// What was felt, and what became of each record.
pub struct Outcome {
    ending: Ending,
}

impl Load {
    pub(crate) fn new(session: Arc<Session>) -> Load {
        Load { session }
    }

    /// Sends no more, and looks for all that was sent.
    ///
    /// # Panics
    /// While a fault is still being injected.
    pub async fn end(self) -> Outcome {
        let session = Arc::try_unwrap(self.session);
        let session = session.unwrap_or_else(|_| panic!("a fault is still being injected"));
        Outcome { ending: session.end().await }
    }
}

impl Outcome {
    /// Gaps, errors, and what each fault cost.
    pub fn report(&self) -> &Report {
        &self.ending.report
    }

    /// Every record that was acknowledged is in the log once and in order, and reached a member of the load's group.
    ///
    /// # Panics
    /// If not.
    pub fn assert_nothing_lost(&self) {
        if let Err(why) = self.report().nothing_lost() {
            panic!("{why}");
        }
    }

    /// No partition waited longer for an acknowledgement or a delivery.
    ///
    /// # Panics
    /// If one did.
    pub fn assert_gaps_below(&self, bound: Duration) {
        let longest = self.report().longest_gap();
        assert!(longest < bound, "the longest gap is {longest:?}, not below {bound:?}");
    }

    /// The key of every record that was acknowledged is in another topic too, within this time: what was made of it.
    ///
    /// # Panics
    /// If one is missing.
    pub async fn assert_all_in(&self, cluster: &Cluster, topic: &str, within: Duration) {
        let deadline = Instant::now() + within;
        let acknowledged = self.ending.acknowledged_keys();
        loop {
            let there = keys(cluster, topic).await;
            let missing: Vec<&String> =
                acknowledged.iter().filter(|key| !there.contains(key.as_bytes())).collect();
            if missing.is_empty() {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{} of {} are not in {topic}, as {}",
                missing.len(),
                acknowledged.len(),
                missing[0]
            );
            sleep(LOOK).await;
        }
    }
}

async fn keys(cluster: &Cluster, topic: &str) -> BTreeSet<Vec<u8>> {
    let config = ReaderConfig { until_end: true, ..ReaderConfig::default() };
    let reader = cluster.client().reader(topic, config).await;
    let mut reader = reader.unwrap_or_else(|why| panic!("{topic} cannot be read: {why}"));
    let mut keys = BTreeSet::new();
    while let Some(batch) = reader.next_batch().await {
        let batch = batch.unwrap_or_else(|why| panic!("{topic} cannot be read: {why}"));
        for record in batch.records() {
            let record = record.unwrap_or_else(|why| panic!("{topic} cannot be read: {why}"));
            keys.extend(record.key.map(|key| key.to_vec()));
        }
    }
    keys
}
