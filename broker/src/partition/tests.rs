//! Promises of supervisor, handle and actor together, where messages cross each other.

#![allow(clippy::unwrap_used, reason = "a fixture that cannot be set up fails its test")]

mod damage;
mod leader;
mod refill;
mod reports;
mod soundness;
mod transactions;

use super::*;
use crate::NodeConfig;
use crate::clock::wall_clock;
use crate::forward::{find_here, find_here_now};
use crate::metrics::NodeMetrics;
use crate::node_settings::NodeSettings;
use crate::unpacker::Unpacker;
use actix::{Actor, Addr, System};
use futures::FutureExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{Semaphore, oneshot};
use troupe_actor::{ActorState, Die, StallDetector};
use troupe_machines::config::TopicConfig;
use troupe_machines::replica::Acks;
use troupe_machines::replica::{FollowSession, PartitionState, Position, Reader, ReplicaEnd, Role};
use troupe_proto::batch::{Compression, ProducedBatch, ProducerStamp, RecordSetBuilder, Verified};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{
    BrokerEpoch, LeaderEpoch, NodeId, Offset, PartitionEpoch, PartitionId, PartitionKey,
    ProducerEpoch, ProducerId, Sequence, TopicId,
};
use troupe_proto::rope::Rope;

const TIMES: ReplicaTimes =
    ReplicaTimes { lag_max_ms: 30_000, producer_id_expiration_ms: 86_400_000 };

/// Of the controller.
struct Asked(UnboundedReceiver<ControllerRequest>);

impl Asked {
    /// The elections that are asked for by now.
    fn elections(&mut self) -> Vec<(PartitionKey, LeaderEpoch)> {
        let requests = std::iter::from_fn(|| self.0.try_recv().ok());
        let elections = requests.filter_map(|request| match request {
            ControllerRequest::FailedLeader { key, leader_epoch } => Some((key, leader_epoch)),
            ControllerRequest::AlterPartition { .. }
            | ControllerRequest::LostData(_)
            | ControllerRequest::OfflineReplica(_) => None,
        });
        elections.collect()
    }
}

/// Of a node that knows no coordinators.
struct NoCoordinators;

impl TransactionGate for NoCoordinators {
    fn add_partition(
        &self,
        _: Arc<str>,
        _: troupe_machines::txn::Producer,
        _: (Arc<str>, PartitionKey),
        reply: Box<dyn FnOnce(Result<(), Error>) + Send>,
    ) {
        let message = "transactions are not available on this node";
        reply(Err(Error::new(ErrorCode::CoordinatorNotAvailable, message)));
    }
}

/// No leader can be followed.
struct Unreachable;

impl LeaderStreams for Unreachable {
    fn open(
        &self,
        _: NodeId,
        replica: &Arc<dyn ReplicaHandle>,
        session: FollowSession,
        _: Position,
        _: bool,
    ) {
        let error = Error::new(ErrorCode::ShuttingDown, "this node is stopping");
        replica.hear_leader(FromLeader { session, says: LeaderSays::Closed(error) });
    }

    fn close(&self, _: PartitionKey, _: FollowSession) {}

    fn abandon(&self, _: PartitionKey) {}

    fn report(&self, _: PartitionKey, _: FollowSession, _: ReplicaEnd, _: u64) {}
}

struct Shard {
    directory: tempfile::TempDir,
    directories: Arc<troupe_log::LogDirectories>,
    recoveries: Arc<Semaphore>,
    metrics: Arc<NodeMetrics>,
    supervisor: Addr<Supervisor>,
}

impl Shard {
    /// On the current thread; recovers `recoveries` logs at a time.
    fn start(recoveries: usize) -> Self {
        Self::with_controller(recoveries).0
    }

    /// The same, and what its replicas want of the controller.
    fn with_controller(recoveries: usize) -> (Self, Asked) {
        Self::with_leaders(recoveries, Arc::new(Unreachable))
    }

    fn with_leaders(recoveries: usize, leader_streams: Arc<dyn LeaderStreams>) -> (Self, Asked) {
        Self::with_gate(recoveries, leader_streams, Arc::new(NoCoordinators))
    }

