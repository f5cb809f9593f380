//! What replicas ask of the controller, collected from all shards and sent in as few calls as it takes: AlterPartition
//! requests, and reports of leader replicas that have failed, of data that was lost, and of disks that are away.
//!
//! Promise: every AlterPartition request is answered to its actor, if only with "unavailable"; a report of a failed
//! leader is repeated until the controller has it or the epoch is over, any other until it has it.

use crate::controller_channel::{ControllerChannel, Route};
use crate::metadata_cache::MetadataCache;
use crate::partition::{ControllerRequest, IsrAnswer, LossKnown, ReplicaHandle};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use troupe_machines::cluster::ClusterImage;
use troupe_machines::replica::{AlterPartition, AlterPartitionError, CommittedIsr};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, MetadataOffset, NodeId, PartitionEpoch, PartitionKey};
use troupe_proto::internal::v1 as pb;
use troupe_proto::internal::v1::controller_service_client::ControllerServiceClient;

/// Requests of one call.
const REQUESTS_TOGETHER: usize = 2_000;
/// Before a report is repeated.
const RETRY: Duration = Duration::from_millis(50);
/// Longest wait for the controller's answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The way to the controller, and what is known of its decisions.
#[derive(Clone)]
pub struct ControllerRequestSender {
    pub controller: Arc<ControllerChannel>,
    pub metadata: Arc<MetadataCache>,
    /// Cancelled when the node has stopped.
    pub gone: CancellationToken,
}

impl ControllerRequestSender {
    /// Until the node stops. Calls of all kinds run beside each other, one of each at a time.
    pub async fn run(self, mut requests: mpsc::UnboundedReceiver<ControllerRequest>) {
        let (failures, failed) = mpsc::unbounded_channel();
        let (isrs, alterations) = mpsc::unbounded_channel();
        let (losses, lost) = mpsc::unbounded_channel();
        let (departures, offline) = mpsc::unbounded_channel();
        let gone = self.gone.clone();
        tokio::spawn(self.clone().report_failed(failed));
        tokio::spawn(self.clone().report_state(lost, State::Lost));
        tokio::spawn(self.clone().report_state(offline, State::Offline));
        tokio::spawn(self.alter_all(alterations));
        loop {
            let request = tokio::select! {
                request = requests.recv() => request,
                () = gone.cancelled() => None,
            };
            let sent = match request {
                Some(ControllerRequest::AlterPartition { replica, request }) => {
                    isrs.send((replica, request)).is_ok()
                }
                Some(ControllerRequest::FailedLeader { key, leader_epoch }) => {
                    failures.send((key, leader_epoch)).is_ok()
                }
                Some(ControllerRequest::LostData(replica)) => losses.send(replica).is_ok(),
                Some(ControllerRequest::OfflineReplica(replica)) => {
                    departures.send(replica).is_ok()
                }
                None => false,
            };
            if !sent {
                return;
            }
        }
    }

    async fn report_failed(
        self,
        mut reports: mpsc::UnboundedReceiver<(PartitionKey, LeaderEpoch)>,
    ) {
        let mut together = Vec::new();
        let mut due: HashMap<PartitionKey, LeaderEpoch> = HashMap::new();
        loop {
            if due.is_empty() && reports.recv_many(&mut together, REQUESTS_TOGETHER).await == 0 {
                return;
            }
            while let Ok(report) = reports.try_recv() {
                together.push(report);
            }
            due.extend(together.drain(..));
            {
                let image = self.metadata.image.borrow();
                due.retain(|key, epoch| {
                    image.partition(key).is_some_and(|known| known.leader_epoch <= *epoch)
                });
            }
            if due.is_empty() {
                continue;
            }
            let replicas = due.iter().map(|(key, leader_epoch)| pb::ReplicaReport {
                topic_id: key.topic_id.to_wire(),
                partition: key.partition.0,
                leader_epoch: leader_epoch.0,
                lost: false,
                offline: false,
            });
            let replicas: Vec<_> = replicas.collect();
            match within(self.report(replicas)).await {
                Ok(_) => due.clear(),
                Err(error) => {
                    tracing::debug!(%error, "dead leader replicas could not be reported yet");
                    tokio::select! {
                        () = tokio::time::sleep(RETRY) => {}
                        () = self.gone.cancelled() => return,
                    }
                }
            }
        }
    }

