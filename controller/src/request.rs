//! What the controller can be asked, and how it answers.

use crate::settings::Settings;
use rand::random;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::oneshot;
use troupe_machines::cluster::{
    AlterConfigs, AlterPartition, AlterPartitionReassignments, Arrival, ClusterError, ClusterImage,
    Configured, CreatePartitions, CreateTopic, Decision, DeleteTopic, Election, LeaderBalance,
    PerPartition, PerReassignment, ProducerIdBlock, RegisterBroker, Subject, Topic, UpdateTopic,
};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{BrokerEpoch, LeaderEpoch, MetadataOffset, NodeId, PartitionKey, TopicId};
use troupe_proto::internal::v1::MetadataRecord;

pub(crate) enum Request {
    /// Changes nothing: answered once this controller is active.
    AwaitActive(Responder<()>),
    CreateTopic(CreateTopic, Responder<Arc<Topic>>),
    UpdateTopic(UpdateTopic, Responder<Arc<Topic>>),
    CreatePartitions(CreatePartitions, Responder<Arc<Topic>>),
    DeleteTopic(DeleteTopic, Responder<TopicId>),
    RegisterUnfencedBroker(RegisterBroker, Responder<BrokerEpoch>),
    RegisterBroker(RegisterBroker, Arrival, Responder<BrokerEpoch>),
    FenceBroker(NodeId, BrokerEpoch, BTreeSet<NodeId>, Responder<()>),
    UnfenceBroker(NodeId, BrokerEpoch, Responder<()>),
    NoteVersions((NodeId, BrokerEpoch), (u32, u32), BTreeMap<String, String>, Responder<()>),
    BeginShutdown(NodeId, BrokerEpoch, Responder<MetadataOffset>),
    ResumeBroker(NodeId, Responder<()>),
    UnregisterBroker(NodeId, Responder<()>),
    /// And the voters that do not know what it means.
    RetireBroker(NodeId, Vec<NodeId>, Responder<usize>),
    KeepBroker(NodeId, Responder<()>),
    AlterPartitions(NodeId, BrokerEpoch, Vec<AlterPartition>, Responder<PerPartition>),
    FailReplicas(NodeId, BrokerEpoch, Vec<(PartitionKey, LeaderEpoch)>, Responder<()>),
    LoseReplicas(NodeId, BrokerEpoch, Vec<PartitionKey>, Responder<()>),
    WithdrawReplicas(NodeId, BrokerEpoch, Vec<PartitionKey>, Responder<()>),
    /// With the voters that may be too old for it.
    AlterPartitionReassignments(
        AlterPartitionReassignments,
        Vec<NodeId>,
        Responder<PerReassignment>,
    ),
    ConfirmLeaders(BTreeSet<NodeId>, Responder<usize>),
    ElectLeaders(Vec<PartitionKey>, Election, Responder<PerPartition>),
    BalanceLeaders(LeaderBalance, Responder<usize>),
    ElectLeaderless(Responder<usize>),
    AlterConfigs(AlterConfigs, Responder<()>),
    RaiseMetadataVersion(u32, Vec<NodeId>, Responder<()>),
    AllocateProducerIds(NodeId, BrokerEpoch, Responder<ProducerIdBlock>),
}

/// An answer that waits for what it says to be committed. Told that it never was, it says so instead.
pub(crate) type Parked = Box<dyn FnOnce(Result<(), Error>) + Send>;

