//! How the rest of the node speaks to the controller.

use crate::actor::{Ask, ControllerActor, Kill, Panic};
use crate::metadata_log::MetadataLog;
use crate::request::{Request, Responder, outcome_unknown};
use actix::Addr;
use actix_rt::Arbiter;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use troupe_machines::cluster::{
    ClusterImage, CreatePartitions, CreateTopic, DeleteTopic, ProducerIdBlock, RegisterBroker,
    Topic, UpdateTopic,
};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{BrokerEpoch, NodeId, TopicId};

/// How long a request may wait for an active controller and for its decision to be committed.
const PATIENCE: Duration = Duration::from_secs(30);

/// A controller, wherever it is and however often it has been rebuilt. Every request is answered: with what
/// is committed, with why not, or with `OUTCOME_UNKNOWN`.
#[derive(Clone)]
pub struct ControllerHandle {
    shared: Arc<Shared>,
}

struct Shared {
    address: watch::Receiver<Option<Addr<ControllerActor>>>,
    log: Arc<dyn MetadataLog>,
    stop: watch::Sender<bool>,
    arbiter: Mutex<Option<Arbiter>>,
    restarts: Arc<AtomicU32>,
}

impl ControllerHandle {
    pub(crate) fn new(
        address: watch::Receiver<Option<Addr<ControllerActor>>>,
        log: Arc<dyn MetadataLog>,
        stop: watch::Sender<bool>,
        arbiter: Arbiter,
        restarts: Arc<AtomicU32>,
    ) -> ControllerHandle {
        let arbiter = Mutex::new(Some(arbiter));
        ControllerHandle { shared: Arc::new(Shared { address, log, stop, arbiter, restarts }) }
    }

    /// The topic as it is now, or with `validate_only` as it would be. It is in the image already.
    pub async fn create_topic(&self, request: CreateTopic) -> Result<Arc<Topic>, Error> {
        self.ask(|responder| Request::CreateTopic(request, responder)).await
    }

    /// The topic as it is now, or with `validate_only` as it would be.
    pub async fn update_topic(&self, request: UpdateTopic) -> Result<Arc<Topic>, Error> {
        self.ask(|responder| Request::UpdateTopic(request, responder)).await
    }

    /// The topic as it is now, or with `validate_only` as it would be.
    pub async fn create_partitions(&self, request: CreatePartitions) -> Result<Arc<Topic>, Error> {
        self.ask(|responder| Request::CreatePartitions(request, responder)).await
    }

    pub async fn delete_topic(&self, request: DeleteTopic) -> Result<TopicId, Error> {
        self.ask(|responder| Request::DeleteTopic(request, responder)).await
    }

    pub async fn register_broker(&self, request: RegisterBroker) -> Result<BrokerEpoch, Error> {
        self.ask(|responder| Request::RegisterBroker(request, responder)).await
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

    /// The committed picture, and every change to it.
    pub fn image(&self) -> watch::Receiver<Arc<ClusterImage>> {
        self.shared.log.image()
    }

    /// The active controller, as far as this node knows.
    pub fn controller_id(&self) -> Option<NodeId> {
        self.shared.log.leadership().borrow().leader
    }

    /// How often the actor was made again.
    pub fn restarts(&self) -> u32 {
        self.shared.restarts.load(Ordering::Relaxed)
    }

    /// Chaos: drops the actor with all it holds; returns when its supervisor has made a new one that decides.
    pub async fn kill(&self) -> Result<(), Error> {
        let mut address = self.shared.address.clone();
        let actor = self.address().await?;
        address.mark_unchanged();
        // An actor that dies of a message cannot answer it.
        let _ = actor.send(Kill).await;
        self.await_successor(address).await
    }

    /// Chaos: the same by a panic.
    pub async fn panic(&self) -> Result<(), Error> {
        let mut address = self.shared.address.clone();
        let actor = self.address().await?;
        address.mark_unchanged();
        let _ = actor.send(Panic).await;
        self.await_successor(address).await
    }

    /// Until the dead actor's address is withdrawn, and another decides.
    async fn await_successor(
        &self,
        mut address: watch::Receiver<Option<Addr<ControllerActor>>>,
    ) -> Result<(), Error> {
        // Fails only when the controller is shutting down; the question below then says so.
        let _ = address.changed().await;
        self.await_active().await
    }

    /// Stops deciding, flushes, closes. Then the directory can be opened again. More than once is once.
    pub async fn shutdown(&self) -> Result<(), Error> {
        self.shared.stop.send_replace(true);
        let mut arbiter = self.shared.arbiter.lock().await;
        if let Some(arbiter) = arbiter.take() {
            let mut address = self.shared.address.clone();
            // The supervisor drops its side when the last actor is gone.
            while address.changed().await.is_ok() {}
            arbiter.stop();
            let joined = tokio::task::spawn_blocking(move || arbiter.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("the controller's arbiter panicked");
            }
        }
        self.shared.log.shutdown().await;
        Ok(())
    }

    async fn ask<T>(&self, request: impl FnOnce(Responder<T>) -> Request) -> Result<T, Error> {
        let (responder, answer) = Responder::new();
        let request = Ask(request(responder));
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
        let mut address = self.shared.address.clone();
        let closed = || Error::new(ErrorCode::ShuttingDown, "the controller is shutting down");
        let found = address.wait_for(Option::is_some).await.map_err(|_| closed())?;
        found.clone().ok_or_else(closed)
    }
}
