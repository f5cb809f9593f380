//! How the rest of the node speaks to the controller.

use crate::actor::{Ask, ControllerActor};
use crate::metadata_log::{Leadership, MetadataLog, MetadataLogHealth};
use crate::request::{Request, Responder, outcome_unknown};
use crate::supervision::{self, Board, Supervised};
use actix::{Actor, Addr, Context, Handler};
use actix_rt::{Arbiter, ArbiterHandle};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, oneshot, watch};
use troupe_actor::{Die, Guard, InFlightRequests, PauseGate};
use troupe_machines::cluster::{
    AlterConfigs, AlterPartition, AlterPartitionReassignments, Arrival, ClusterImage, Configured,
    CreatePartitions, CreateTopic, DeleteTopic, Election, LeaderBalance, METADATA_VERSION,
    PerPartition, PerReassignment, ProducerIdBlock, REASSIGNMENTS, RegisterBroker,
    SETTINGS_VERSION, Topic, UpdateTopic, version_of_topic,
};
use troupe_machines::config::metadata_version_of;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{BrokerEpoch, LeaderEpoch, MetadataOffset, NodeId, PartitionKey, TopicId};

/// How long a request may wait for an active controller and for its decision to be committed.
const PATIENCE: Duration = Duration::from_secs(30);

/// A controller, wherever it is and however often it has been rebuilt. Every request is answered: with what
/// is committed, with why not, or with `OUTCOME_UNKNOWN`.
#[derive(Clone)]
pub struct ControllerHandle {
    shared: Arc<Shared>,
    /// When whatever is asked began.
    began: Option<Instant>,
}

struct Shared {
    board: Arc<Board<ControllerActor>>,
    log: Arc<dyn MetadataLog>,
    stop: watch::Sender<bool>,
    /// And what closes when there is no controller on it any more.
    arbiter: Mutex<Option<(Arbiter, oneshot::Receiver<Infallible>)>>,
    /// Where the controller's actors live; of no use once the arbiter has stopped.
    spawner: ArbiterHandle,
    /// Requests that are not answered yet.
    in_flight: InFlightRequests,
}

impl ControllerHandle {
    pub(crate) fn new(
        Supervised { board, end }: Supervised<ControllerActor>,
        log: Arc<dyn MetadataLog>,
        stop: watch::Sender<bool>,
        arbiter: Arbiter,
    ) -> ControllerHandle {
        let spawner = arbiter.handle();
        let arbiter = Mutex::new(Some((arbiter, end)));
        let shared =
            Shared { board, log, stop, arbiter, spawner, in_flight: InFlightRequests::default() };
        ControllerHandle { shared: Arc::new(shared), began: None }
    }

    /// Its thread stands still whenever the gate is closed.
    pub(crate) fn take_part_in(&self, pause: &Arc<PauseGate>) {
        self.shared.spawner.spawn(Arc::clone(pause).take_part());
    }

    /// The same controller, for a request that began then, far from here: it is refused (`OVERTAKEN`) if something
    /// about the same topic or node was decided since.
    #[must_use]
    pub fn since(&self, began: Instant) -> ControllerHandle {
        ControllerHandle { began: Some(began), ..self.clone() }
    }

    /// The topic as it is now, or with `validate_only` as it would be. It is in the image already.
    pub async fn create_topic(&self, request: CreateTopic) -> Result<Arc<Topic>, Error> {
        if !request.validate_only && request.configs.keys().any(|key| metadata_version_of(key) > 0)
        {
            self.require_metadata_version(SETTINGS_VERSION).await?;
        }
        if !request.validate_only && version_of_topic(&request.name) > 0 {
            self.require_metadata_version(version_of_topic(&request.name)).await?;
        }
        self.ask(|responder| Request::CreateTopic(request, responder)).await
    }

