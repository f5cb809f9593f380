//! Members of a group that read nothing: they hold what they are given, and give up at once what they shall.

use crate::exit::Exit;
use crate::failure::{Context, Failure};
use futures::channel::mpsc;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use troupe_client::{Client, ClientConfig, ClientError};
use troupe_proto::log::v1::group_service_client::GroupServiceClient;
use troupe_proto::log::v1::{MemberStart, RunMemberRequest, RunMemberResponse, Subscription};

/// Members that share a connection.
const MEMBERS_PER_CONNECTION: u32 = 50;
/// How long a group may take.
const TIMEOUT: Duration = Duration::from_secs(120);
/// While members join, others are moved to and fro: not what is measured here.
const REBALANCE_TIMEOUT_MS: u32 = 60_000;

#[derive(Debug)]
struct Held {
    epoch: u32,
    partitions: usize,
    changed_at: Instant,
}

#[derive(Debug, Default)]
struct State {
    members: BTreeMap<u32, Held>,
    /// Since when everybody has what they shall have.
    settled_at: Option<Instant>,
    /// Why a member is none any more.
    failure: Option<String>,
}

struct Shared {
    partitions: usize,
    state: Mutex<State>,
    changed: Notify,
}

impl Shared {
    /// Who panicked has told it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let joined = state.members.values().all(|held| held.epoch > 0);
        let counts = || state.members.values().map(|held| held.partitions);
        let most = counts().max().unwrap_or(0);
        let least = counts().min().unwrap_or(0);
        let all = counts().sum::<usize>() == self.partitions;
        // Of one topic that all subscribe to, every assignor gives each the same, give or take one.
        state.settled_at = match joined && all && most - least <= 1 {
            true => state.settled_at.or_else(|| Some(Instant::now())),
            false => None,
        };
        drop(state);
        self.changed.notify_waiters();
    }

    /// It is about to leave.
    fn remove(&self, number: u32) {
        self.change(|state| {
            state.members.remove(&number);
        });
    }
}

/// A group that has come to rest.
pub struct Settled {
    pub at: Instant,
    /// When each member last got something.
    pub members: Vec<Instant>,
}

struct Member {
    requests: mpsc::UnboundedSender<RunMemberRequest>,
    task: JoinHandle<()>,
}

pub struct GroupMembers {
    group: String,
    topic: String,
    assignor: String,
    endpoint: String,
    shared: Arc<Shared>,
    connections: Vec<Client>,
    members: BTreeMap<u32, Member>,
}

impl GroupMembers {
    pub async fn new(
        client: &Client,
        group: &str,
        topic: &str,
        assignor: String,
        partitions: u32,
    ) -> Result<GroupMembers, Failure> {
        let coordinator = client.admin().find_coordinator(group).await;
        let coordinator =
            coordinator.with_context(|| format!("cannot find who coordinates {group}"))?;
        let shared = Shared {
            partitions: usize::try_from(partitions).map_err(Failure::usage)?,
            state: Mutex::default(),
            changed: Notify::new(),
        };
        Ok(GroupMembers {
            group: group.to_owned(),
            topic: topic.to_owned(),
            assignor,
            endpoint: coordinator.endpoint,
            shared: Arc::new(shared),
            connections: Vec::new(),
            members: BTreeMap::new(),
        })
    }

