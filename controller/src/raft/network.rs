//! The calling side of the quorum: one connection to each other voter, made when it is first needed.
//!
//! Promises: every call ends within its deadline; a refusal by another voter is remembered until that voter
//! answers again, and traced once.
//! Never here: what Raft's messages mean.

use super::entries::{decode, encode};
use super::identity::Identity;
use super::types::{RaftNodeId, TypeConfig};
use crate::config::Connector;
use bytes::Bytes;
use futures::future::BoxFuture;
use openraft::alias::{LogIdOf, SnapshotOf, VoteOf};
use openraft::entry::RaftEntry;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::impls::BasicNode;
use openraft::network::RPCOption;
use openraft::network::RaftNetworkFactory;
use openraft::network::v2::RaftNetworkV2;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{EntryPayload, OptionalSend};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::NodeId;
use troupe_proto::internal::v1 as pb;
use troupe_proto::internal::v1::install_snapshot_request::Part;
use troupe_proto::internal::v1::raft_service_client::RaftServiceClient;

/// A larger message is cut; a single decision is far smaller.
pub(super) const MAX_MESSAGE_BYTES: usize = 64 << 20;
/// Entries of more than this go in several messages.
const APPEND_BYTES: usize = 4 << 20;
const SNAPSHOT_CHUNK_BYTES: usize = 256 << 10;
/// A connection without traffic that is asked for a sign of life, and how long that may take.
const KEEPALIVE: Duration = Duration::from_secs(2);

/// Who refuses to take this node for a voter, and why.
pub(crate) type Refusals = BTreeMap<NodeId, Error>;

/// Which records of the metadata each voter knows that has answered.
pub(super) type Versions = Arc<Mutex<BTreeMap<NodeId, u32>>>;

/// Makes the links. A node that votes alone has none.
#[derive(Clone)]
pub(super) struct Peers {
    identity: Option<Arc<Identity>>,
    addresses: BTreeMap<RaftNodeId, String>,
    clients: BTreeMap<RaftNodeId, RaftServiceClient<Channel>>,
    /// The least that a call may take: a slow disk is no dead node.
    patience: Duration,
    connector: Connector,
    refusals: Arc<watch::Sender<Refusals>>,
    versions: Versions,
}

impl Peers {
    pub fn new(
        identity: Option<Arc<Identity>>,
        addresses: BTreeMap<RaftNodeId, String>,
        (patience, connector): (Duration, Connector),
        refusals: Arc<watch::Sender<Refusals>>,
    ) -> Peers {
        let (clients, versions) = (BTreeMap::new(), Versions::default());
        Peers { identity, addresses, clients, patience, connector, refusals, versions }
    }

    pub fn versions(&self) -> Versions {
        Arc::clone(&self.versions)
    }