    /// The topic as it is now, or with `validate_only` as it would be.
    pub async fn update_topic(&self, request: UpdateTopic) -> Result<Arc<Topic>, Error> {
        if !request.validate_only && request.set.keys().any(|key| metadata_version_of(key) > 0) {
            self.require_metadata_version(SETTINGS_VERSION).await?;
        }
        self.ask(|responder| Request::UpdateTopic(request, responder)).await
    }

    /// The topic as it is now, or with `validate_only` as it would be.
    pub async fn create_partitions(&self, request: CreatePartitions) -> Result<Arc<Topic>, Error> {
        self.ask(|responder| Request::CreatePartitions(request, responder)).await
    }

    pub async fn delete_topic(&self, request: DeleteTopic) -> Result<TopicId, Error> {
        self.ask(|responder| Request::DeleteTopic(request, responder)).await
    }

    pub async fn register_unfenced_broker(
        &self,
        request: RegisterBroker,
    ) -> Result<BrokerEpoch, Error> {
        self.ask(|responder| Request::RegisterUnfencedBroker(request, responder)).await
    }

    /// A broker that begins fenced and will hold a session (K12).
    pub async fn register_broker(
        &self,
        request: RegisterBroker,
        arrival: Arrival,
    ) -> Result<BrokerEpoch, Error> {
        self.ask(|responder| Request::RegisterBroker(request, arrival, responder)).await
    }

    /// `silent` are those that are not heard just now.
    pub async fn fence_broker(
        &self,
        node_id: NodeId,
        epoch: BrokerEpoch,
        silent: BTreeSet<NodeId>,
    ) -> Result<(), Error> {
        self.ask(|responder| Request::FenceBroker(node_id, epoch, silent, responder)).await
    }

    pub async fn unfence_broker(&self, node_id: NodeId, epoch: BrokerEpoch) -> Result<(), Error> {
        self.ask(|responder| Request::UnfenceBroker(node_id, epoch, responder)).await
    }

    /// What the broker's logs can take, which records of the metadata it knows, and what its listeners tell: an earlier
    /// controller may not have kept them.
    pub async fn note_versions(
        &self,
        broker: (NodeId, BrokerEpoch),
        versions: (u32, u32),
        listeners: BTreeMap<String, String>,
    ) -> Result<(), Error> {
        self.ask(|responder| Request::NoteVersions(broker, versions, listeners, responder)).await
    }

    /// The broker may stop when every active one has applied the metadata before this offset, and it leads
    /// nothing (K17).
    pub async fn begin_shutdown(
        &self,
        node_id: NodeId,
        epoch: BrokerEpoch,
    ) -> Result<MetadataOffset, Error> {
        self.ask(|responder| Request::BeginShutdown(node_id, epoch, responder)).await
    }

    /// Ends a drain that [`ControllerHandle::begin_shutdown`] began.
    pub async fn resume_broker(&self, node_id: NodeId) -> Result<(), Error> {
        self.ask(|responder| Request::ResumeBroker(node_id, responder)).await
    }

    /// Nothing is placed on it any more, and others lead. How many leaderships moved.
    pub async fn retire_broker(&self, node_id: NodeId) -> Result<usize, Error> {
        let behind = self.shared.log.voters_behind(METADATA_VERSION);
        self.ask(|responder| Request::RetireBroker(node_id, behind, responder)).await
    }

    /// Ends a retirement that [`ControllerHandle::retire_broker`] began.
    pub async fn keep_broker(&self, node_id: NodeId) -> Result<(), Error> {
        self.ask(|responder| Request::KeepBroker(node_id, responder)).await
    }

    pub async fn unregister_broker(&self, node_id: NodeId) -> Result<(), Error> {
        self.ask(|responder| Request::UnregisterBroker(node_id, responder)).await
    }

    /// What the leaders among this broker's replicas want their ISRs to be (R9).
    pub async fn alter_partitions(
        &self,
        node_id: NodeId,
        epoch: BrokerEpoch,
        requests: Vec<AlterPartition>,
    ) -> Result<PerPartition, Error> {
        self.ask(|responder| Request::AlterPartitions(node_id, epoch, requests, responder)).await
    }