    /// Asks to become a member; does not wait until it is one.
    pub async fn join(&mut self, number: u32) -> Result<(), Failure> {
        let what = || format!("cannot connect to {}", self.endpoint);
        let place = usize::try_from(number / MEMBERS_PER_CONNECTION).unwrap_or(usize::MAX);
        while self.connections.len() <= place {
            let config = ClientConfig::new([self.endpoint.clone()]);
            self.connections.push(Client::connect(config).await.with_context(what)?);
        }
        let channel = self.connections[place].channel().await.with_context(what)?;
        let start = MemberStart {
            group_id: self.group.clone(),
            client_id: format!("bench-{number:04}"),
            subscription: Some(Subscription {
                topics: vec![self.topic.clone()],
                pattern: String::new(),
            }),
            assignor: self.assignor.clone(),
            rebalance_timeout_ms: REBALANCE_TIMEOUT_MS,
            ..MemberStart::default()
        };
        let (requests, outgoing) = mpsc::unbounded();
        // The receiver is right here.
        let _ = requests
            .unbounded_send(RunMemberRequest { start: Some(start), ..RunMemberRequest::default() });
        self.shared.change(|state| {
            let held = Held { epoch: 0, partitions: 0, changed_at: Instant::now() };
            state.members.insert(number, held);
        });
        let (shared, answers) = (self.shared.clone(), requests.clone());
        let task = tokio::spawn(async move {
            let mut stub = GroupServiceClient::new(channel);
            let ended = async {
                let mut responses = stub.run_member(outgoing).await?.into_inner();
                while let Some(response) = responses.message().await? {
                    take(&shared, number, response, &answers);
                }
                Ok::<(), ClientError>(())
            };
            if let Err(error) = ended.await {
                shared.change(|state| {
                    // One that has left is not missed.
                    if state.members.contains_key(&number) {
                        state.failure = Some(error.to_string());
                    }
                });
            }
        });
        self.members.insert(number, Member { requests, task });
        Ok(())
    }

    pub fn leave(&mut self, number: u32) {
        let Some(member) = self.members.remove(&number) else { return };
        self.shared.remove(number);
        // If it has ended by itself, it is out of the group already.
        let _ = member
            .requests
            .unbounded_send(RunMemberRequest { leave: true, ..RunMemberRequest::default() });
    }

    /// Until everybody has what they shall have.
    pub async fn settled(&self) -> Result<Settled, Failure> {
        let what = || "the group does not settle".to_owned();
        let waited = tokio::time::timeout(TIMEOUT, async {
            loop {
                let changed = self.shared.changed.notified();
                {
                    let state = self.shared.lock();
                    if let Some(failure) = &state.failure {
                        return Err(Failure::new(Exit::Failed, what(), failure));
                    }
                    if let Some(at) = state.settled_at {
                        let members = state.members.values().map(|held| held.changed_at).collect();
                        return Ok(Settled { at, members });
                    }
                }
                changed.await;
            }
        });
        waited.await.unwrap_or_else(|_| {
            let state = self.shared.lock();
            let held: usize = state.members.values().map(|held| held.partitions).sum();
            let cause = format!(
                "after {TIMEOUT:?} its {} members hold {held} of {} partitions",
                state.members.len(),
                self.shared.partitions
            );
            Err(Failure::new(Exit::Failed, what(), cause))
        })
    }

    /// Everybody leaves.
    pub async fn end(mut self) {
        let numbers: Vec<u32> = self.members.keys().copied().collect();
        let mut tasks = Vec::new();
        for number in numbers {
            self.shared.remove(number);
            if let Some(member) = self.members.remove(&number) {
                let leave = RunMemberRequest { leave: true, ..RunMemberRequest::default() };
                let _ = member.requests.unbounded_send(leave);
                tasks.push(member.task);
            }
        }
        let _ = tokio::time::timeout(TIMEOUT, futures::future::join_all(tasks)).await;
    }
}

fn take(
    shared: &Shared,
    number: u32,
    response: RunMemberResponse,
    requests: &mpsc::UnboundedSender<RunMemberRequest>,
) {
    let RunMemberResponse { member_epoch, assignment, .. } = response;
    if let Some(assignment) = &assignment {
        let applied = Some(assignment.number);
        // If nobody takes it, the stream has ended, and that is told.
        let _ =
            requests.unbounded_send(RunMemberRequest { applied, ..RunMemberRequest::default() });
    }
    shared.change(|state| {
        let Some(held) = state.members.get_mut(&number) else { return };
        held.epoch = member_epoch;
        held.changed_at = Instant::now();
        if let Some(assignment) = assignment {
            held.partitions = assignment.partitions.iter().map(|at| at.partitions.len()).sum();
        }
    });
}
