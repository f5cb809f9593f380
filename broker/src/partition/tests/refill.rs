//! A log that cannot be filled on from where it ends.

use super::*;
use std::collections::VecDeque;
use std::sync::{Mutex, Weak};
use troupe_log::Log;
use troupe_log::disk::FileDisk;
use troupe_machines::replica::LeaderEnds;

/// Says this to the streams that are opened, one after the other, and keeps in mind by which positions they were.
#[derive(Default)]
struct Leader {
    says: Mutex<VecDeque<LeaderSays>>,
    opened: Mutex<Vec<(Offset, Option<Offset>)>>,
}

impl LeaderStreams for Leader {
    fn open(
        &self,
        _: NodeId,
        replica: &Arc<dyn ReplicaHandle>,
        session: FollowSession,
        position: Position,
        _: bool,
    ) {
        let opened = (position.end.log_end, position.tombstones_gone_below);
        self.opened.lock().unwrap().push(opened);
        let next = self.says.lock().unwrap().pop_front();
        let over = || LeaderSays::Closed(Error::new(ErrorCode::ShuttingDown, "it stops"));
        replica.hear_leader(FromLeader { session, says: next.unwrap_or_else(over) });
    }

    fn close(&self, _: PartitionKey, _: FollowSession) {}

    fn abandon(&self, _: PartitionKey) {}

    fn report(&self, _: PartitionKey, _: FollowSession, _: ReplicaEnd, _: u64) {}
}

struct Nobody;

impl CreditSource for Nobody {
    fn give_back(&self, _: u64) {}
}

impl Leader {
    /// Where the nth stream was opened, once it is.
    async fn nth_opened(&self, nth: usize, shard: &Shard) -> (Offset, Option<Offset>) {
        loop {
            let opened = self.opened.lock().unwrap().get(nth).copied();
            match opened {
                Some(opened) => return opened,
                None => shard.settled().await,
            }
        }
    }
}

#[test]
fn a_replica_that_needs_tombstones_begins_anew_and_says_from_then_on_what_its_leader_has_said() {
    System::new().block_on(async {
        let leader = Arc::new(Leader::default());
        let ends = LeaderEnds { tombstones_gone_below: Offset(9), ..LeaderEnds::default() };
        let source: Weak<dyn CreditSource> = Weak::<Nobody>::new();
        let accepted = Slice { read_from: None, batches: bytes::Bytes::new() };
        leader.says.lock().unwrap().extend([
            LeaderSays::BeginAnew { log_start: Offset(0) },
            LeaderSays::Batches {
                slices: vec![accepted],
                ends,
                round: 0,
                credit: Credit::new(source, 0),
            },
        ]);
        let (shard, _asked) = Shard::with_leaders(1, Arc::clone(&leader) as Arc<dyn LeaderStreams>);
        let (key, dir) = (new_key(), shard.directory.path().join("half-0"));
        let mut records = RecordSetBuilder::new();
        (0..5).for_each(|n| records.push(n, None, Some(b"value"), &[]));
        let built = records.finish(Compression::None, None).unwrap();
        let config = opening::log_config(&TopicConfig::default(), key);
        let (mut log, _) = Log::open(FileDisk, dir, key, config, 0).unwrap();
        log.append(&built.header, &Rope::from(built.payload), 0).unwrap();
        log.close_clean(Offset(5)).unwrap();
        let followed = PartitionState {
            leader: Some(NodeId(2)),
            replicas: vec![NodeId(1), NodeId(2)],
            isr: vec![NodeId(2)],
            ..PartitionState::clone(&state())
        };
        let handle = shard.open_as("half", key, Arc::new(followed));
        assert_eq!(leader.nth_opened(0, &shard).await, (Offset(5), Some(Offset(0))));
        assert_eq!(leader.nth_opened(1, &shard).await, (Offset(0), Some(Offset(0))));
        handle.describe().await.unwrap();
        handle.tell(Die::Stop);
        handle.rebuilt(1, REBUILD_PATIENCE).await.unwrap();
        assert_eq!(leader.nth_opened(2, &shard).await, (Offset(0), Some(Offset(9))));
    });
}