    /// Leader replicas that are dead on this broker, each with the epoch in which it led: others lead at once,
    /// or the same again in a new epoch.
    pub async fn fail_replicas(
        &self,
        node_id: NodeId,
        epoch: BrokerEpoch,
        reports: Vec<(PartitionKey, LeaderEpoch)>,
    ) -> Result<(), Error> {
        self.ask(|responder| Request::FailReplicas(node_id, epoch, reports, responder)).await
    }

    /// Replicas on this broker that lack what they had acknowledged.
    pub async fn lose_replicas(
        &self,
        node_id: NodeId,
        epoch: BrokerEpoch,
        keys: Vec<PartitionKey>,
    ) -> Result<(), Error> {
        self.ask(|responder| Request::LoseReplicas(node_id, epoch, keys, responder)).await
    }

    /// Replicas on this broker whose disk has failed, or is not there.
    pub async fn withdraw_replicas(
        &self,
        node_id: NodeId,
        epoch: BrokerEpoch,
        keys: Vec<PartitionKey>,
    ) -> Result<(), Error> {
        self.ask(|responder| Request::WithdrawReplicas(node_id, epoch, keys, responder)).await
    }

    /// Of how many partitions it is clear that their leader went on without who was in sync before.
    pub async fn confirm_leaders(&self, silent: BTreeSet<NodeId>) -> Result<usize, Error> {
        self.ask(|responder| Request::ConfirmLeaders(silent, responder)).await
    }

    pub async fn elect_leaders(
        &self,
        keys: Vec<PartitionKey>,
        election: Election,
    ) -> Result<PerPartition, Error> {
        self.ask(|responder| Request::ElectLeaders(keys, election, responder)).await
    }

    /// What the replicas of partitions are to be (R34); each partition succeeds or fails for itself.
    pub async fn alter_partition_reassignments(
        &self,
        request: AlterPartitionReassignments,
    ) -> Result<PerReassignment, Error> {
        let behind = self.shared.log.voters_behind(REASSIGNMENTS);
        self.ask(|responder| Request::AlterPartitionReassignments(request, behind, responder)).await
    }

    /// How many leaderships went back to where they are preferred (R17).
    pub async fn balance_leaders(&self, balance: LeaderBalance) -> Result<usize, Error> {
        self.ask(|responder| Request::BalanceLeaders(balance, responder)).await
    }

    /// How many partitions without leader got one (R15).
    pub async fn elect_leaderless(&self) -> Result<usize, Error> {
        self.ask(Request::ElectLeaderless).await
    }

    /// Changes settings of one resource: all of it or nothing.
    pub async fn alter_configs(&self, request: AlterConfigs) -> Result<(), Error> {
        let topic = matches!(request.resource, Configured::Topic(_));
        let named = request.alterations.iter().map(|(key, _)| metadata_version_of(key));
        if !request.validate_only && (!topic || named.max() > Some(0)) {
            self.require_metadata_version(SETTINGS_VERSION).await?;
        }
        self.ask(|responder| Request::AlterConfigs(request, responder)).await
    }

    /// Returns once records of that version may be decided.
    ///
    /// # Errors
    /// Not before every voter and every registered broker is known to know them.
    async fn require_metadata_version(&self, version: u32) -> Result<(), Error> {
        if self.image().borrow().metadata_version() >= version {
            return Ok(());
        }
        let behind = self.shared.log.voters_behind(version);
        self.ask(|responder| Request::RaiseMetadataVersion(version, behind, responder)).await
    }

    pub async fn allocate_producer_ids(
        &self,
        node_id: NodeId,
        epoch: BrokerEpoch,
    ) -> Result<ProducerIdBlock, Error> {
        self.ask(|responder| Request::AllocateProducerIds(node_id, epoch, responder)).await
    }

    /// Returns once there is an active controller here that knows all that was ever committed.
    pub(crate) async fn await_active(&self) -> Result<(), Error> {
        self.ask(Request::AwaitActive).await
    }