    /// Repeated until the controller has them.
    async fn report_state(
        self,
        mut reports: mpsc::UnboundedReceiver<Arc<dyn ReplicaHandle>>,
        state: State,
    ) {
        let mut due: Vec<Arc<dyn ReplicaHandle>> = Vec::new();
        loop {
            if due.is_empty() && reports.recv_many(&mut due, REQUESTS_TOGETHER).await == 0 {
                return;
            }
            let replicas = due.iter().map(|replica| pb::ReplicaReport {
                topic_id: replica.key().topic_id.to_wire(),
                partition: replica.key().partition.0,
                // Void for a controller that knows of dead leaders only.
                leader_epoch: 0,
                lost: state == State::Lost,
                offline: state == State::Offline,
            });
            let replicas = replicas.collect();
            match within(self.report(replicas)).await {
                Ok(known) => {
                    if !self.has_come(known).await {
                        return;
                    }
                    for replica in due.drain(..) {
                        if state == State::Offline {
                            replica.hear_offline_known();
                            continue;
                        }
                        let image = self.metadata.now();
                        let partition = known.and_then(|_| image.partition(&replica.key()));
                        let from = partition.map(|partition| partition.partition_epoch);
                        replica.hear_loss_known(LossKnown { from });
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, ?state, "replicas could not be reported yet");
                    tokio::select! {
                        () = tokio::time::sleep(RETRY) => {}
                        () = self.gone.cancelled() => return,
                    }
                }
            }
        }
    }

    /// What the controller has decided is in the image of the cluster here. False: the node has stopped.
    async fn has_come(&self, known: Option<MetadataOffset>) -> bool {
        let mut images = self.metadata.image.clone();
        let has_it =
            |image: &Arc<ClusterImage>| known.is_none_or(|known| image.next_offset() >= known);
        tokio::select! {
            found = images.wait_for(has_it) => found.is_ok(),
            () = self.gone.cancelled() => false,
        }
    }

    /// Answers with the metadata offset up to which an image shows what came of it; `None` from a controller that does
    /// not say so.
    async fn report(
        &self,
        replicas: Vec<pb::ReplicaReport>,
    ) -> Result<Option<MetadataOffset>, Error> {
        let identity = self.controller.identity();
        match self.controller.route()? {
            Route::Here(local) => {
                let of = |lost, offline| {
                    let reports = replicas.iter();
                    let reports =
                        reports.filter(move |it| (it.lost, it.offline) == (lost, offline));
                    reports.filter_map(report_from_wire)
                };
                let (node_id, epoch) = (identity.node_id, identity.broker_epoch);
                let lost = of(true, false).map(|(key, _)| key).collect();
                let offline = of(false, true).map(|(key, _)| key).collect();
                local.lose_replicas(node_id, epoch, lost).await?;
                local.withdraw_replicas(node_id, epoch, offline).await?;
                local.fail_replicas(node_id, epoch, of(false, false).collect()).await?;
                let known = local.image().borrow().next_offset();
                Ok(Some(known))
            }
            Route::There(channel) => {
                let request = pb::ReportReplicasRequest { caller: identity.caller(), replicas };
                let mut controller = ControllerServiceClient::new(channel);
                let known = controller.report_replicas(request).await?.into_inner().metadata_offset;
                Ok((known > 0).then_some(MetadataOffset(known)))
            }
        }
    }