impl Request {
    /// What nothing else may have been decided about since the request began, and what is decided about.
    pub fn subject(&self) -> Option<Subject> {
        match self {
            Request::CreateTopic(CreateTopic { name, .. }, _)
            | Request::UpdateTopic(UpdateTopic { name, .. }, _)
            | Request::CreatePartitions(CreatePartitions { name, .. }, _)
            | Request::DeleteTopic(DeleteTopic { name, .. }, _) => {
                Some(Subject::Topic(name.clone()))
            }
            Request::RegisterUnfencedBroker(RegisterBroker { node_id, .. }, _)
            | Request::RegisterBroker(RegisterBroker { node_id, .. }, _, _)
            | Request::BeginShutdown(node_id, _, _)
            | Request::ResumeBroker(node_id, _)
            | Request::RetireBroker(node_id, _, _)
            | Request::KeepBroker(node_id, _)
            | Request::UnregisterBroker(node_id, _) => Some(Subject::Node(*node_id)),
            Request::AlterPartitionReassignments(..) => Some(Subject::Reassignments),
            Request::AlterConfigs(AlterConfigs { resource, .. }, _) => Some(match resource {
                Configured::Topic(name) => Subject::Topic(name.clone()),
                Configured::Broker(node_id) => Subject::Node(*node_id),
                Configured::Cluster => Subject::Cluster,
            }),
            // Of brokers, fenced by their epochs; or to the same end whenever they are carried out.
            Request::AwaitActive(_)
            | Request::FenceBroker(..)
            | Request::UnfenceBroker(..)
            | Request::NoteVersions(..)
            | Request::AlterPartitions(..)
            | Request::FailReplicas(..)
            | Request::LoseReplicas(..)
            | Request::WithdrawReplicas(..)
            | Request::ConfirmLeaders(..)
            | Request::ElectLeaders(..)
            | Request::BalanceLeaders(..)
            | Request::ElectLeaderless(_)
            | Request::RaiseMetadataVersion(..)
            | Request::AllocateProducerIds(..) => None,
        }
    }

    /// The records that carry the request out, and the answer for when they are committed. A refusal has
    /// no records, but it waits just the same: it may rest on decisions that are not committed yet.
    pub fn decide(
        self,
        image: &ClusterImage,
        settings: &Settings,
    ) -> (Vec<MetadataRecord>, Parked) {
        let policy = &settings.policy(image);
        match self {
            Request::AwaitActive(responder) => {
                responder.park(Ok(Decision { records: Vec::new(), answer: () }))
            }
            Request::CreateTopic(request, responder) => {
                let id = TopicId::random();
                responder.park(image.create_topic(policy, &request, id, random()))
            }
            Request::UpdateTopic(request, responder) => {
                responder.park(image.update_topic(&request))
            }
            Request::CreatePartitions(request, responder) => {
                responder.park(image.create_partitions(policy, &request, random()))
            }
            Request::DeleteTopic(request, responder) => {
                responder.park(image.delete_topic(policy, &request))
            }
            Request::RegisterUnfencedBroker(request, responder) => {
                responder.park(image.register_unfenced_broker(&request))
            }
            Request::RegisterBroker(request, arrival, responder) => {
                responder.park(image.register_broker(&request, arrival))
            }
            Request::FenceBroker(node_id, epoch, silent, responder) => {
                responder.park(image.fence_broker(node_id, epoch, Some(&silent)))
            }
            Request::UnfenceBroker(node_id, epoch, responder) => {
                responder.park(image.unfence_broker(node_id, epoch))
            }
            Request::NoteVersions((node_id, epoch), (log, metadata), listeners, responder) => {
                responder.park(image.note_versions(node_id, epoch, log, metadata, &listeners))
            }
            Request::BeginShutdown(node_id, epoch, responder) => {
                responder.park(image.begin_shutdown(node_id, epoch))
            }
            Request::ResumeBroker(node_id, responder) => {
                responder.park(image.resume_broker(node_id))
            }
            Request::UnregisterBroker(node_id, responder) => {
                responder.park(image.unregister_broker(node_id))
            }
            Request::RetireBroker(node_id, voters_behind, responder) => {
                responder.park(image.retire_broker(node_id, &voters_behind))
            }
            Request::KeepBroker(node_id, responder) => responder.park(image.keep_broker(node_id)),
            Request::AlterPartitions(node_id, epoch, requests, responder) => {
                responder.park(image.alter_partitions(node_id, epoch, &requests))
            }
            Request::FailReplicas(node_id, epoch, reports, responder) => {
                responder.park(image.fail_replicas(node_id, epoch, &reports))
            }
            Request::LoseReplicas(node_id, epoch, keys, responder) => {
                responder.park(image.lose_replicas(node_id, epoch, &keys))
            }
            Request::WithdrawReplicas(node_id, epoch, keys, responder) => {
                responder.park(image.withdraw_replicas(node_id, epoch, &keys))
            }
            Request::AlterPartitionReassignments(request, behind, responder) => {
                responder.park(image.alter_partition_reassignments(policy, &request, &behind))
            }
            Request::ConfirmLeaders(silent, responder) => {
                responder.park(Ok(image.confirm_leaders(&silent)))
            }
            Request::ElectLeaders(keys, election, responder) => {
                responder.park(Ok(image.elect_leaders(&keys, election)))
            }
            Request::BalanceLeaders(balance, responder) => {
                responder.park(Ok(image.balance_leaders(balance)))
            }
            Request::ElectLeaderless(responder) => responder.park(Ok(image.elect_leaderless())),
            Request::AlterConfigs(request, responder) => {
                responder.park(image.alter_configs(policy, settings.keys(), &request))
            }
            Request::RaiseMetadataVersion(version, behind, responder) => {
                responder.park(image.raise_metadata_version(version, &behind))
            }
            Request::AllocateProducerIds(node_id, epoch, responder) => {
                responder.park(image.allocate_producer_ids(node_id, epoch))
            }
        }
    }