    fn with_gate(
        recoveries: usize,
        leader_streams: Arc<dyn LeaderStreams>,
        transactions: Arc<dyn TransactionGate>,
    ) -> (Self, Asked) {
        let recoveries = Arc::new(Semaphore::new(recoveries));
        let metrics = Arc::new(NodeMetrics::new(1));
        let (controller, requests) = ControllerRequests::channel();
        let directory = tempfile::tempdir().unwrap();
        let directories = Arc::new(troupe_log::LogDirectories::single(directory.path()).unwrap());
        let shared = Shared {
            node_id: NodeId(1),
            recoveries: Arc::clone(&recoveries),
            flusher: Flusher::start(1).unwrap(),
            metrics: Arc::clone(&metrics),
            controller,
            leader_streams,
            stall_detector: Arc::new(StallDetector::unlimited()),
            thread_stall_detector: Arc::new(StallDetector::unlimited()),
            ends_delay: Duration::ZERO,
            times: TIMES,
            directories: Arc::clone(&directories),
            space: Arc::new(troupe_log::Space::open(directory.path())),
            throttles: ReplicationThrottles::new(&NodeSettings::new(NodeConfig::default())),
            cleaner: Arc::default(),
            transactions,
        };
        let supervisor = Supervisor::new(shared, &NodeConfig::default());
        (
            Self { directory, directories, recoveries, metrics, supervisor: supervisor.start() },
            Asked(requests),
        )
    }

    fn open(&self, name: &str) -> Arc<PartitionHandle> {
        self.open_as(name, new_key(), state())
    }

    fn open_as(
        &self,
        name: &str,
        key: PartitionKey,
        state: Arc<PartitionState>,
    ) -> Arc<PartitionHandle> {
        let metrics = self.metrics.topic(name);
        let handle =
            Arc::new(PartitionHandle::new(PartitionBoard::new(key, name.into(), metrics), 0));
        let setup = PartitionSetup { config: Arc::new(TopicConfig::default()), state };
        self.supervisor.do_send(StartPartition { handle: Arc::clone(&handle), setup });
        handle
    }

    /// Node 1 leads; node 2 has the other replica.
    fn lead(&self, handle: &PartitionHandle, leader_epoch: u32, isr: &[i32]) {
        self.lead_at(handle, leader_epoch, isr, 0);
    }

    /// The same, in a partition epoch.
    fn lead_at(
        &self,
        handle: &PartitionHandle,
        leader_epoch: u32,
        isr: &[i32],
        partition_epoch: u32,
    ) {
        self.told(handle, Some(NodeId(1)), leader_epoch, isr, partition_epoch);
    }

    /// Node 2 leads.
    fn follow(&self, handle: &PartitionHandle, partition_epoch: u32, isr: &[i32]) {
        self.told(handle, Some(NodeId(2)), 1, isr, partition_epoch);
    }

    fn told(
        &self,
        handle: &PartitionHandle,
        leader: Option<NodeId>,
        leader_epoch: u32,
        isr: &[i32],
        partition_epoch: u32,
    ) {
        let isr: Vec<_> = isr.iter().copied().map(NodeId).collect();
        let state = PartitionState {
            leader,
            leader_epoch: LeaderEpoch(leader_epoch),
            partition_epoch: PartitionEpoch(partition_epoch),
            replicas: vec![NodeId(1), NodeId(2)],
            least_replicas: 2,
            eligible: isr.iter().map(|node| (*node, BrokerEpoch(0))).collect(),
            isr,
        };
        let (config, state) = (Arc::new(TopicConfig::default()), Arc::new(state));
        self.supervisor.do_send(UpdatePartition { key: handle.key(), config, state });
    }

    fn retire(&self, handle: &PartitionHandle) -> oneshot::Receiver<()> {
        let (done, retired) = oneshot::channel();
        self.supervisor.do_send(RetirePartition {
            key: handle.key(),
            why: Retirement::TopicDeleted,
            done,
        });
        retired
    }

    /// Returns when all that the supervisor was told before has been done.
    async fn settled(&self) {
        let other = self.open("other");
        other.describe().await.unwrap();
        self.retire(&other).await.unwrap();
    }
}