    /// Of the other voters.
    pub fn ids(&self) -> impl Iterator<Item = RaftNodeId> + '_ {
        self.addresses.keys().copied()
    }

    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    pub fn address(&self, id: RaftNodeId) -> Option<&str> {
        self.addresses.get(&id).map(String::as_str)
    }

    /// Asks a voter to say for how long it leads in that term.
    pub async fn attend(&mut self, leader: RaftNodeId, term: u64) -> Attended {
        let peer = self.new_client(leader, &BasicNode::default()).await;
        let Ok((mut client, caller)) = peer.reach() else { return Attended::Unreachable };
        let request = pb::AttendLeaderRequest { caller: Some(caller), term };
        let attended = tokio::time::timeout(self.patience, client.attend_leader(request)).await;
        let mut leads = match attended {
            Ok(Ok(attended)) => attended.into_inner(),
            Ok(Err(status)) if status.code() == Code::Unimplemented => return Attended::Unknown,
            Ok(Err(status)) => {
                return match Error::from(status).code {
                    ErrorCode::NotController | ErrorCode::ShuttingDown => Attended::LeadsNot,
                    _ => Attended::Unreachable,
                };
            }
            Err(_) => return Attended::Unreachable,
        };
        Attended::Leads(Box::pin(async move { while let Ok(Some(_)) = leads.message().await {} }))
    }

    /// How far the log of a voter goes that finds the leader gone too; `None`: it does not, or does not answer.
    pub async fn confirm_leader_loss(
        &mut self,
        voter: RaftNodeId,
        leader: &VoteOf<TypeConfig>,
    ) -> Option<Option<LogIdOf<TypeConfig>>> {
        let peer = self.new_client(voter, &BasicNode::default()).await;
        let (mut client, caller) = peer.reach().ok()?;
        let message = message(leader).ok()?;
        let request = pb::ConfirmLeaderLossRequest { caller: Some(caller), message };
        let called = peer.call(self.patience, client.confirm_leader_loss(request)).await.ok()?;
        if !called.lost {
            return None;
        }
        answer(&called.message).ok()
    }

    fn client(&mut self, target: RaftNodeId) -> Option<RaftServiceClient<Channel>> {
        if let Some(client) = self.clients.get(&target) {
            return Some(client.clone());
        }
        let address = self.addresses.get(&target)?;
        let endpoint = Endpoint::from_shared(format!("http://{address}")).ok()?;
        let endpoint = endpoint
            .connect_timeout(self.patience)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE);
        let voter = NodeId(i32::try_from(target).ok()?);
        let channel = self.connector.channel(voter, endpoint);
        let client = RaftServiceClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        self.clients.insert(target, client.clone());
        Some(client)
    }
}

impl RaftNetworkFactory<TypeConfig> for Peers {
    type Network = Peer;

    async fn new_client(&mut self, target: RaftNodeId, _node: &BasicNode) -> Peer {
        let reach = self.client(target).zip(self.identity.clone());
        let (patience, refusals) = (self.patience, self.refusals.clone());
        Peer { target, reach, patience, refusals, versions: self.versions() }
    }
}

/// What a voter says of its leading.
pub(super) enum Attended {
    /// It leads, until this ends, or the connection does.
    Leads(BoxFuture<'static, ()>),
    /// It says that it does not lead in that term.
    LeadsNot,
    /// It does not answer.
    Unreachable,
    /// It runs an earlier version, which does not say.
    Unknown,
}

/// The connection to one other voter.
pub(super) struct Peer {
    target: RaftNodeId,
    /// `None`: nobody known by that id.
    reach: Option<(RaftServiceClient<Channel>, Arc<Identity>)>,
    patience: Duration,
    refusals: Arc<watch::Sender<Refusals>>,
    versions: Versions,
}

fn unreachable(error: impl std::error::Error + 'static) -> Unreachable<TypeConfig> {
    Unreachable::new(&error)
}

impl Peer {
    fn reach(
        &self,
    ) -> Result<(RaftServiceClient<Channel>, pb::RaftCaller), Unreachable<TypeConfig>> {
        let nobody =
            || unreachable(io::Error::new(io::ErrorKind::NotConnected, "there is no such voter"));
        let (client, identity) = self.reach.as_ref().ok_or_else(nobody)?;
        Ok((client.clone(), identity.caller(self.target)))
    }

