//! How long a follower that was away takes for what it has missed, watched from outside: its own log ends, asked
//! for every few milliseconds. The clock starts when the first record has been seen there, so the start of the
//! process and of its stream do not count; what it had then does not count either.

use super::cluster::{Cluster, FOLLOWER, LEADER, TIMEOUT};
use super::sent::RECORD_BYTES;
use crate::commands::bench::cpu;
use crate::commands::bench::throughput::Throughput;
use crate::exit::Exit;
use crate::failure::{Context, Failure};
use std::time::{Duration, Instant};
use tokio::time::sleep;
use troupe_client::{Admin, Client, ClientConfig, ClientError};

/// Between two looks at the log ends.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// A follower that has all its leader has.
#[derive(Clone, Copy, Debug)]
pub struct CaughtUp {
    pub throughput: Throughput,
    /// From the first record to the moment when the controller counts it in sync, and the leader knows.
    pub in_sync: Duration,
    /// Processor seconds of the leader's and of the follower's process for each 10^9 bytes; the follower's has
    /// its start in it.
    pub leader_cpu: Option<f64>,
    pub follower_cpu: Option<f64>,
}

/// Records that the follower had at a moment.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    records: u64,
}

/// Starts the follower and watches it until it has all. None: it had most of it when it was first seen.
pub async fn measure(cluster: &mut Cluster, topic: &str) -> Result<Option<CaughtUp>, Failure> {
    let what = || format!("cannot ask for the log ends of {topic}");
    let leader = cluster.admin(LEADER).await.with_context(what)?;
    let all = log_ends(&leader, topic).await.with_context(what)?;
    let used = |cluster: &Cluster, node| cluster.pid(node).and_then(cpu::of_process);
    let leader_before = used(cluster, LEADER);
    let watching = watch(cluster.follower_address(), topic.to_owned(), all);
    let ((), (first, last)) = tokio::try_join!(cluster.start_follower(), watching)?;
    cluster.wait_until_whole(topic).await?;
    let in_sync = first.at.elapsed();
    let bytes = (all * RECORD_BYTES) as f64 / 1e9;
    let per_gb = |spent: Duration| spent.as_secs_f64() / bytes;
    let leader_after = used(cluster, LEADER);
    let leader_cpu =
        leader_after.zip(leader_before).map(|(after, before)| after.saturating_sub(before));
    Ok(between(first, last).map(|throughput| CaughtUp {
        throughput,
        in_sync,
        leader_cpu: leader_cpu.map(per_gb),
        follower_cpu: used(cluster, FOLLOWER).map(per_gb),
    }))
}

/// What it got from the first sample to the last; None if that is less than half.
fn between(first: Sample, last: Sample) -> Option<Throughput> {
    let records = last.records - first.records;
    let elapsed = last.at.duration_since(first.at);
    (2 * records >= last.records).then_some(Throughput {
        records,
        bytes: records * RECORD_BYTES,
        elapsed,
    })
}

/// The first moment when it has something and the first when it has all.
async fn watch(address: String, topic: String, all: u64) -> Result<(Sample, Sample), Failure> {
    let started = Instant::now();
    let mut first = None;
    let mut admin = None;
    while started.elapsed() < TIMEOUT {
        if admin.is_none() {
            // Until it listens, it refuses.
            let connected = Client::connect(ClientConfig::new([address.clone()])).await;
            admin = connected.ok().map(|client| client.admin());
        }
        if let Some(asked) = &admin {
            match log_ends(asked, &topic).await {
                Ok(records) => {
                    let sample = Sample { at: Instant::now(), records };
                    if records > 0 {
                        first = first.or(Some(sample));
                    }
                    if let Some(first) = first
                        && records >= all
                    {
                        return Ok((first, sample));
                    }
                }
                Err(_) => admin = None,
            }
        }
        sleep(POLL_INTERVAL).await;
    }
    let what = format!("the follower has not caught up after {TIMEOUT:?}");
    Err(Failure::new(Exit::Failed, what, "see what the nodes said above"))
}

/// Records of the topic on the node that is asked, which have no gaps.
async fn log_ends(admin: &Admin, topic: &str) -> Result<u64, ClientError> {
    let replicas = admin.list_replicas(Some(topic)).await?;
    let ends = replicas.iter().map(|replica| u64::try_from(replica.log_end_offset).unwrap_or(0));
    Ok(ends.sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_came_while_the_clock_ran_counts() {
        let at = Instant::now();
        let first = Sample { at, records: 1_000 };
        let last = Sample { at: at + Duration::from_secs(2), records: 5_000 };
        let throughput = between(first, last).unwrap();
        assert_eq!((throughput.records, throughput.bytes), (4_000, 4_000 * 1024));
        assert_eq!(throughput.elapsed, Duration::from_secs(2));
        assert!(between(Sample { at, records: 2_501 }, last).is_none());
    }
}