fn new_key() -> PartitionKey {
    PartitionKey { topic_id: TopicId(uuid::Uuid::new_v4()), partition: PartitionId(0) }
}

fn state() -> Arc<PartitionState> {
    Arc::new(PartitionState {
        leader: Some(NodeId(1)),
        leader_epoch: LeaderEpoch(0),
        partition_epoch: PartitionEpoch(0),
        replicas: vec![NodeId(1)],
        isr: vec![NodeId(1)],
        least_replicas: 1,
        eligible: [(NodeId(1), BrokerEpoch(0))].into(),
    })
}

async fn append(handle: &PartitionHandle, value: &[u8]) -> Result<Appended, Error> {
    append_as(handle, None, wall_clock().as_timestamp(), value).await
}

async fn append_as(
    handle: &PartitionHandle,
    producer: Option<ProducerStamp>,
    timestamp: i64,
    value: &[u8],
) -> Result<Appended, Error> {
    append_packed(handle, producer, Compression::None, &[(timestamp, value)]).await
}

async fn append_packed(
    handle: &PartitionHandle,
    producer: Option<ProducerStamp>,
    compression: Compression,
    records: &[(i64, &[u8])],
) -> Result<Appended, Error> {
    let (responder, answer) = Responder::channel();
    handle.append(request(producer, compression, records), responder).await;
    answer.await.unwrap()
}

fn request(
    producer: Option<ProducerStamp>,
    compression: Compression,
    records: &[(i64, &[u8])],
) -> AppendRequest {
    let mut set = RecordSetBuilder::new();
    for (timestamp, value) in records {
        set.push(*timestamp, None, Some(value), &[]);
    }
    let built = set.finish(compression, None).unwrap();
    let header = built.header;
    let batch = ProducedBatch {
        last_offset_delta: header.last_offset_delta,
        base_timestamp: header.base_timestamp,
        max_timestamp: header.max_timestamp,
        producer,
        record_count: header.record_count,
        attributes: header.attributes,
        payload_crc: Some(header.payload_crc),
        payload: Rope::from(built.payload),
    };
    let verified = Verified {
        payload_crc: header.payload_crc,
        keyless: true,
        min_timestamp: built.min_timestamp,
        max_timestamp: header.max_timestamp,
    };
    let (acks, timeout_ms, patience) = (Acks::All, 30_000, REBUILD_PATIENCE);
    let expected_leader_epoch = None;
    AppendRequest {
        batch,
        verified,
        acks,
        timeout_ms,
        expected_leader_epoch,
        patience,
        chain: None,
        transactional_id: None,
    }
}

#[test]
fn a_change_that_comes_while_the_log_is_recovered_is_in_force_afterwards() {
    System::new().block_on(async {
        let shard = Shard::start(0);
        let handle = shard.open("changed");
        let config = TopicConfig { max_message_bytes: 200, ..TopicConfig::default() };
        let (config, state) = (Arc::new(config), state());
        shard.supervisor.do_send(UpdatePartition { key: handle.key(), config, state });
        tokio::task::yield_now().await;
        shard.recoveries.add_permits(1);
        append(&handle, &[0; 50]).await.unwrap();
        let error = append(&handle, &[0; 500]).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::RecordTooLarge);
    });
}

/// A topic of the same name uses the same directory: whoever still recovers there would truncate what it writes.
#[cfg(unix)]
#[test]
fn a_partition_counts_as_retired_only_when_nobody_recovers_its_log() {
    System::new().block_on(async {
        let shard = Shard::start(2);
        let dir = shard.directory.path().join("slow-0");
        std::fs::create_dir(&dir).unwrap();
        let pipe = dir.join("partition.metadata");
        let path = std::ffi::CString::new(pipe.to_str().unwrap()).unwrap();
        // SAFETY: the path is a string that ends with a zero.
        assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
        let handle = shard.open("slow");
        // Returns when recovery has opened the other end; it waits for us then.
        let open = move || std::fs::OpenOptions::new().write(true).open(pipe);
        let writer = tokio::task::spawn_blocking(open).await.unwrap().unwrap();

        let mut retired = shard.retire(&handle);
        shard.settled().await;
        assert_eq!(retired.try_recv(), Err(TryRecvError::Empty), "recovery is under way");
        drop(writer);
        retired.await.unwrap();
        assert_eq!(append(&handle, b"late").await.unwrap_err().code, ErrorCode::UnknownTopic);
    });
}

