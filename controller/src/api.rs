//! What brokers ask of the controller by gRPC, in the wire's terms.
//!
//! Promises: nothing is asked of a controller that is not active, and the refusal says who is, as far as this
//! node knows; no broker of another cluster gets further than its first call.
//! Never here: a decision, a stream.

use crate::config::ControllerConfig;
use crate::handle::ControllerHandle;
use crate::sessions::BrokerSessions;
use crate::voters::VoterSet;
use bytes::Bytes;
use troupe_machines::cluster::{AlterPartition, Arrival, IsrMember, Partition, RegisterBroker};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{
    BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch, PartitionId, PartitionKey, TopicId,
};
use troupe_proto::internal::v1 as pb;

/// Answers brokers, as long as this node's controller is the active one. Clones are the same.
#[derive(Clone)]
pub struct ControllerApi {
    controller: ControllerHandle,
    sessions: BrokerSessions,
    voters: VoterSet,
    /// `None`: whichever the metadata says.
    cluster_id: Option<String>,
}

/// Errors of every call: `NOT_CONTROLLER`, `INCONSISTENT_CLUSTER_ID`, `INVALID_REQUEST`, and the controller's
/// own; after registration also `STALE_BROKER_EPOCH` and `BROKER_NOT_REGISTERED`.
impl ControllerApi {
    pub(crate) fn new(
        controller: &ControllerHandle,
        sessions: &BrokerSessions,
        voters: &VoterSet,
        config: &ControllerConfig,
    ) -> ControllerApi {
        ControllerApi {
            controller: controller.clone(),
            sessions: sessions.clone(),
            voters: voters.clone(),
            cluster_id: config.cluster_id.clone(),
        }
    }

    /// A broker that comes (back), fenced (K12). An empty cluster id: it does not know yet.
    pub async fn register_broker(
        &self,
        request: pb::RegisterBrokerRequest,
    ) -> Result<pb::RegisterBrokerResponse, Error> {
        let caller = request.caller.ok_or_else(nobody)?;
        if !caller.cluster_id.is_empty() {
            self.check_cluster(&caller)?;
        }
        self.check_active()?;
        let node_id = node_id(caller.node_id)?;
        let incarnation = request.incarnation_id[..].try_into();
        let incarnation = incarnation.map_err(|_| invalid("an incarnation id has 16 bytes"))?;
        let arrival = Arrival {
            predecessor_alive: self.sessions.is_alive(node_id).await?,
            stopped_cleanly: request.stopped_cleanly.map(BrokerEpoch),
            holds_nothing: request.holds_nothing,
            silent: self.sessions.silent().await?,
        };
        let request = RegisterBroker {
            node_id,
            incarnation,
            cluster_id: Some(caller.cluster_id).filter(|id| !id.is_empty()),
            endpoint: request.endpoint,
            listeners: request.listeners,
            http_endpoint: request.http_endpoint,
            rack: Some(request.rack),
            log_version: request.log_version,
            metadata_version: request.metadata_version,
        };
        let registered = self.controller.register_broker(request, arrival).await;
        let epoch = registered.map_err(|error| self.voters.direct(error))?;
        let cluster_id = self.controller.image().borrow().cluster_id().map(str::to_owned);
        Ok(pb::RegisterBrokerResponse {
            broker_epoch: epoch.0,
            metadata_offset: epoch.0 + 1,
            cluster_id: cluster_id.unwrap_or_default(),
        })
    }

    /// What leaders want their ISRs to be (R9); each partition is answered for itself.
    pub async fn alter_partitions(
        &self,
        request: pb::AlterPartitionsRequest,
    ) -> Result<pb::AlterPartitionsResponse, Error> {
        let (node_id, epoch) = self.check(request.caller)?;
        let requests = request.partitions.into_iter().map(alter_partition);
        let requests: Vec<_> = requests.collect::<Result<_, _>>()?;
        let altered = self.controller.alter_partitions(node_id, epoch, requests).await;
        let altered = altered.map_err(|error| self.voters.direct(error))?;
        let answer = |altered: Result<Partition, _>| match altered {
            Ok(partition) if partition.leader != Some(node_id) => pb::AlteredPartition {
                leader_epoch: partition.leader_epoch.0,
                partition_epoch: partition.partition_epoch.0,
                error: Some(new_leader_elected(&partition).into()),
                ..pb::AlteredPartition::default()
            },
            Ok(partition) => pb::AlteredPartition {
                leader_epoch: partition.leader_epoch.0,
                partition_epoch: partition.partition_epoch.0,
                in_sync_replicas: partition.isr.iter().map(|node| node.0).collect(),
                error: None,
            },
            Err(refusal) => {
                let error = Some(Error::from(refusal).into());
                pb::AlteredPartition { error, ..pb::AlteredPartition::default() }
            }
        };
        let partitions = altered.into_iter().map(answer).collect();
        Ok(pb::AlterPartitionsResponse { partitions })
    }

