//! What a shard's followers want of their leaders: a channel to each, on which the log is sent from where it ends here.
//! Carried out in `replication`.

use super::replica_handle::ReplicaHandle;
use std::sync::Arc;
use troupe_machines::replica::{FollowSession, Position, ReplicaEnd};
use troupe_proto::ids::{NodeId, PartitionKey};

pub trait LeaderStreams: Send + Sync {
    /// Follows a partition from where its log stands. Answers come as [`FromLeader`](super::FromLeader); a channel that
    /// the partition had before is closed. From the shard's own thread.
    ///
    /// With `throttled` it shares a stream with others that are, and none with the rest: what is held back there holds
    /// back nobody who is in sync.
    fn open(
        &self,
        leader: NodeId,
        replica: &Arc<dyn ReplicaHandle>,
        session: FollowSession,
        position: Position,
        throttled: bool,
    );

    /// The replica follows no more in this session.
    fn close(&self, key: PartitionKey, session: FollowSession);

    /// The replica that followed is gone: the next one names its sessions anew, and must not be taken for it.
    fn abandon(&self, key: PartitionKey);

    /// How far the replica has got, and the leader's round that this answers; 0: none.
    fn report(&self, key: PartitionKey, session: FollowSession, end: ReplicaEnd, round: u64);
}