    /// The answer, or why there is none. Any failure makes Raft wait a little before the next attempt.
    async fn call<T>(
        &self,
        deadline: Duration,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Unreachable<TypeConfig>> {
        let Ok(answered) = tokio::time::timeout(deadline, call).await else {
            let late = format!("voter {} did not answer within {deadline:?}", self.target);
            return Err(unreachable(io::Error::new(io::ErrorKind::TimedOut, late)));
        };
        let answer = answered.map(Response::into_inner).map_err(Error::from);
        self.note(answer.as_ref().err());
        answer.map_err(unreachable)
    }

    /// Remembers a refusal, or forgets one.
    fn note(&self, error: Option<&Error>) {
        let Ok(id) = i32::try_from(self.target).map(NodeId) else { return };
        let refusal = error.filter(|error| {
            let code = error.code;
            matches!(code, ErrorCode::InconsistentClusterId | ErrorCode::InconsistentVoterSet)
        });
        if error.is_some() && refusal.is_none() {
            return;
        }
        self.refusals.send_if_modified(|known| match refusal {
            Some(refusal) if known.get(&id) != Some(refusal) => {
                tracing::error!(voter = id.0, error = %refusal, "another voter refuses this one");
                known.insert(id, refusal.clone());
                true
            }
            Some(_) => false,
            None => known.remove(&id).is_some(),
        });
    }

    fn note_version(&self, version: u32) {
        let Ok(id) = i32::try_from(self.target).map(NodeId) else { return };
        self.versions.lock().unwrap_or_else(PoisonError::into_inner).insert(id, version);
    }

    fn deadline(&self, option: &RPCOption) -> Duration {
        option.hard_ttl().max(self.patience)
    }
}

fn message<T: Serialize>(value: &T) -> Result<Bytes, Unreachable<TypeConfig>> {
    encode(value).map(Bytes::from).map_err(unreachable)
}

fn answer<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Unreachable<TypeConfig>> {
    decode(bytes).map_err(unreachable)
}

/// Cuts a request that is too large. If so: what remains is sent, and Raft is told how far that went.
fn cut(request: &mut AppendEntriesRequest<TypeConfig>) -> bool {
    let mut bytes = 0;
    let fits = request.entries.iter().take_while(|entry| {
        bytes += match &entry.payload {
            EntryPayload::Normal(decided) => decided.batch.len(),
            EntryPayload::Blank | EntryPayload::Membership(_) => 0,
        };
        bytes <= APPEND_BYTES
    });
    let fits = fits.count().max(1);
    let cut = fits < request.entries.len();
    request.entries.truncate(fits);
    cut
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = Vec<u8>;

    async fn append_entries(
        &mut self,
        mut request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let (mut client, caller) = self.reach()?;
        let sent = cut(&mut request).then(|| request.entries.last().map(|entry| entry.log_id()));
        let message = message(&request)?;
        let request = pb::AppendEntriesRequest { caller: Some(caller), message };
        let called = self.call(self.deadline(&option), client.append_entries(request)).await?;
        self.note_version(called.metadata_version);
        Ok(match (answer(&called.message)?, sent) {
            (AppendEntriesResponse::Success, Some(last)) => {
                AppendEntriesResponse::PartialSuccess(last)
            }
            (answer, _) => answer,
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let (mut client, caller) = self.reach()?;
        let message = message(&request)?;
        let request = pb::RequestVoteRequest { caller: Some(caller), message };
        let called = self.call(self.deadline(&option), client.request_vote(request)).await?;
        Ok(answer(&called.message)?)
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let (mut client, caller) = self.reach()?;
        let message = message(&request)?;
        let request = pb::RequestPreVoteRequest { caller: Some(caller), message };
        let called = self.call(self.deadline(&option), client.request_pre_vote(request)).await?;
        Ok(answer(&called.message)?)
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<TypeConfig>,
        snapshot: SnapshotOf<TypeConfig, Vec<u8>>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let (mut client, caller) = self.reach()?;
        let message = message(&(vote, snapshot.meta))?;
        let image = Bytes::from(snapshot.snapshot);
        let length = image.len() as u64;
        let head = Part::Head(pb::SnapshotHead { caller: Some(caller), message, length });
        let chunks = (0..image.len()).step_by(SNAPSHOT_CHUNK_BYTES).map(move |at| {
            Part::Chunk(image.slice(at..image.len().min(at + SNAPSHOT_CHUNK_BYTES)))
        });
        let parts = std::iter::once(head).chain(chunks);
        let requests = parts.map(|part| pb::InstallSnapshotRequest { part: Some(part) });
        let call = client.install_snapshot(tokio_stream::iter(requests));
        let called = tokio::select! {
            called = self.call(self.deadline(&option), call) => called?,
            closed = cancel => return Err(closed.into()),
        };
        Ok(answer(&called.message)?)
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let (mut client, caller) = self.reach()?;
        let message = message(&request)?;
        let request = pb::TransferLeadershipRequest { caller: Some(caller), message };
        let called = self.call(self.deadline(&option), client.transfer_leadership(request)).await?;
        Ok(answer(&called.message)?)
    }
}
