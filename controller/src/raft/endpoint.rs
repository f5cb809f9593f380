//! The called side of the quorum: `troupe.internal.v1.RaftService`, for the node's control listener.
//!
//! Promises: nothing reaches Raft before its caller has proved to be another voter of this cluster; bytes
//! that make no sense are refused. Once the log is closed, and until it is opened again, every call is answered
//! SHUTTING_DOWN. While this voter recovers, nobody gets its vote.
//! Never here: what Raft's messages mean.

use super::Raft;
use super::entries::{decode, encode};
use super::identity::{Identity, check_vote};
use super::network::{MAX_MESSAGE_BYTES, Peers};
use super::snapshot::Meta;
use super::succession;
use super::types::{RaftNodeId, TypeConfig, leader_vote, question};
use bytes::Bytes;
use futures::stream::BoxStream;
use openraft::alias::{LogIdOf, SnapshotOf, VoteOf};
use openraft::async_runtime::WatchReceiver;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::Notify;
use tonic::{Request, Response, Status, Streaming};
use troupe_machines::cluster::METADATA_VERSION;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::internal::v1 as pb;
use troupe_proto::internal::v1::install_snapshot_request::Part;
use troupe_proto::internal::v1::raft_service_server::{RaftService, RaftServiceServer};

/// An image larger than this is no image.
const MAX_SNAPSHOT_BYTES: u64 = 1 << 30;

/// Serves the other voters. Clones are the same endpoint.
#[derive(Clone)]
pub struct RaftEndpoint {
    /// `None`: this node votes alone, and nobody may call.
    identity: Option<Arc<Identity>>,
    /// Where to find out whether the leader is gone.
    peers: Peers,
    raft: Arc<Mutex<Option<Raft>>>,
    /// This voter lost its log, and gives no vote.
    recovering: Arc<AtomicBool>,
    /// When a leader was last heard, and followed.
    heard: Arc<Mutex<Option<Instant>>>,
    /// Another voter has asked whether the leader is gone, and it is.
    asked: Arc<Notify>,
}

impl RaftEndpoint {
    pub(super) fn new(identity: Option<Arc<Identity>>, peers: Peers) -> RaftEndpoint {
        RaftEndpoint {
            identity,
            peers,
            raft: Arc::default(),
            recovering: Arc::default(),
            heard: Arc::default(),
            asked: Arc::default(),
        }
    }

    /// From now on calls reach this Raft. `recovering`: but none gets its vote, until [`RaftEndpoint::vote_again`].
    pub(super) fn open(&self, raft: Raft, recovering: bool) {
        let mut open = self.raft.lock().unwrap_or_else(PoisonError::into_inner);
        self.recovering.store(recovering, Ordering::SeqCst);
        *open = Some(raft);
    }

    pub(super) fn vote_again(&self) {
        self.recovering.store(false, Ordering::SeqCst);
    }

    fn is_recovering(&self) -> bool {
        self.recovering.load(Ordering::SeqCst)
    }

