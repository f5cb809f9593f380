//! Offsets that are committed and read through any node, whoever it reaches: what was acknowledged is what is read,
//! and a commit that was overtaken never comes back.
//!
//! One exception is promised: what the network between the caller and the first node has held back, and nobody
//! numbered, no node can tell from what was just sent.

use rand::RngExt;
use rand::rngs::StdRng;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::sleep;
use tonic::transport::Channel;
use troupe_proto::log::v1::group_service_client::GroupServiceClient;
use troupe_proto::log::v1::{
    CommitOffsetsRequest, FetchOffsetsRequest, OffsetAndMetadata, PartitionCommit, TopicPartition,
};
use troupe_tests::{Network, Place};

const PACE: Duration = Duration::from_millis(20);
/// Where clients are.
const HERE: Place = 0;

/// A group's offset of one partition. Only one task commits it, one value after the other.
pub struct Register {
    group: String,
    partition: TopicPartition,
    nodes: Vec<Channel>,
    stop: Arc<AtomicBool>,
    /// Commits say their place among all of them.
    numbered: bool,
    /// Where nodes and clients have links of their own.
    network: Option<Network>,
    /// The last that was acknowledged, and the last that was sent.
    known: Mutex<(i64, i64)>,
    /// Not numbered, not answered, and held back on the way to the first node.
    held_back: Mutex<BTreeSet<i64>>,
    wrong: Mutex<Vec<String>>,
    pub commits: AtomicU64,
    pub reads: AtomicU64,
}

impl Register {
    pub fn new(
        group: String,
        partition: TopicPartition,
        nodes: Vec<Channel>,
        stop: Arc<AtomicBool>,
        numbered: bool,
        network: Option<Network>,
    ) -> Register {
        Register {
            group,
            partition,
            nodes,
            stop,
            numbered,
            network,
            held_back: Mutex::default(),
            known: Mutex::new((-1, -1)),
            wrong: Mutex::default(),
            commits: AtomicU64::default(),
            reads: AtomicU64::default(),
        }
    }

    fn draw_node(&self, chance: &mut StdRng) -> (usize, GroupServiceClient<Channel>) {
        let drawn = chance.random_range(0..self.nodes.len());
        (drawn + 1, GroupServiceClient::new(self.nodes[drawn].clone()))
    }

    /// Commits higher and higher offsets, until it is told to stop.
    pub async fn commit(self: Arc<Self>, mut chance: StdRng) {
        while !self.stop.load(Ordering::SeqCst) {
            let next = self.known.lock().unwrap().1 + 1;
            self.known.lock().unwrap().1 = next;
            let offset = OffsetAndMetadata { offset: next, ..Default::default() };
            let commit =
                PartitionCommit { partition: Some(self.partition.clone()), offset: Some(offset) };
            let request = CommitOffsetsRequest {
                group_id: self.group.clone(),
                commits: vec![commit],
                sequence: if self.numbered { next as u64 + 1 } else { 0 },
                committer_id: if self.numbered { "accountant".to_owned() } else { String::new() },
                ..Default::default()
            };
            let (number, mut node) = self.draw_node(&mut chance);
            let harmed = || self.network.as_ref().map_or(0, |it| it.harmed(HERE, number));
            let before = harmed();
            let answer = node.commit_offsets(request).await;
            let done = answer.is_ok_and(|answer| {
                answer.into_inner().results.iter().all(|result| result.error.is_none())
            });
            if done {
                self.known.lock().unwrap().0 = next;
                self.commits.fetch_add(1, Ordering::SeqCst);
            } else if !self.numbered && harmed() > before {
                self.held_back.lock().unwrap().insert(next);
            }
            sleep(PACE).await;
        }
    }

    /// Reads what is committed, until it is told to stop.
    pub async fn read(self: Arc<Self>, mut chance: StdRng) {
        while !self.stop.load(Ordering::SeqCst) {
            self.read_once(&mut chance).await;
            sleep(PACE).await;
        }
    }

    /// True: a node answered.
    pub async fn read_once(&self, chance: &mut StdRng) -> bool {
        let acknowledged = self.known.lock().unwrap().0;
        let request =
            FetchOffsetsRequest { group_id: self.group.clone(), ..FetchOffsetsRequest::default() };
        let (number, mut node) = self.draw_node(chance);
        // In the midst of a fault nobody may answer.
        let Ok(answer) = node.fetch_offsets(request).await else { return false };
        let sent = self.known.lock().unwrap().1;
        let offsets = answer.into_inner().offsets;
        let offset = offsets.first().and_then(|one| one.offset.as_ref());
        let offset = offset.map_or(-1, |offset| offset.offset);
        let promised = (acknowledged..=sent).contains(&offset);
        if !promised && !self.held_back.lock().unwrap().contains(&offset) {
            self.wrong.lock().unwrap().push(format!(
                "{}: node {number} says that {offset} is committed, after {acknowledged} was acknowledged and \
                 before anything beyond {sent} was sent",
                self.group
            ));
        }
        self.reads.fetch_add(1, Ordering::SeqCst);
        true
    }

    pub fn wrong(&self) -> Vec<String> {
        self.wrong.lock().unwrap().clone()
    }
}
