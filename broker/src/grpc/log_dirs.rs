//! The log directories of a node, as `troupe.admin.v1.ClusterService` tells them.

use super::numbers::{int32, int64};
use crate::log_directories::{
    DescribedLogDir, DescribedLogDirs, LogDirs, Move, MoveRequest, MoveState, Wanted,
};
use troupe_proto::admin::v1 as pb;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::PartitionId;

pub(super) fn wanted(request: pb::DescribeLogDirsRequest) -> Result<Wanted, Error> {
    let number = |number: i32| match u32::try_from(number) {
        Ok(number) => Ok(PartitionId(number)),
        Err(_) => {
            let message = format!("{number} is no partition; they are numbered from 0");
            Err(Error::new(ErrorCode::UnknownPartition, message))
        }
    };
    let named = request.partitions.into_iter().map(|named| {
        let numbers = named.partitions.into_iter().map(number).collect::<Result<_, _>>()?;
        Ok((named.topic, numbers))
    });
    named.collect()
}

pub(super) fn described(described: DescribedLogDirs) -> pb::DescribeLogDirsResponse {
    pb::DescribeLogDirsResponse {
        node_id: described.node_id.0,
        log_dirs: described.directories.into_iter().map(directory).collect(),
        moves: described.moves.into_iter().map(replica_move).collect(),
    }
}

fn directory(directory: DescribedLogDir) -> pb::LogDir {
    let replicas = directory.replicas.into_iter().map(|replica| pb::LogDirReplica {
        topic: replica.topic,
        partition: int32(replica.partition.0),
        size_bytes: int64(replica.size_bytes),
        is_future: replica.is_future,
    });
    pb::LogDir {
        path: directory.path.display().to_string(),
        directory_id: directory.id.map_or_else(String::new, |id| id.to_string()),
        offline: directory.failure.is_some(),
        offline_reason: directory.failure.unwrap_or_default(),
        total_bytes: directory.total_bytes.map_or(0, int64),
        usable_bytes: directory.usable_bytes.map_or(0, int64),
        replicas: replicas.collect(),
        error: directory.error.map(Into::into),
    }
}

fn replica_move(one: Move) -> pb::ReplicaMove {
    let known = pb::ReplicaMove {
        topic: one.topic,
        partition: int32(one.partition.0),
        path: one.to.display().to_string(),
        state: pb::ReplicaMoveState::Waiting.into(),
        ..Default::default()
    };
    match one.state {
        MoveState::Waiting => known,
        MoveState::Copying { copied_bytes, total_bytes } => pb::ReplicaMove {
            state: pb::ReplicaMoveState::Copying.into(),
            copied_bytes: int64(copied_bytes),
            remaining_bytes: int64(total_bytes.saturating_sub(copied_bytes)),
            ..known
        },
        MoveState::Failed(error) => pb::ReplicaMove {
            state: pb::ReplicaMoveState::Failed.into(),
            error: Some(error.into()),
            ..known
        },
    }
}

/// Has one replica moved; whether that is taken.
pub(super) fn altered(log_dirs: &LogDirs, wanted: pb::ReplicaLogDir) -> pb::AlteredReplicaLogDir {
    let pb::ReplicaLogDir { topic, partition, path } = wanted;
    let request = MoveRequest { topic, partition, directory: path.into() };
    let error = log_dirs.move_replica(&request).err().map(Into::into);
    pb::AlteredReplicaLogDir { topic: request.topic, partition, error }
}