#[test]
fn recoveries_that_wait_for_their_turn_do_not_hold_up_a_retirement() {
    System::new().block_on(async {
        let shard = Shard::start(0);
        let handle = shard.open("queued");
        let retired = shard.retire(&handle);
        tokio::task::yield_now().await;
        shard.recoveries.add_permits(1);
        retired.await.unwrap();
        shard.settled().await;
        assert_eq!(handle.board.state(), ActorState::Retired);
    });
}

#[test]
fn an_actor_that_dies_before_it_can_retire_leaves_nobody_waiting() {
    System::new().block_on(async {
        let shard = Shard::start(1);
        let handle = shard.open("dying");
        let latest = handle.describe().await.unwrap().log_end;
        let retired = shard.retire(&handle);
        // Both stand in its mailbox or it is gone already when the supervisor sends the second.
        handle.tell(Die::Stop);
        retired.await.unwrap();
        handle.readable(latest, &Reader::OfLeader, Isolation::Uncommitted).await;
        assert_eq!(handle.board.state(), ActorState::Retired);
    });
}

/// Only the first who asks the disk after an error is told of it.
#[test]
fn a_log_is_not_closed_while_its_flush_is_under_way() {
    System::new().block_on(async {
        let shard = Shard::start(1);
        let handle = shard.open("flushing");
        append(&handle, b"one").await.unwrap();
        let flush = handle.board.flushes.enter().unwrap();
        let mut retired = shard.retire(&handle);
        shard.settled().await;
        assert_eq!(retired.try_recv(), Err(TryRecvError::Empty), "a flush is under way");
        drop(flush);
        retired.await.unwrap();
    });
}

/// Many may have waited for it; other shards' requests come at once.
#[test]
fn a_new_actor_takes_a_crowd_from_the_first_moment() {
    System::new().block_on(async {
        let shard = Shard::start(1);
        for round in 0..50 {
            let handle = shard.open(&format!("crowded-{round}"));
            let crowd = {
                let handle = Arc::clone(&handle);
                std::thread::spawn(move || {
                    while handle.board.state() != ActorState::Running {
                        std::hint::spin_loop();
                    }
                    (0..200).filter(|_| !handle.tell(messages::Checkpoint)).count()
                })
            };
            let refused = tokio::task::spawn_blocking(move || crowd.join().unwrap()).await.unwrap();
            assert_eq!(refused, 0, "in round {round}");
        }
    });
}

/// Records that are older than retention when they come are gone at once; the producer is not.
#[test]
fn producers_are_known_after_retention_took_all_their_records() {
    System::new().block_on(async {
        let shard = Shard::start(1);
        let handle = shard.open("historic");
        let stamp = |sequence| ProducerStamp {
            id: ProducerId(7),
            epoch: ProducerEpoch(0),
            base_sequence: Sequence(sequence),
        };
        append_as(&handle, Some(stamp(0)), 1_000, b"old").await.unwrap();
        assert!(handle.tell(messages::EnforceRetention));
        assert_eq!(handle.describe().await.unwrap().log_start, Offset(1));
        assert!(handle.tell(Die::Stop));
        handle.rebuilt(1, REBUILD_PATIENCE).await.unwrap();
        let again = append_as(&handle, Some(stamp(0)), 1_000, b"old").await.unwrap();
        assert_eq!((again.base_offset, again.duplicate), (Some(Offset(0)), true));
        let next = append_as(&handle, Some(stamp(1)), 1_000, b"old").await.unwrap();
        assert_eq!((next.base_offset, next.duplicate), (Some(Offset(1)), false));
    });
}