    /// To be added to the routes of the listener that the list of voters names.
    pub fn into_service(self) -> RaftServiceServer<RaftEndpoint> {
        RaftServiceServer::new(self)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Until another voter has found the leader gone, and this one finds it too.
    pub(super) async fn asked_of_loss(&self) {
        self.asked.notified().await;
    }

    pub(super) fn heard(&self) -> Option<Instant> {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far the log goes of this voter, which follows that leader and may vote; `None`: it does not, or may not.
    pub(super) async fn claim(
        &self,
        raft: &Raft,
        leader: &VoteOf<TypeConfig>,
    ) -> Option<Option<LogIdOf<TypeConfig>>> {
        if self.is_recovering() {
            return None;
        }
        let standing = raft.pre_vote(question(leader.leader_id.node_id)).await.ok()?;
        (standing.vote == *leader).then_some(standing.last_log_id)
    }

    pub(super) fn close(&self) {
        self.raft.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn check(&self, caller: Option<pb::RaftCaller>) -> Result<pb::RaftCaller, Error> {
        let alone = || Error::new(ErrorCode::InconsistentVoterSet, "this controller votes alone");
        self.identity.as_ref().ok_or_else(alone)?.check(caller)
    }

    fn raft(&self) -> Result<Raft, Error> {
        let raft = self.raft.lock().unwrap_or_else(PoisonError::into_inner).clone();
        raft.ok_or_else(stopped)
    }
}

fn stopped() -> Error {
    Error::new(ErrorCode::ShuttingDown, "this voter is stopping")
}

/// No vote, and no claim to a log that another would wait for.
fn refusal(raft: &Raft) -> VoteResponse<TypeConfig> {
    VoteResponse::new(raft.metrics().borrow_watched().vote, None, false)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    decode(bytes).map_err(|_| {
        let message = "a message of the quorum that makes no sense here; run the same version on \
                       all voters";
        Error::new(ErrorCode::InvalidRequest, message)
    })
}

/// Raft answers, or has stopped.
fn answer<T: Serialize, E>(answered: Result<T, E>) -> Result<Bytes, Error> {
    encoded(&answered.map_err(|_| stopped())?)
}

fn encoded<T: Serialize>(value: &T) -> Result<Bytes, Error> {
    let internal = |error: std::io::Error| Error::new(ErrorCode::Internal, error.to_string());
    encode(value).map(Bytes::from).map_err(internal)
}

/// The vote and place of a snapshot, and the image, complete.
async fn receive(
    endpoint: &RaftEndpoint,
    mut parts: Streaming<pb::InstallSnapshotRequest>,
) -> Result<(VoteOf<TypeConfig>, Meta, Vec<u8>), Status> {
    let invalid = |message: &str| Error::new(ErrorCode::InvalidRequest, message);
    let first = parts.message().await?.and_then(|request| request.part);
    let Some(Part::Head(head)) = first else {
        return Err(invalid("a snapshot begins with its head").into());
    };
    let caller = endpoint.check(head.caller)?;
    let (vote, meta): (VoteOf<TypeConfig>, Meta) = parse(&head.message)?;
    check_vote(&caller, &vote)?;
    if head.length > MAX_SNAPSHOT_BYTES {
        return Err(invalid("a snapshot too large").with("limit", MAX_SNAPSHOT_BYTES).into());
    }
    let length = head.length as usize;
    let mut image = Vec::new();
    while let Some(request) = parts.message().await? {
        let Some(Part::Chunk(chunk)) = request.part else {
            return Err(invalid("a snapshot goes on with chunks").into());
        };
        if image.len() + chunk.len() > length {
            return Err(invalid("a snapshot longer than it said").into());
        }
        image.extend_from_slice(&chunk);
    }
    if image.len() < length {
        return Err(invalid("a snapshot shorter than it said").into());
    }
    Ok((vote, meta, image))
}

/// Until that leader does not lead any more, or has ended. What its metrics say may be of before it was elected.
async fn leads_no_more(raft: &Raft, leader: &VoteOf<TypeConfig>) {
    let mut metrics = raft.metrics();
    loop {
        {
            let metrics = metrics.borrow_watched();
            let is_told = metrics.vote.leader_id >= leader.leader_id;
            let leads = metrics.vote == *leader && metrics.state.is_leader();
            if is_told && !leads {
                return;
            }
        }
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

fn leads_not(term: u64) -> Error {
    Error::new(ErrorCode::NotController, "this voter does not lead").with("term", term)
}

#[tonic::async_trait]
impl RaftService for RaftEndpoint {
    type AttendLeaderStream = BoxStream<'static, Result<pb::AttendLeaderResponse, Status>>;

    async fn attend_leader(
        &self,
        request: Request<pb::AttendLeaderRequest>,
    ) -> Result<Response<Self::AttendLeaderStream>, Status> {
        let pb::AttendLeaderRequest { caller, term } = request.into_inner();
        let caller = self.check(caller)?;
        let id = RaftNodeId::try_from(caller.target_id).unwrap_or_default();
        let leader = leader_vote(term, id);
        let raft = self.raft()?;
        // Raft itself is asked: its metrics come a little later than a follower hears of its new leader.
        if !raft.pre_vote(question(id)).await.is_ok_and(|standing| standing.vote == leader) {
            return Err(leads_not(term).into());
        }
        let ends = async move {
            leads_no_more(&raft, &leader).await;
            Err(leads_not(term).into())
        };
        Ok(Response::new(Box::pin(futures::stream::once(ends))))
    }

    async fn confirm_leader_loss(
        &self,
        request: Request<pb::ConfirmLeaderLossRequest>,
    ) -> Result<Response<pb::ConfirmLeaderLossResponse>, Status> {
        let pb::ConfirmLeaderLossRequest { caller, message } = request.into_inner();
        self.check(caller)?;
        let leader: VoteOf<TypeConfig> = parse(&message)?;
        let raft = self.raft()?;
        let not_lost = pb::ConfirmLeaderLossResponse::default();
        if !succession::is_lost(&mut self.peers.clone(), &leader).await {
            return Ok(Response::new(not_lost));
        }
        let Some(last) = self.claim(&raft, &leader).await else {
            return Ok(Response::new(not_lost));
        };
        self.asked.notify_one();
        let message = encoded(&last)?;
        Ok(Response::new(pb::ConfirmLeaderLossResponse { lost: true, message }))
    }

    async fn append_entries(
        &self,
        request: Request<pb::AppendEntriesRequest>,
    ) -> Result<Response<pb::AppendEntriesResponse>, Status> {
        let pb::AppendEntriesRequest { caller, message } = request.into_inner();
        let caller = self.check(caller)?;
        let entries: AppendEntriesRequest<TypeConfig> = parse(&message)?;
        check_vote(&caller, &entries.vote)?;
        let answered = self.raft()?.append_entries(entries).await;
        if answered
            .as_ref()
            .is_ok_and(|answer| !matches!(answer, AppendEntriesResponse::HigherVote(_)))
        {
            *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        let message = answer(answered)?;
        Ok(Response::new(pb::AppendEntriesResponse { message, metadata_version: METADATA_VERSION }))
    }

    async fn request_vote(
        &self,
        request: Request<pb::RequestVoteRequest>,
    ) -> Result<Response<pb::RequestVoteResponse>, Status> {
        let pb::RequestVoteRequest { caller, message } = request.into_inner();
        let caller = self.check(caller)?;
        let vote: VoteRequest<TypeConfig> = parse(&message)?;
        check_vote(&caller, &vote.vote)?;
        let raft = self.raft()?;
        let answered = match self.is_recovering() {
            // Raft is not asked: it would raise its own vote, and follow its leader no more.
            true => Ok(refusal(&raft)),
            false => raft.vote(vote).await,
        };
        let message = answer(answered)?;
        Ok(Response::new(pb::RequestVoteResponse { message }))
    }

    async fn request_pre_vote(
        &self,
        request: Request<pb::RequestPreVoteRequest>,
    ) -> Result<Response<pb::RequestPreVoteResponse>, Status> {
        let pb::RequestPreVoteRequest { caller, message } = request.into_inner();
        let caller = self.check(caller)?;
        let vote: VoteRequest<TypeConfig> = parse(&message)?;
        check_vote(&caller, &vote.vote)?;
        let raft = self.raft()?;
        let answered = match (self.is_recovering(), vote.vote.leader_id.term) {
            // Nobody stands for that one: it is a question, and the answer is how this voter stands.
            (false, _) | (true, 0) => raft.pre_vote(vote).await,
            (true, _) => Ok(refusal(&raft)),
        };
        let message = answer(answered)?;
        Ok(Response::new(pb::RequestPreVoteResponse { message }))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<pb::InstallSnapshotRequest>>,
    ) -> Result<Response<pb::InstallSnapshotResponse>, Status> {
        let (vote, meta, snapshot) = receive(self, request.into_inner()).await?;
        // What cannot be read must not stop Raft.
        super::snapshot::decode_image(&snapshot).map_err(|_| {
            Error::new(ErrorCode::InvalidRequest, "a snapshot that makes no sense here")
        })?;
        let snapshot = SnapshotOf::<TypeConfig, _> { meta, snapshot };
        let message = answer(self.raft()?.install_full_snapshot(vote, snapshot).await)?;
        Ok(Response::new(pb::InstallSnapshotResponse { message }))
    }

    async fn transfer_leadership(
        &self,
        request: Request<pb::TransferLeadershipRequest>,
    ) -> Result<Response<pb::TransferLeadershipResponse>, Status> {
        let pb::TransferLeadershipRequest { caller, message } = request.into_inner();
        let caller = self.check(caller)?;
        let transfer: TransferLeaderRequest<TypeConfig> = parse(&message)?;
        check_vote(&caller, transfer.from_leader())?;
        if self.is_recovering() {
            let message = "this voter lost its log, and is filled again before it leads";
            return Err(Error::new(ErrorCode::NotController, message).into());
        }
        let message = answer(self.raft()?.handle_transfer_leader(transfer).await)?;
        Ok(Response::new(pb::TransferLeadershipResponse { message }))
    }
}