    async fn alter_all(self, mut wanted: mpsc::UnboundedReceiver<Alteration>) {
        let mut together = Vec::new();
        while wanted.recv_many(&mut together, REQUESTS_TOGETHER).await > 0 {
            let partitions = together.iter().map(|(replica, request)| {
                let key = replica.key();
                pb::AlterPartition {
                    topic_id: key.topic_id.to_wire(),
                    partition: key.partition.0,
                    leader_epoch: request.leader_epoch.0,
                    partition_epoch: request.partition_epoch.0,
                    in_sync_replicas: request
                        .isr
                        .iter()
                        .map(|member| pb::InSyncReplica {
                            node_id: member.node.0,
                            broker_epoch: member.broker_epoch.map(|epoch| epoch.0),
                        })
                        .collect(),
                    // What an unclean election lost is lost: there is nothing else to recover.
                    recovered: true,
                }
            });
            let answer = within(self.alter(partitions.collect())).await;
            let count = together.len();
            let answers: Vec<_> = match answer {
                Ok(answers) if answers.len() == count => {
                    answers.into_iter().map(committed).collect()
                }
                Ok(_) => vec![Err(AlterPartitionError::Unavailable); count],
                Err(error) => {
                    tracing::debug!(%error, "the ISR could not be altered yet");
                    vec![Err(AlterPartitionError::Unavailable); count]
                }
            };
            for ((replica, request), result) in together.drain(..).zip(answers) {
                if let Err(error) = &result {
                    tracing::debug!(partition = %replica, %error, "the ISR was not altered");
                }
                replica.hear_isr(IsrAnswer { request, result });
            }
        }
    }

    async fn alter(
        &self,
        partitions: Vec<pb::AlterPartition>,
    ) -> Result<Vec<pb::AlteredPartition>, Error> {
        let identity = self.controller.identity();
        match self.controller.route()? {
            // A cluster of one has nobody to be in sync with.
            Route::Here(_) if self.controller.voters().is_empty() => {
                Err(Error::new(ErrorCode::NotController, "a node alone has no ISR to alter"))
            }
            Route::Here(_) => {
                let channel = self.controller.channel(self.metadata.node_id)?;
                alter_at(channel, identity.caller(), partitions).await
            }
            Route::There(channel) => alter_at(channel, identity.caller(), partitions).await,
        }
    }
}

/// What the controller has to know of a replica, whether it leads or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Lost,
    Offline,
}

type Alteration = (Arc<dyn ReplicaHandle>, AlterPartition);

fn report_from_wire(report: &pb::ReplicaReport) -> Option<(PartitionKey, LeaderEpoch)> {
    let topic_id = troupe_proto::ids::TopicId::from_wire(&report.topic_id)?;
    let partition = troupe_proto::ids::PartitionId(report.partition);
    Some((PartitionKey { topic_id, partition }, LeaderEpoch(report.leader_epoch)))
}

async fn alter_at(
    channel: tonic::transport::Channel,
    caller: Option<pb::BrokerCaller>,
    partitions: Vec<pb::AlterPartition>,
) -> Result<Vec<pb::AlteredPartition>, Error> {
    let request = pb::AlterPartitionsRequest { caller, partitions };
    let answer = ControllerServiceClient::new(channel).alter_partitions(request).await?;
    Ok(answer.into_inner().partitions)
}

fn committed(answer: pb::AlteredPartition) -> Result<CommittedIsr, AlterPartitionError> {
    match answer.error {
        None => Ok(CommittedIsr {
            leader_epoch: LeaderEpoch(answer.leader_epoch),
            partition_epoch: PartitionEpoch(answer.partition_epoch),
            isr: answer.in_sync_replicas.into_iter().map(NodeId).collect(),
        }),
        Some(detail) => Err(match Error::from(detail).code {
            ErrorCode::FencedLeaderEpoch | ErrorCode::NotLeader | ErrorCode::NewLeaderElected => {
                AlterPartitionError::FencedLeaderEpoch
            }
            ErrorCode::StalePartitionEpoch => AlterPartitionError::StalePartitionEpoch,
            ErrorCode::IneligibleReplica => AlterPartitionError::IneligibleReplica,
            ErrorCode::InvalidRequest => AlterPartitionError::InvalidRequest,
            // Among them a topic that is deleted just now: its leader will be stopped.
            _ => AlterPartitionError::Unavailable,
        }),
    }
}

async fn within<T>(call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::time::timeout(PATIENCE, call).await.unwrap_or_else(|_| {
        Err(Error::new(ErrorCode::RequestTimedOut, "the controller gave no answer in time"))
    })
}
