//! The way to the coordinator of a key, wherever it is.
//!
//! ```text
//!  a call ─► ask ─┬─► CoordinatorHandle     this node leads the key's partition
//!                 └─► the same call once more, to the node that does
//! ```
//!
//! Promises: who asks sees a coordinator that moves, loads or is to be created as latency, within the time that
//! the call has; a call is forwarded once only; what may have been done is tried again only where that does no
//! harm.
//! Never here: what a coordinator answers.

use super::calls::PeerCalls;
use super::coordinators::Coordinators;
use super::create::InternalTopic;
use super::handle::CoordinatorHandle;
use super::machine::Machine;
use super::refusal::{is_route_broken, is_surely_elsewhere, no_coordinator};
use crate::forward::{
    ActiveController, Backoff, Call, Led, Target, hears, is_stale_stamp, told_in_order,
};
use crate::metadata_cache::{LeaderAt, MetadataCache};
use crate::peers::Peers;
use std::future::Future;
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use troupe_proto::error::{Error, ErrorCode};

/// What is to be asked of a key's coordinator.
pub struct Question<'a> {
    pub key: &'a str,
    pub call: Call,
    /// It does no harm if it is done twice.
    pub may_repeat: bool,
    /// The topic is created for it.
    pub creates: bool,
    /// It is not only a question.
    pub changes: bool,
}

/// Whether the coordinator is the one that is meant.
///
/// # Errors
/// `NOT_COORDINATOR`: it lay somewhere while others coordinated, who may have been asked for something newer.
pub fn check_meant<M: Machine>(call: Call, handle: &CoordinatorHandle<M>) -> Result<(), Error> {
    if call.meant_epoch.is_none_or(|meant| meant == handle.leader_epoch.0) {
        return Ok(());
    }
    let message =
        format!("this node coordinates the {} in another leader epoch; ask again", M::SUBJECT);
    Err(Error::new(ErrorCode::NotCoordinator, message))
}

enum Location<M: Machine> {
    Here(Arc<CoordinatorHandle<M>>),
    There(LeaderAt),
}

/// To all coordinators of the cluster.
pub struct Route<M: Machine> {
    pub coordinators: Arc<Coordinators<M>>,
    pub calls: PeerCalls,
    pub metadata: Arc<MetadataCache>,
    pub controller: Arc<ActiveController>,
    pub topic: InternalTopic,
}

impl<M: Machine> Route<M> {
    /// `max_answer_bytes`: of another node's answer.
    pub fn new(
        coordinators: &Arc<Coordinators<M>>,
        controller: &Arc<ActiveController>,
        peers: &Arc<Peers>,
        max_answer_bytes: u64,
        topic: InternalTopic,
    ) -> Self {
        Self {
            coordinators: Arc::clone(coordinators),
            calls: PeerCalls {
                peers: Arc::clone(peers),
                clocks: Arc::clone(&controller.clocks),
                max_answer_bytes: usize::try_from(max_answer_bytes).unwrap_or(usize::MAX),
            },
            metadata: Arc::clone(&controller.metadata),
            controller: Arc::clone(controller),
            topic,
        }
    }

    /// The partition that a key is kept in, if this node knows of the topic (G1).
    pub fn partition_of(&self, key: &str) -> Option<Target> {
        let image = self.metadata.image.borrow();
        let topic = image.topic(M::TOPIC)?;
        let count = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
        let key = topic.key(M::partition_of(key, count));
        Some(Target { topic: Arc::clone(&topic.name), key })
    }

    /// Whether there may be keys. Before the first one there is no topic, and nobody to ask.
    pub async fn is_in_use(&self) -> bool {
        hears(&self.metadata, |image| image.topic(M::TOPIC).is_some()).await
    }