#[test]
fn a_change_reaches_an_actor_whose_mailbox_is_full() {
    System::new().block_on(async {
        let shard = Shard::start(1);
        let handle = shard.open("busy");
        handle.describe().await.unwrap();
        let config = TopicConfig { max_message_bytes: 200, ..TopicConfig::default() };
        let (config, state) = (Arc::new(config), state());
        shard.supervisor.do_send(UpdatePartition { key: handle.key(), config, state });
        while handle.tell(messages::Rest) {}
        shard.settled().await;
        let error = append(&handle, &[0; 500]).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::RecordTooLarge);
    });
}

/// S1: also one that nobody writes to, and one that follows; and no revival helps while the disk is away.
#[test]
fn a_replica_whose_directory_has_failed_goes_offline_and_the_controller_is_told() {
    System::new().block_on(async {
        let (shard, mut asked) = Shard::with_controller(1);
        let handle = shard.open("idle");
        shard.lead(&handle, 1, &[1, 2]);
        handle.describe().await.unwrap();
        asked.elections();
        assert!(shard.directories.all()[0].fail("it burnt".to_owned()));
        shard.supervisor.do_send(DirectoryFailed);
        let error = loop {
            if let Err(error) = handle.describe().await {
                break error;
            }
        };
        assert_eq!(error.code, ErrorCode::StorageFailure, "{error}");
        assert!(error.message.contains("it burnt"), "{error}");
        let mut told = Vec::new();
        while !matches!(told.last(), Some(ControllerRequest::OfflineReplica(_))) {
            told.push(asked.0.recv().await.unwrap());
        }
        let revived = handle.kill(Die::Stop, REBUILD_PATIENCE).await.unwrap_err();
        assert!(revived.message.contains("it burnt"), "{revived}");
    });
}

/// Its leader had not heard yet that nobody follows here any more, and took it for one that keeps up.
#[test]
fn a_replica_that_is_offline_is_withdrawn_again_whenever_it_is_in_sync_again() {
    System::new().block_on(async {
        let (shard, mut asked) = Shard::with_controller(1);
        std::fs::write(shard.directory.path().join("broken-0"), "no directory").unwrap();
        let handle = shard.open("broken");
        handle.serves(REBUILD_PATIENCE).await.unwrap_err();
        for (partition_epoch, isr, withdrawn) in
            [(1, &[2, 1][..], 1), (2, &[2][..], 0), (3, &[2, 1][..], 1), (4, &[2, 1][..], 1)]
        {
            shard.follow(&handle, partition_epoch, isr);
            shard.settled().await;
            let told = std::iter::from_fn(|| asked.0.try_recv().ok());
            let told = told.filter(|it| matches!(it, ControllerRequest::OfflineReplica(_)));
            assert_eq!(told.count(), withdrawn, "{partition_epoch}: {isr:?}");
        }
    });
}

/// Its disk failed while it followed, or its log cannot be opened: the controller does not know, and names it.
#[test]
fn a_replica_that_is_offline_passes_on_what_it_is_made_to_lead() {
    System::new().block_on(async {
        let (shard, mut asked) = Shard::with_controller(1);
        std::fs::write(shard.directory.path().join("broken-0"), "no directory").unwrap();
        let handle = shard.open("broken");
        handle.serves(REBUILD_PATIENCE).await.unwrap_err();
        shard.lead(&handle, 3, &[1]);
        shard.settled().await;
        assert_eq!(asked.elections(), [], "the controller could only name it again");
        shard.lead(&handle, 4, &[1, 2]);
        shard.settled().await;
        assert_eq!(asked.elections(), [(handle.key(), LeaderEpoch(4))]);
    });
}

/// What it knew of the ISR may be newer than what the next actor is built with.
#[test]
fn a_leader_that_died_leads_no_more_in_its_epoch_though_it_wrote_nothing() {
    System::new().block_on(async {
        let (shard, mut asked) = Shard::with_controller(1);
        let handle = shard.open("idle");
        shard.lead(&handle, 1, &[1]);
        shard.settled().await;
        assert_eq!(handle.describe().await.unwrap().role, Role::Leader);
        handle.tell(Die::Stop);
        handle.rebuilt(1, REBUILD_PATIENCE).await.unwrap();
        assert_eq!(handle.describe().await.unwrap().role, Role::Idle);
        // Of the death, and of the news that it should lead nevertheless.
        assert_eq!(asked.elections(), [(handle.key(), LeaderEpoch(1)); 2]);
        shard.lead(&handle, 2, &[1]);
        shard.settled().await;
        assert_eq!(handle.describe().await.unwrap().role, Role::Leader);
    });
}

