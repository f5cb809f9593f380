//! What replicas want of the controller: another ISR, another leader. Collected from all shards, and asked for
//! in as few calls as it takes.
//!
//! Promise: every wish for another ISR is answered to its actor, if only with "unavailable"; a report of a dead
//! leader is repeated until the controller has it or the epoch is over, one of a damaged log until it has it.

use crate::context::Context;
use crate::controller_channel::Route;
use crate::partition::{IsrAnswer, LossKnown, PartitionHandle};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use troupe_machines::cluster::ClusterImage;
use troupe_machines::replica::{AlterPartition, AlterPartitionError, CommittedIsr};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, MetadataOffset, NodeId, PartitionEpoch, PartitionKey};
use troupe_proto::internal::v1 as pb;
use troupe_proto::internal::v1::controller_service_client::ControllerServiceClient;

/// Wishes of one call.
const WISHES_TOGETHER: usize = 2_000;
/// Before a report is repeated.
const RETRY: Duration = Duration::from_millis(50);
/// Longest wait for the controller's answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where replicas leave their wishes. A partition has one wish of each kind at a time, which bounds the queue.
#[derive(Clone)]
pub struct Wishes {
    queue: mpsc::UnboundedSender<Wish>,
}

/// The other end.
pub struct WishQueue(mpsc::UnboundedReceiver<Wish>);

enum Wish {
    Isr { handle: Arc<PartitionHandle>, request: AlterPartition },
    Election { key: PartitionKey, leader_epoch: LeaderEpoch },
    Loss(Arc<PartitionHandle>),
}

pub fn wishes() -> (Wishes, WishQueue) {
    let (queue, wishes) = mpsc::unbounded_channel();
    (Wishes { queue }, WishQueue(wishes))
}

impl Wishes {
    /// Answered with [`IsrAnswer`].
    pub fn alter_partition(&self, handle: &Arc<PartitionHandle>, request: AlterPartition) {
        let wish = Wish::Isr { handle: Arc::clone(handle), request };
        // Fails only when the node has stopped.
        let _ = self.queue.send(wish);
    }

    /// The leader replica here is dead, or cannot lead in this epoch.
    pub fn elect_another(&self, key: PartitionKey, leader_epoch: LeaderEpoch) {
        let _ = self.queue.send(Wish::Election { key, leader_epoch });
    }

    /// The replica lacks what it had acknowledged. Answered with [`LossKnown`], and on its board.
    pub fn report_loss(&self, handle: &Arc<PartitionHandle>) {
        let _ = self.queue.send(Wish::Loss(Arc::clone(handle)));
    }
}

impl WishQueue {
    /// The elections that are wished for by now.
    #[cfg(test)]
    pub fn elections(&mut self) -> Vec<(PartitionKey, LeaderEpoch)> {
        let wishes = std::iter::from_fn(|| self.0.try_recv().ok());
        let elections = wishes.filter_map(|wish| match wish {
            Wish::Election { key, leader_epoch } => Some((key, leader_epoch)),
            Wish::Isr { .. } | Wish::Loss(_) => None,
        });
        elections.collect()
    }

    /// Until the node stops. Calls of both kinds run beside each other, one of each at a time.
    pub async fn run(mut self, context: Arc<Context>) {
        let (elections, reports) = mpsc::unbounded_channel();
        let (isrs, alterations) = mpsc::unbounded_channel();
        let (losses, lost) = mpsc::unbounded_channel();
        let shutdown = context.gone.clone();
        tokio::spawn(report_all(Arc::clone(&context), reports));
        tokio::spawn(report_losses(Arc::clone(&context), lost));
        tokio::spawn(alter_all(context, alterations));
        loop {
            let wish = tokio::select! {
                wish = self.0.recv() => wish,
                () = shutdown.cancelled() => None,
            };
            let sent = match wish {
                Some(Wish::Isr { handle, request }) => isrs.send((handle, request)).is_ok(),
                Some(Wish::Election { key, leader_epoch }) => {
                    elections.send((key, leader_epoch)).is_ok()
                }
                Some(Wish::Loss(handle)) => losses.send(handle).is_ok(),
                None => false,
            };
            if !sent {
                return;
            }
        }
    }
}

async fn report_all(
    context: Arc<Context>,
    mut reports: mpsc::UnboundedReceiver<(PartitionKey, LeaderEpoch)>,
) {
    let mut together = Vec::new();
    let mut due: HashMap<PartitionKey, LeaderEpoch> = HashMap::new();
    loop {
        if due.is_empty() && reports.recv_many(&mut together, WISHES_TOGETHER).await == 0 {
            return;
        }
        while let Ok(report) = reports.try_recv() {
            together.push(report);
        }
        due.extend(together.drain(..));
        {
            let image = context.metadata.image.borrow();
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
        });
        let replicas: Vec<_> = replicas.collect();
        match within(report(&context, replicas)).await {
            Ok(_) => due.clear(),
            Err(error) => {
                tracing::debug!(%error, "dead leader replicas could not be reported yet");
                tokio::select! {
                    () = tokio::time::sleep(RETRY) => {}
                    () = context.gone.cancelled() => return,
                }
            }
        }
    }
}