    /// Where a key's coordinator is; waited for while there is none.
    ///
    /// # Errors
    /// `COORDINATOR_NOT_AVAILABLE` if there was none in time, and others of a key that is none.
    pub async fn find(&self, key: &str, deadline: Instant) -> Result<(Target, LeaderAt), Error> {
        M::check_key(key)?;
        let mut backoff = Backoff::new();
        loop {
            let created = self.topic.create(&self.controller, deadline).await;
            if let Err(error) = &created
                && !is_surely_elsewhere(error)
            {
                return Err(error.clone());
            }
            let target = self.partition_of(key);
            let led = target.as_ref().and_then(|target| self.led(target));
            let leader = target.as_ref().and_then(|target| self.metadata.leader_of(&target.key));
            let target = match (target, leader) {
                (Some(target), Some(leader)) => return Ok((target, leader)),
                (target, _) => target,
            };
            let next = Instant::now() + backoff.next();
            if next >= deadline || self.metadata.shutdown.is_cancelled() {
                return Err(created.err().unwrap_or_else(no_coordinator::<M>));
            }
            match target {
                Some(target) => target.news(&self.metadata, led, next).await,
                None => tokio::time::sleep_until(next).await,
            }
        }
    }

    /// Asks a key's coordinator: by `here` if that is on this node, by `there` on another.
    ///
    /// # Errors
    /// The coordinator's. `NOT_COORDINATOR`, `COORDINATOR_LOADING`, `COORDINATOR_NOT_AVAILABLE` if there was none in
    /// time; `OUTCOME_UNKNOWN` if it may have been done, and may not be repeated.
    pub async fn ask<Res, Here, There>(
        &self,
        question: &Question<'_>,
        here: impl Fn(Arc<CoordinatorHandle<M>>) -> Here + Send + Sync,
        there: impl Fn(LeaderAt) -> There + Send + Sync,
    ) -> Result<Res, Error>
    where
        Here: Future<Output = Result<Res, Error>> + Send,
        There: Future<Output = Result<Res, Error>> + Send,
    {
        M::check_key(question.key)?;
        let Call { deadline, forwarded, .. } = question.call;
        let mut changes = self.coordinators.changes();
        let mut backoff = Backoff::new();
        loop {
            changes.borrow_and_update();
            let target = match self.find_partition(question).await {
                Ok(target) => target,
                Err(error) if forwarded || !is_surely_elsewhere(&error) => return Err(error),
                Err(error) => {
                    let next = Instant::now() + backoff.next();
                    if next >= deadline || self.metadata.shutdown.is_cancelled() {
                        return Err(error);
                    }
                    tokio::time::sleep_until(next).await;
                    continue;
                }
            };
            let led = self.led(&target);
            let error = match self.once(question, &target, &here, &there).await {
                Ok(answer) => return Ok(answer),
                Err(error) => self.hinted(&target, error),
            };
            let again = is_surely_elsewhere(&error)
                || is_stale_stamp(&error)
                || question.may_repeat && is_route_broken(&error);
            let next = Instant::now() + backoff.next();
            if forwarded {
                return Err(error);
            }
            if !again || next >= deadline || self.metadata.shutdown.is_cancelled() {
                return match question.changes {
                    true => Err(told_in_order(question.call.came, error).await),
                    false => Err(error),
                };
            }
            tokio::select! {
                () = target.news(&self.metadata, led, next) => {}
                Ok(()) = changes.changed() => {}
            }
        }
    }

    /// The same, for a question that is one request and one answer: by `here` of the coordinator on this node, by
    /// `there` over the connection to another.
    ///
    /// # Errors
    /// As those of [`Route::ask`].
    pub async fn ask_with<Req, Res, Here, There>(
        &self,
        question: &Question<'_>,
        request: &Req,
        here: impl Fn(Arc<CoordinatorHandle<M>>, Req) -> Here + Send + Sync,
        there: impl Fn(Channel, Request<Req>) -> There + Send + Sync,
    ) -> Result<Res, Error>
    where
        Req: Clone + Send + Sync,
        Res: Send,
        Here: Future<Output = Result<Res, Error>> + Send,
        There: Future<Output = Result<Response<Res>, Status>> + Send,
    {
        let here = |handle| here(handle, request.clone());
        let there = |leader: LeaderAt| {
            let there = &there;
            async move {
                let (node, clocks) = (&*leader.endpoint, &self.calls.clocks);
                let known = clocks.came(node, question.call.came);
                match self.send(question, &leader, request.clone(), there).await {
                    // It seems to be of the past. The refusal may tell better when it came: once more, then, but no
                    // more often, for what is overtaken stays so.
                    Err(error)
                        if error.code == ErrorCode::Overtaken
                            && clocks.came(node, question.call.came) > known =>
                    {
                        self.send(question, &leader, request.clone(), there).await
                    }
                    answer => answer,
                }
            }
        };
        self.ask(question, here, there).await
    }