    /// Another actor beside the controller's, supervised until the controller shuts down.
    pub(crate) fn supervise<A: Actor<Context = Context<A>> + Handler<Die>>(
        &self,
        name: &'static str,
        make: impl Fn(Guard<Infallible>) -> A + Send + 'static,
    ) -> Arc<Board<A>> {
        supervision::supervise(&self.shared.spawner, name, make, self.shared.stop.subscribe()).board
    }

    /// The committed image, and every change to it.
    pub fn image(&self) -> watch::Receiver<Arc<ClusterImage>> {
        self.shared.log.image()
    }

    /// Who leads the metadata quorum, as far as this node knows, and every change to it.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.shared.log.leadership()
    }

    /// When this node has last heard the leader of the quorum that it follows; `None`: never.
    pub fn leader_heard(&self) -> Option<Instant> {
        self.shared.log.leader_heard()
    }

    /// Whether what this node keeps of the metadata log is whole.
    pub fn metadata_health(&self) -> watch::Receiver<MetadataLogHealth> {
        self.shared.log.health()
    }

    /// For how long the oldest request that waits for the controller's answer has waited.
    pub fn oldest_wait(&self) -> Option<Duration> {
        self.shared.in_flight.oldest().map(|since| since.elapsed())
    }

    /// The active controller, as far as this node knows.
    pub fn controller_id(&self) -> Option<NodeId> {
        self.shared.log.leadership().borrow().leader
    }

    /// How often the actor was made again.
    pub fn restarts(&self) -> u32 {
        self.shared.board.restarts()
    }

    /// Chaos: drops the actor with all it holds; returns when its supervisor has made a new one that decides.
    pub async fn kill(&self) -> Result<(), Error> {
        self.die(Die::Stop).await
    }

    /// Chaos: the same by a panic.
    pub async fn panic(&self) -> Result<(), Error> {
        self.die(Die::Panic).await
    }

    async fn die(&self, die: Die) -> Result<(), Error> {
        supervision::kill(&self.shared.board, die).await?;
        // If the controller is shutting down, this says so.
        match self.await_active().await {
            // The new one stands by, as the old one did.
            Err(error) if error.code == ErrorCode::NotController => Ok(()),
            answer => answer,
        }
    }

    /// Stops deciding, flushes, closes. Then the directory can be opened again. More than once is once.
    /// A leader of several voters has another take over first.
    pub async fn shutdown(&self) -> Result<(), Error> {
        self.stop_deciding().await;
        self.shared.log.shutdown().await;
        Ok(())
    }

    /// Chaos: the same as if the process had been killed, except that the directory can be opened again.
    pub async fn abandon(&self) {
        self.stop_deciding().await;
        self.shared.log.abandon().await;
    }

    async fn stop_deciding(&self) {
        self.shared.stop.send_replace(true);
        let mut arbiter = self.shared.arbiter.lock().await;
        if let Some((arbiter, end)) = arbiter.take() {
            // Nothing is ever sent: it closes.
            let _ = end.await;
            arbiter.stop();
            let joined = tokio::task::spawn_blocking(move || arbiter.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("the controller's arbiter panicked");
            }
        }
    }

    async fn ask<T>(&self, request: impl FnOnce(Responder<T>) -> Request) -> Result<T, Error> {
        let (responder, answer) = Responder::new();
        let request = Ask { request: request(responder), began: self.began };
        let _in_flight = self.shared.in_flight.hold(Instant::now(), 0);
        let asked = async {
            // A mailbox that closes drops the request, whose responder then answers.
            let _ = self.address().await?.send(request).await;
            answer.await.unwrap_or_else(|_| Err(outcome_unknown()))
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::new(
                ErrorCode::RequestTimedOut,
                "the controller did not answer in time; look whether it was done",
            )),
        }
    }

    async fn address(&self) -> Result<Addr<ControllerActor>, Error> {
        supervision::address(&self.shared.board).await
    }
}
