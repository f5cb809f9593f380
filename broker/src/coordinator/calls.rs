//! One call to the node of a coordinator.
//!
//! Promise: what changes something carries its order and its time, so that whoever carries it out can refuse it.
//! Never here: which node that is, and another try elsewhere.

use super::message::RequestTime;
use crate::forward::{Clocks, forwarding, set_meant_epoch};
use crate::metadata_cache::LeaderAt;
use crate::peers::{Peers, Purpose, failure};
use std::future::Future;
use std::sync::Arc;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use troupe_proto::error::{Error, ErrorCode};

/// What a call is answered with if no connection to the coordinator's node can be made.
const UNREACHABLE: ErrorCode = ErrorCode::CoordinatorNotAvailable;

pub struct PeerCalls {
    pub peers: Arc<Peers>,
    pub clocks: Arc<Clocks>,
    /// How large an answer may be.
    pub max_answer_bytes: usize,
}

impl PeerCalls {
    /// One that changes nothing.
    ///
    /// # Errors
    /// `COORDINATOR_NOT_AVAILABLE` if no connection could be made; what the node answers.
    pub async fn ask<Req, Res, There>(
        &self,
        leader: &LeaderAt,
        request: Req,
        deadline: Instant,
        there: impl FnOnce(Channel, Request<Req>) -> There,
    ) -> Result<Res, Error>
    where
        There: Future<Output = Result<Response<Res>, Status>>,
    {
        self.send(leader, forwarding(request, deadline), there).await
    }

    /// One that changes something, with its order and its time.
    ///
    /// # Errors
    /// As of [`PeerCalls::ask`].
    pub async fn change<Req, Res, There>(
        &self,
        leader: &LeaderAt,
        request: Req,
        RequestTime { came, until }: RequestTime,
        there: impl FnOnce(Channel, Request<Req>) -> There,
    ) -> Result<Res, Error>
    where
        There: Future<Output = Result<Response<Res>, Status>>,
    {
        let channel = self.peers.channel(&leader.endpoint, Purpose::Control)?;
        let to = (&*leader.endpoint, &channel);
        let request = self.clocks.stamp(to, request, (came, until), UNREACHABLE).await?;
        self.send(leader, request, there).await
    }

    async fn send<Req, Res, There>(
        &self,
        leader: &LeaderAt,
        mut request: Request<Req>,
        there: impl FnOnce(Channel, Request<Req>) -> There,
    ) -> Result<Res, Error>
    where
        There: Future<Output = Result<Response<Res>, Status>>,
    {
        let node = &leader.endpoint;
        let channel = self.peers.channel(node, Purpose::Control)?;
        set_meant_epoch(request.metadata_mut(), leader.leader_epoch.0);
        let sent = Instant::now();
        let answer = there(channel, request).await;
        match &answer {
            Ok(answer) => self.clocks.note(node, sent, answer.metadata()),
            Err(status) => self.clocks.note(node, sent, status.metadata()),
        }
        answer.map(Response::into_inner).map_err(|status| failure(status, UNREACHABLE))
    }
}
