//! A leader that says what a test has it say, and notes what it is told.

use super::*;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Mutex;
use troupe_log::Log;
use troupe_log::disk::FileDisk;
use troupe_proto::batch::BatchHeader;

/// Says this to the streams that are opened, one after the other.
#[derive(Default)]
pub(super) struct Leader {
    pub says: Mutex<VecDeque<LeaderSays>>,
    /// By which positions they were.
    opened: Mutex<Vec<(Offset, Option<Offset>)>>,
    reported: Mutex<Vec<ReplicaEnd>>,
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

    fn report(&self, _: PartitionKey, _: FollowSession, end: ReplicaEnd, _: u64) {
        self.reported.lock().unwrap().push(end);
    }
}

pub(super) struct Nobody;

impl CreditSource for Nobody {
    fn give_back(&self, _: u64) {}
}

impl Leader {
    /// Where the nth stream was opened, once it is.
    pub async fn nth_opened(&self, nth: usize, shard: &Shard) -> (Offset, Option<Offset>) {
        loop {
            let opened = self.opened.lock().unwrap().get(nth).copied();
            match opened {
                Some(opened) => return opened,
                None => shard.settled().await,
            }
        }
    }

    /// What it was told last.
    pub fn last_reported(&self) -> Option<ReplicaEnd> {
        self.reported.lock().unwrap().last().copied()
    }
}

/// Five records, each a batch, in a log that was closed well.
pub(super) fn write_five(dir: PathBuf, key: PartitionKey) {
    let config = opening::log_config(&TopicConfig::default(), key);
    let (mut log, _) = Log::open(FileDisk, dir, key, config, 0).unwrap();
    for n in 0..5 {
        let mut records = RecordSetBuilder::new();
        records.push(n, None, Some(b"value"), &[]);
        let built = records.finish(Compression::None, None).unwrap();
        let header = BatchHeader { base_offset: log.log_end(), ..built.header };
        log.append(&header, &Rope::from(built.payload), 0).unwrap();
    }
    log.close_clean(Offset(5)).unwrap();
}

/// The partition, as one that another node leads.
pub(super) fn followed() -> Arc<PartitionState> {
    Arc::new(PartitionState {
        leader: Some(NodeId(2)),
        replicas: vec![NodeId(1), NodeId(2)],
        isr: vec![NodeId(2)],
        ..PartitionState::clone(&state())
    })
}