/// It may have been cut off in the one in which it looked, and lead anew, with another log, in the one that counts.
#[test]
fn what_was_found_in_one_leader_epoch_is_not_confirmed_by_another() {
    System::new().block_on(async {
        let (shard, unpacker) = (Shard::start(1), Unpacker::new(0));
        let handle = shard.open("twice");
        shard.lead(&handle, 5, &[1]);
        shard.settled().await;
        assert!(
            find_here_now(&unpacker, &handle, OffsetQuery::Latest, Isolation::Uncommitted, None)
                .await
                .is_ok()
        );
        let mut finding = Box::pin(find_here_now(
            &unpacker,
            &handle,
            OffsetQuery::Latest,
            Isolation::Uncommitted,
            None,
        ));
        assert!((&mut finding).now_or_never().is_none(), "it is asked");
        shard.lead(&handle, 7, &[1]);
        shard.settled().await;
        assert_eq!(finding.await.unwrap_err().code, ErrorCode::FencedLeaderEpoch);
        let meant = async |epoch| {
            let found = handle
                .find_offset(
                    OffsetQuery::Latest,
                    Offset(0),
                    Isolation::Uncommitted,
                    Some(LeaderEpoch(epoch)),
                )
                .await;
            found.map(drop).map_err(|error| error.code)
        };
        assert_eq!(meant(5).await, Err(ErrorCode::FencedLeaderEpoch));
        assert_eq!(meant(7).await, Ok(()));
        assert_eq!(meant(8).await, Err(ErrorCode::UnknownLeaderEpoch));
    });
}

/// The shard's thread, on which others wait, is asked for headers alone.
#[test]
fn a_lookup_by_time_unpacks_in_the_memory_that_all_readers_share() {
    const BUDGET: usize = 64 << 20;
    const PACKED: usize = 4 << 20;
    System::new().block_on(async {
        let shard = Shard::start(1);
        let handle = shard.open("times");
        for (first, compression, bytes) in
            [(10, Compression::Lz4, PACKED), (20, Compression::None, 600 << 10)]
        {
            let large = vec![0; bytes];
            let records: [(i64, &[u8]); 3] =
                [(first, b"first"), (first + 1, &large), (first + 2, b"last")];
            append_packed(&handle, None, compression, &records).await.unwrap();
        }
        let unpacker = Unpacker::new(BUDGET);
        let at = OffsetQuery::Timestamp(12);
        let (_, finding) =
            handle.find_offset(at, Offset(0), Isolation::Uncommitted, None).await.unwrap();
        assert!(matches!(finding, Finding::Candidate(_, 12)), "{finding:?}");
        let asked = || find_here(&unpacker, &handle, at, Isolation::Uncommitted, None);
        for found in futures::future::join_all((0..10).map(|_| asked())).await {
            assert_eq!(found.unwrap().offset, Some(Offset(2)));
        }
        let (unpacked, used) = unpacker.figures();
        assert_eq!(unpacked, 1, "once for all who ask");
        assert!(used > PACKED && used <= BUDGET, "{used} bytes");
        for (at, offset) in [
            (OffsetQuery::Timestamp(-5), Some(0)),
            (OffsetQuery::Timestamp(13), Some(3)),
            (OffsetQuery::Timestamp(22), Some(5)),
            (OffsetQuery::Timestamp(23), None),
            (OffsetQuery::MaxTimestamp, Some(5)),
            (OffsetQuery::Earliest, Some(0)),
            (OffsetQuery::Latest, Some(6)),
        ] {
            let found =
                find_here(&unpacker, &handle, at, Isolation::Uncommitted, None).await.unwrap();
            assert_eq!(found.offset, offset.map(Offset), "{at:?}");
        }
    });
}