/// Repeated until the controller has them. One partition each time more at most: they are few.
async fn report_losses(
    context: Arc<Context>,
    mut losses: mpsc::UnboundedReceiver<Arc<PartitionHandle>>,
) {
    let mut due: Vec<Arc<PartitionHandle>> = Vec::new();
    loop {
        if due.is_empty() && losses.recv_many(&mut due, WISHES_TOGETHER).await == 0 {
            return;
        }
        let replicas = due.iter().map(|handle| pb::ReplicaReport {
            topic_id: handle.key().topic_id.to_wire(),
            partition: handle.key().partition.0,
            // Void for a controller that knows of dead leaders only.
            leader_epoch: 0,
            lost: true,
        });
        let replicas = replicas.collect();
        match within(report(&context, replicas)).await {
            Ok(known) => {
                if !has_come(&context, known).await {
                    return;
                }
                for handle in due.drain(..) {
                    let image = context.metadata.now();
                    let partition = known.and_then(|_| image.partition(&handle.key()));
                    let from = partition.map(|partition| partition.partition_epoch);
                    handle.command(LossKnown { from });
                    handle.board.report_made();
                }
            }
            Err(error) => {
                tracing::debug!(%error, "damaged replicas could not be reported yet");
                tokio::select! {
                    () = tokio::time::sleep(RETRY) => {}
                    () = context.gone.cancelled() => return,
                }
            }
        }
    }
}

/// What the controller has decided is in the picture of the cluster here. False: the node has stopped.
async fn has_come(context: &Context, known: Option<MetadataOffset>) -> bool {
    let mut images = context.metadata.image.clone();
    let has_it = |image: &Arc<ClusterImage>| known.is_none_or(|known| image.next_offset() >= known);
    tokio::select! {
        found = images.wait_for(has_it) => found.is_ok(),
        () = context.gone.cancelled() => false,
    }
}

/// Answers with the metadata offset up to which an image shows what came of it; `None` from a controller that does
/// not say so.
async fn report(
    context: &Context,
    replicas: Vec<pb::ReplicaReport>,
) -> Result<Option<MetadataOffset>, Error> {
    let identity = context.controller.identity();
    match context.controller.route()? {
        Route::Here(local) => {
            let (lost, dead): (Vec<_>, Vec<_>) = replicas.iter().partition(|report| report.lost);
            let lost = lost.into_iter().filter_map(report_from_wire).map(|(key, _)| key).collect();
            let dead = dead.into_iter().filter_map(report_from_wire).collect();
            local.lose_replicas(identity.node_id, identity.broker_epoch, lost).await?;
            local.fail_replicas(identity.node_id, identity.broker_epoch, dead).await?;
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

fn report_from_wire(report: &pb::ReplicaReport) -> Option<(PartitionKey, LeaderEpoch)> {
    let topic_id = troupe_proto::ids::TopicId::from_wire(&report.topic_id)?;
    let partition = troupe_proto::ids::PartitionId(report.partition);
    Some((PartitionKey { topic_id, partition }, LeaderEpoch(report.leader_epoch)))
}

type Alteration = (Arc<PartitionHandle>, AlterPartition);

async fn alter_all(context: Arc<Context>, mut wanted: mpsc::UnboundedReceiver<Alteration>) {
    let mut together = Vec::new();
    while wanted.recv_many(&mut together, WISHES_TOGETHER).await > 0 {
        let partitions = together.iter().map(|(handle, request)| {
            let key = handle.key();
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
        let answer = within(alter(&context, partitions.collect())).await;
        let count = together.len();
        let answers: Vec<_> = match answer {
            Ok(answers) if answers.len() == count => answers.into_iter().map(committed).collect(),
            Ok(_) => vec![Err(AlterPartitionError::Unavailable); count],
            Err(error) => {
                tracing::debug!(%error, "the ISR could not be altered yet");
                vec![Err(AlterPartitionError::Unavailable); count]
            }
        };
        for ((handle, request), result) in together.drain(..).zip(answers) {
            if let Err(error) = &result {
                tracing::debug!(partition = %handle.board, %error, "the ISR was not altered");
            }
            handle.command(IsrAnswer { request, result });
        }
    }
}

async fn alter(
    context: &Context,
    partitions: Vec<pb::AlterPartition>,
) -> Result<Vec<pb::AlteredPartition>, Error> {
    let identity = context.controller.identity();
    match context.controller.route()? {
        // A cluster of one has nobody to be in sync with.
        Route::Here(_) if context.controller.voters().is_empty() => {
            Err(Error::new(ErrorCode::NotController, "a node alone has no ISR to alter"))
        }
        Route::Here(_) => {
            let channel = context.controller.channel(context.node_id)?;
            alter_at(channel, identity.caller(), partitions).await
        }
        Route::There(channel) => alter_at(channel, identity.caller(), partitions).await,
    }
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
            ErrorCode::FencedLeaderEpoch | ErrorCode::NotLeader => {
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
