//! How far replicas that are awaited have been filled: by their sizes and their leaders', as their nodes tell.

use crate::fan_out::fan_out;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use troupe_client::{Client, ClientError};
use troupe_proto::admin::v1::PartitionReassignment;

/// A topic, a partition of it, and a node that has it.
type ReplicaName = (String, i32, i32);

/// What is under way at one time.
pub struct Sample {
    at: Instant,
    pub reassignments: Vec<PartitionReassignment>,
    sizes: BTreeMap<ReplicaName, u64>,
}

/// Of one partition: of all its replicas that are awaited and not in sync yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    pub bytes_done: u64,
    pub bytes_left: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<u64>,
}

impl Progress {
    /// 0 to 100.
    pub fn percent(&self) -> u64 {
        match self.bytes_done + self.bytes_left {
            0 => 0,
            all => self.bytes_done * 100 / all,
        }
    }

    /// Of both together.
    pub fn and(self, other: Progress) -> Progress {
        let rate = match (self.bytes_per_second, other.bytes_per_second) {
            (Some(one), Some(other)) => Some(one + other),
            (one, other) => one.or(other),
        };
        let bytes_left = self.bytes_left + other.bytes_left;
        Progress {
            bytes_done: self.bytes_done + other.bytes_done,
            bytes_left,
            bytes_per_second: rate,
            seconds_left: seconds_left(bytes_left, rate),
        }
    }
}

fn seconds_left(bytes: u64, rate: Option<f64>) -> Option<u64> {
    rate.filter(|rate| *rate >= 1.0).map(|rate| (bytes as f64 / rate).ceil() as u64)
}

/// What is under way now, and how large all that it takes is. Nodes that do not answer are left out.
///
/// # Errors
/// Those of any control call.
pub async fn sample(client: &Client) -> Result<Sample, ClientError> {
    let reassignments = client.admin().list_partition_reassignments(&[]).await?;
    let mut nodes: BTreeSet<i32> = BTreeSet::new();
    for one in &reassignments {
        nodes.extend(one.leader_id);
        nodes.extend(filled(one));
    }
    let at = Instant::now();
    let topic = match &reassignments[..] {
        [first, rest @ ..] if rest.iter().all(|one| one.topic == first.topic) => Some(first),
        _ => None,
    };
    let topic = topic.map(|one| one.topic.as_str());
    let answers =
        fan_out(nodes, async |node| client.admin_of(node).await?.list_replicas(topic).await).await;
    let mut sizes = BTreeMap::new();
    for (node, answer) in answers {
        for replica in answer.unwrap_or_default() {
            let size = u64::try_from(replica.size_bytes).unwrap_or_default();
            if replica.no_answer_reason.is_empty() {
                sizes.insert((replica.topic, replica.partition, node), size);
            }
        }
    }
    Ok(Sample { at, reassignments, sizes })
}

/// Who is added, and not in sync yet; if it is cancelled, of those from before.
fn filled(one: &PartitionReassignment) -> impl Iterator<Item = i32> + '_ {
    let awaited = match one.cancelled_until_in_sync {
        Some(_) => &one.original_replicas,
        None => &one.adding_replicas,
    };
    awaited.iter().copied().filter(|node| !one.in_sync_replicas.contains(node))
}

impl Sample {
    fn size(&self, one: &PartitionReassignment, node: i32) -> Option<u64> {
        self.sizes.get(&(one.topic.clone(), one.partition, node)).copied()
    }

    /// Of one that is in this sample; with how fast, if an earlier one is there to compare. `None`: its leader does not
    /// tell, or has nobody to fill.
    pub fn progress(
        &self,
        one: &PartitionReassignment,
        earlier: Option<&Sample>,
    ) -> Option<Progress> {
        let whole = self.size(one, one.leader_id?)?;
        let mut all: Option<Progress> = None;
        for node in filled(one) {
            let done = self.size(one, node).unwrap_or_default().min(whole);
            let rate = earlier.and_then(|earlier| {
                let before = earlier.size(one, node)?;
                let span = self.at.saturating_duration_since(earlier.at);
                (span > Duration::ZERO)
                    .then(|| done.saturating_sub(before) as f64 / span.as_secs_f64())
            });
            let bytes_left = whole - done;
            let progress = Progress {
                bytes_done: done,
                bytes_left,
                bytes_per_second: rate,
                seconds_left: seconds_left(bytes_left, rate),
            };
            all = Some(all.map_or(progress, |all| all.and(progress)));
        }
        all
    }

    /// Of all of them.
    pub fn total(&self, earlier: Option<&Sample>) -> Progress {
        let each = self.reassignments.iter().filter_map(|one| self.progress(one, earlier));
        each.fold(Progress::default(), Progress::and)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, start: Instant, follower: u64) -> Sample {
        let one = PartitionReassignment {
            topic: "first".to_owned(),
            adding_replicas: vec![2, 3],
            in_sync_replicas: vec![1, 2],
            leader_id: Some(1),
            ..PartitionReassignment::default()
        };
        let name = |node| ("first".to_owned(), 0, node);
        Sample {
            at: start + Duration::from_secs(seconds),
            reassignments: vec![one],
            sizes: [(name(1), 1_000), (name(2), 1_000), (name(3), follower)].into(),
        }
    }

    #[test]
    fn progress_is_what_is_filled_and_how_long_the_rest_takes_at_that_rate() {
        let start = Instant::now();
        let (before, now) = (at(0, start, 200), at(2, start, 600));
        let progress = now.progress(&now.reassignments[0], Some(&before)).unwrap();
        assert_eq!((progress.bytes_done, progress.bytes_left), (600, 400), "2 is in sync already");
        assert_eq!((progress.bytes_per_second, progress.seconds_left), (Some(200.0), Some(2)));
        assert_eq!(progress.percent(), 60);
        let alone = now.progress(&now.reassignments[0], None).unwrap();
        assert_eq!((alone.bytes_per_second, alone.seconds_left), (None, None));
        assert_eq!(now.total(Some(&before)).bytes_left, 400);
    }
}