    /// Leader replicas that are dead: others lead at once. Replicas that lack what they had acknowledged, and those
    /// whose disk is away.
    pub async fn report_replicas(
        &self,
        request: pb::ReportReplicasRequest,
    ) -> Result<pb::ReportReplicasResponse, Error> {
        let (node_id, epoch) = self.check(request.caller)?;
        let (mut lost, mut away, mut dead) = (Vec::new(), Vec::new(), Vec::new());
        for report in request.replicas {
            let key = key(&report.topic_id, report.partition)?;
            match (report.lost, report.offline) {
                (true, _) => lost.push(key),
                (false, true) => away.push(key),
                (false, false) => dead.push((key, LeaderEpoch(report.leader_epoch))),
            }
        }
        let only_dead = lost.is_empty() && away.is_empty();
        if !lost.is_empty() {
            let told = self.controller.lose_replicas(node_id, epoch, lost).await;
            told.map_err(|error| self.voters.direct(error))?;
        }
        if !away.is_empty() {
            let told = self.controller.withdraw_replicas(node_id, epoch, away).await;
            told.map_err(|error| self.voters.direct(error))?;
        }
        // Who may report is looked at even if nothing is reported.
        if only_dead || !dead.is_empty() {
            let failed = self.controller.fail_replicas(node_id, epoch, dead).await;
            failed.map_err(|error| self.voters.direct(error))?;
        }
        let metadata_offset = self.controller.image().borrow().next_offset().0;
        Ok(pb::ReportReplicasResponse { metadata_offset })
    }

    /// Producer ids that nobody has had before (K23).
    pub async fn allocate_producer_ids(
        &self,
        request: pb::AllocateProducerIdsRequest,
    ) -> Result<pb::AllocateProducerIdsResponse, Error> {
        let (node_id, epoch) = self.check(request.caller)?;
        let block = self.controller.allocate_producer_ids(node_id, epoch).await;
        let block = block.map_err(|error| self.voters.direct(error))?;
        Ok(pb::AllocateProducerIdsResponse { first: block.first.0, count: block.len })
    }

    /// The broker's leaderships move (K17).
    pub async fn begin_shutdown(
        &self,
        request: pb::BeginShutdownRequest,
    ) -> Result<pb::BeginShutdownResponse, Error> {
        let (node_id, epoch) = self.check(request.caller)?;
        let begun = self.controller.begin_shutdown(node_id, epoch).await;
        let offset = begun.map_err(|error| self.voters.direct(error))?;
        Ok(pb::BeginShutdownResponse { metadata_offset: offset.0 })
    }

    /// Who calls. Whether the epoch is still the broker's, the controller says.
    pub(crate) fn check(
        &self,
        caller: Option<pb::BrokerCaller>,
    ) -> Result<(NodeId, BrokerEpoch), Error> {
        let caller = caller.ok_or_else(nobody)?;
        self.check_cluster(&caller)?;
        self.check_active()?;
        Ok((node_id(caller.node_id)?, BrokerEpoch(caller.broker_epoch)))
    }

    fn check_cluster(&self, caller: &pb::BrokerCaller) -> Result<(), Error> {
        let image = self.controller.image().borrow().clone();
        let actual = self.cluster_id.as_deref().or(image.cluster_id());
        // Of a cluster that is just being founded, nobody can know the id.
        let Some(actual) = actual else { return Err(self.voters.not_controller(None)) };
        if caller.cluster_id == actual {
            return Ok(());
        }
        let message = format!("this is cluster '{actual}', not '{}'", caller.cluster_id);
        let error = Error::new(ErrorCode::InconsistentClusterId, message);
        Err(error.with("expected", actual).with("actual", &caller.cluster_id))
    }

    /// While it is not known who leads, the caller had better ask another voter than wait here.
    fn check_active(&self) -> Result<(), Error> {
        let leadership = *self.controller.leadership().borrow();
        if leadership.here { Ok(()) } else { Err(self.voters.not_controller(leadership.leader)) }
    }
}

/// R9: the reassignment that was completed by the request has taken the caller's replica away.
fn new_leader_elected(partition: &Partition) -> Error {
    let message = "the replicas were reassigned, and another one leads now";
    let error = Error::new(ErrorCode::NewLeaderElected, message);
    match partition.leader {
        Some(leader) => error.with_leader(leader.0, ""),
        None => error,
    }
}

fn nobody() -> Error {
    invalid("the request does not say who calls")
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorCode::InvalidRequest, message)
}

fn node_id(id: i32) -> Result<NodeId, Error> {
    if id < 0 { Err(invalid("a node id is not negative")) } else { Ok(NodeId(id)) }
}

fn key(topic_id: &Bytes, partition: u32) -> Result<PartitionKey, Error> {
    let topic_id = TopicId::from_wire(topic_id).ok_or_else(|| invalid("a malformed topic id"))?;
    Ok(PartitionKey { topic_id, partition: PartitionId(partition) })
}

fn alter_partition(request: pb::AlterPartition) -> Result<AlterPartition, Error> {
    let member = |member: pb::InSyncReplica| IsrMember {
        node: NodeId(member.node_id),
        broker_epoch: member.broker_epoch.map(BrokerEpoch),
    };
    Ok(AlterPartition {
        key: key(&request.topic_id, request.partition)?,
        leader_epoch: LeaderEpoch(request.leader_epoch),
        partition_epoch: PartitionEpoch(request.partition_epoch),
        isr: request.in_sync_replicas.into_iter().map(member).collect(),
        recovered: request.recovered,
    })
}