    /// Answers without having tried.
    pub fn refuse(self, error: Error) {
        match self {
            Request::AwaitActive(responder)
            | Request::FenceBroker(_, _, _, responder)
            | Request::UnfenceBroker(_, _, responder)
            | Request::NoteVersions(_, _, _, responder)
            | Request::ResumeBroker(_, responder)
            | Request::KeepBroker(_, responder)
            | Request::FailReplicas(_, _, _, responder)
            | Request::LoseReplicas(_, _, _, responder)
            | Request::WithdrawReplicas(_, _, _, responder)
            | Request::AlterConfigs(_, responder)
            | Request::RaiseMetadataVersion(_, _, responder)
            | Request::UnregisterBroker(_, responder) => responder.answer(Err(error)),
            Request::BeginShutdown(_, _, responder) => responder.answer(Err(error)),
            Request::AlterPartitions(_, _, _, responder)
            | Request::ElectLeaders(_, _, responder) => responder.answer(Err(error)),
            Request::AlterPartitionReassignments(_, _, responder) => responder.answer(Err(error)),
            Request::BalanceLeaders(_, responder)
            | Request::RetireBroker(_, _, responder)
            | Request::ConfirmLeaders(_, responder)
            | Request::ElectLeaderless(responder) => {
                responder.answer(Err(error));
            }
            Request::CreateTopic(_, responder)
            | Request::UpdateTopic(_, responder)
            | Request::CreatePartitions(_, responder) => responder.answer(Err(error)),
            Request::DeleteTopic(_, responder) => responder.answer(Err(error)),
            Request::RegisterUnfencedBroker(_, responder)
            | Request::RegisterBroker(_, _, responder) => {
                responder.answer(Err(error));
            }
            Request::AllocateProducerIds(_, _, responder) => responder.answer(Err(error)),
        }
    }
}

/// The way back to who asked. Dropped unused, it says that nobody knows.
pub(crate) struct Responder<T>(Option<oneshot::Sender<Result<T, Error>>>);

impl<T: Send + 'static> Responder<T> {
    fn park(self, decided: Result<Decision<T>, ClusterError>) -> (Vec<MetadataRecord>, Parked) {
        match decided {
            Ok(Decision { records, answer }) => {
                (records, Box::new(move |committed| self.answer(committed.map(|()| answer))))
            }
            Err(refusal) => (
                Vec::new(),
                Box::new(move |committed| self.answer(committed.and(Err(refusal.into())))),
            ),
        }
    }
}

impl<T> Responder<T> {
    pub fn new() -> (Responder<T>, oneshot::Receiver<Result<T, Error>>) {
        let (sender, answer) = oneshot::channel();
        (Responder(Some(sender)), answer)
    }

    pub fn answer(mut self, answer: Result<T, Error>) {
        if let Some(sender) = self.0.take() {
            // Who asked may have gone; then nobody needs the answer.
            let _ = sender.send(answer);
        }
    }
}

impl<T> Drop for Responder<T> {
    fn drop(&mut self) {
        if let Some(sender) = self.0.take() {
            let _ = sender.send(Err(outcome_unknown()));
        }
    }
}

pub(crate) fn overtaken() -> Error {
    Error::new(
        ErrorCode::Overtaken,
        "something about the same was decided after the request began; it was not carried out",
    )
}

pub(crate) fn outcome_unknown() -> Error {
    Error::new(
        ErrorCode::OutcomeUnknown,
        "the controller stopped before it answered; look whether it was done",
    )
}