    /// Asks a coordinator on another node.
    async fn send<Req, Res, There>(
        &self,
        question: &Question<'_>,
        leader: &LeaderAt,
        request: Req,
        there: &(impl Fn(Channel, Request<Req>) -> There + Send + Sync),
    ) -> Result<Res, Error>
    where
        There: Future<Output = Result<Response<Res>, Status>> + Send,
    {
        let call = question.call;
        match question.changes {
            true => self.calls.change(leader, request, call.into(), there).await,
            false => self.calls.ask(leader, request, call.deadline, there).await,
        }
    }

    /// One try.
    async fn once<Res, Here, There>(
        &self,
        question: &Question<'_>,
        target: &Target,
        here: &(impl Fn(Arc<CoordinatorHandle<M>>) -> Here + Send + Sync),
        there: &(impl Fn(LeaderAt) -> There + Send + Sync),
    ) -> Result<Res, Error>
    where
        Here: Future<Output = Result<Res, Error>> + Send,
        There: Future<Output = Result<Res, Error>> + Send,
    {
        let led = self.led(target);
        let asked = async {
            match self.locate(target, question.call)? {
                Location::Here(handle) => here(handle).await,
                Location::There(leader) => tokio::select! {
                    answer = there(leader) => answer,
                    // One that hangs is not waited for.
                    () = target.moves(&self.metadata, led) => {
                        let message = "the coordinator was replaced before it answered";
                        Err(Error::new(ErrorCode::OutcomeUnknown, message))
                    }
                },
            }
        };
        timeout_at(question.call.deadline, asked).await.unwrap_or_else(|_| {
            let (code, message) = match question.may_repeat {
                true => (
                    ErrorCode::CoordinatorNotAvailable,
                    "the coordinator did not answer in time; try again",
                ),
                false => (ErrorCode::OutcomeUnknown, "the coordinator did not answer in time"),
            };
            Err(Error::new(code, message))
        })
    }

    /// # Errors
    /// `COORDINATOR_NOT_AVAILABLE`: there is no topic, and none was to be created or could be.
    async fn find_partition(&self, question: &Question<'_>) -> Result<Target, Error> {
        if question.creates && !question.call.forwarded {
            self.topic.create(&self.controller, question.call.deadline).await?;
        }
        self.partition_of(question.key).ok_or_else(no_coordinator::<M>)
    }

    /// Where the coordinator is, as far as this node knows.
    fn locate(&self, target: &Target, call: Call) -> Result<Location<M>, Error> {
        match self.coordinators.find(target.key.partition) {
            Ok(handle) => check_meant(call, &handle).map(|()| Location::Here(handle)),
            Err(error) if error.code == ErrorCode::NotCoordinator && !call.forwarded => {
                let leader = self.metadata.leader_of(&target.key);
                let leader = leader.filter(|leader| leader.node_id != self.metadata.node_id);
                leader.map(Location::There).ok_or_else(no_coordinator::<M>)
            }
            Err(error) => Err(error),
        }
    }

    /// The same error; if it is about where the coordinator is, with a hint.
    pub fn hinted(&self, target: &Target, error: Error) -> Error {
        match self.metadata.leader_of(&target.key) {
            // Whoever asked has asked this node.
            Some(leader) if leader.node_id == self.metadata.node_id => error,
            Some(leader) if error.code == ErrorCode::NotCoordinator && error.leader.is_none() => {
                error.with_leader_of(leader.node_id.0, leader.endpoint, leader.leader_epoch.0)
            }
            _ => error,
        }
    }

    fn led(&self, target: &Target) -> Led {
        target.led(&self.metadata.image.borrow())
    }
}
