//! A coordinator that gives its members what the test says, and writes down what they say.

use crate::fake::State;
use futures::Stream;
use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use troupe_proto::error::{Error as Refusal, ErrorCode};
use troupe_proto::log::v1 as pb;
use troupe_proto::log::v1::group_service_server::GroupService;

type Pushes = mpsc::UnboundedSender<Result<pb::RunMemberResponse, Status>>;

#[derive(Default)]
pub struct Groups {
    /// What was said, in order: `join m1`, `resume m1 epoch=1 owned=[0, 1]`, `applied 1`, `leave m1`, `gone m1`,
    /// `commit m1 0@7`.
    pub said: Vec<String>,
    /// Partitions of topic `t` by partition.
    pub committed: BTreeMap<i32, i64>,
    /// What newcomers get, in turn; then nothing.
    pub newcomers: VecDeque<Vec<i32>>,
    /// Commits are refused for these reasons, in turn.
    pub refusals: VecDeque<ErrorCode>,
    /// Calls about offsets are answered when this ends.
    pub silent: bool,
    /// Who leaves is not heard.
    pub deaf: bool,
    members: BTreeMap<String, Member>,
    joined: usize,
    numbers: u64,
}

struct Member {
    pushes: Pushes,
    epoch: u32,
    /// What it was given last.
    target: Vec<i32>,
}

#[derive(Clone)]
pub struct FakeGroup {
    groups: Arc<Mutex<Groups>>,
    cluster: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

impl FakeGroup {
    pub fn new(cluster: Arc<Mutex<State>>) -> Self {
        Self { groups: Arc::default(), cluster, changed: Arc::default() }
    }

    pub fn state(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().unwrap()
    }

    fn said(&self, what: String) {
        self.state().said.push(what);
        self.changed.notify_waiters();
    }

    /// The member gets these partitions of `t`, in a new epoch.
    pub fn assign(&self, member: &str, partitions: &[i32]) {
        let mut groups = self.state();
        groups.numbers += 1;
        let number = groups.numbers;
        let known = groups.members.get_mut(member).unwrap();
        known.epoch += 1;
        known.target = partitions.to_vec();
        let push = self.push(member, known, number);
        known.pushes.send(Ok(push)).unwrap();
    }

    /// The member's stream ends like this.
    pub fn end(&self, member: &str, status: Status) {
        let mut groups = self.state();
        let known = groups.members.get_mut(member).unwrap();
        known.pushes.send(Err(status)).unwrap();
    }

    fn push(&self, id: &str, member: &Member, number: u64) -> pb::RunMemberResponse {
        let topic_id = self.cluster.lock().unwrap().topics["t"].0.to_wire();
        let partitions = pb::TopicPartitions {
            topic: "t".to_owned(),
            topic_id,
            partitions: member.target.clone(),
        };
        pb::RunMemberResponse {
            member_id: id.to_owned(),
            member_epoch: member.epoch,
            assignment: Some(pb::MemberAssignment { number, partitions: vec![partitions] }),
        }
    }

    fn start(&self, start: pb::MemberStart, pushes: Pushes) -> String {
        let mut groups = self.state();
        groups.numbers += 1;
        let number = groups.numbers;
        let id = match start.member_id.is_empty() {
            true => {
                groups.joined += 1;
                let (id, epoch) = (format!("m{}", groups.joined), 1);
                let target = groups.newcomers.pop_front().unwrap_or_default();
                groups.members.insert(id.clone(), Member { pushes, epoch, target });
                groups.said.push(format!("join {id}"));
                id
            }
            false => {
                let id = start.member_id;
                let owned: Vec<_> = start.owned.into_iter().flat_map(|t| t.partitions).collect();
                groups
                    .said
                    .push(format!("resume {id} epoch={} owned={owned:?}", start.member_epoch));
                groups.members.get_mut(&id).unwrap().pushes = pushes;
                id
            }
        };
        let member = &groups.members[&id];
        member.pushes.send(Ok(self.push(&id, member, number))).unwrap();
        drop(groups);
        self.changed.notify_waiters();
        id
    }

    /// Waits until somebody has said something.
    pub async fn until(&self, condition: impl Fn(&Groups) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if condition(&self.state()) {
                return;
            }
            let waited = tokio::time::timeout(Duration::from_secs(20), changed).await;
            waited.unwrap_or_else(|_| panic!("it never happens: {:?}", self.state().said));
        }
    }

    /// Answers calls about offsets late, or those that wait and all that come.
    pub fn set_silent(&self, silent: bool) {
        self.state().silent = silent;
        self.changed.notify_waiters();
    }

    async fn not_silent(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if !self.state().silent {
                return;
            }
            changed.await;
        }
    }

    pub async fn until_said(&self, what: &str) {
        self.until(|groups| groups.said.iter().any(|said| said == what)).await;
    }
}

pub fn refusal(code: ErrorCode) -> Status {
    Refusal::new(code, "as the test wants").into()
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl GroupService for FakeGroup {
    type RunMemberStream =
        Pin<Box<dyn Stream<Item = Result<pb::RunMemberResponse, Status>> + Send + 'static>>;

    async fn find_coordinator(
        &self,
        _: Request<pb::FindCoordinatorRequest>,
    ) -> Answer<pb::FindCoordinatorResponse> {
        let endpoint = self.cluster.lock().unwrap().endpoints[0].clone();
        Ok(Response::new(pb::FindCoordinatorResponse { partition: 0, node_id: 0, endpoint }))
    }

    async fn run_member(
        &self,
        request: Request<Streaming<pb::RunMemberRequest>>,
    ) -> Answer<Self::RunMemberStream> {
        let mut requests = request.into_inner();
        let (pushes, stream) = mpsc::unbounded_channel();
        let this = self.clone();
        tokio::spawn(async move {
            let first = requests.message().await.unwrap().unwrap();
            let id = this.start(first.start.unwrap(), pushes.clone());
            while let Ok(Some(request)) = requests.message().await {
                if let Some(number) = request.applied {
                    this.said(format!("applied {number}"));
                }
                if let Some(subscription) = request.subscription {
                    this.said(format!("subscribe {:?}", subscription.topics));
                }
                if request.leave && this.state().deaf {
                    std::future::pending::<()>().await;
                }
                if request.leave {
                    this.said(format!("leave {id}"));
                    // Its stream ends with the last of these.
                    this.state().members.remove(&id);
                    return;
                }
            }
            this.said(format!("gone {id}"));
        });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(stream))))
    }

    async fn commit_offsets(
        &self,
        request: Request<pb::CommitOffsetsRequest>,
    ) -> Answer<pb::CommitOffsetsResponse> {
        let request = request.into_inner();
        self.not_silent().await;
        let mut groups = self.state();
        let refused = groups.refusals.pop_front();
        let mut results = Vec::new();
        for commit in request.commits {
            let (at, offset) = (commit.partition.unwrap(), commit.offset.unwrap().offset);
            let what = if refused.is_some() { "refused" } else { "commit" };
            groups.said.push(format!("{what} {} {}@{offset}", request.member_id, at.partition));
            let error = refused.map(|code| Refusal::new(code, "as the test wants").into());
            if error.is_none() {
                groups.committed.insert(at.partition, offset);
            }
            results.push(pb::PartitionCommitResult { partition: Some(at), error });
        }
        drop(groups);
        self.changed.notify_waiters();
        Ok(Response::new(pb::CommitOffsetsResponse { results }))
    }

    async fn fetch_offsets(
        &self,
        request: Request<pb::FetchOffsetsRequest>,
    ) -> Answer<pb::FetchOffsetsResponse> {
        if request.get_ref().require_stable
            && self.cluster.lock().unwrap().transactions.has_pending()
        {
            self.said("unstable".to_owned());
            return Err(refusal(ErrorCode::UnstableOffsetCommit));
        }
        // What is asked now is answered as of now, however late.
        let committed = self.state().committed.clone();
        self.not_silent().await;
        let asked = request.into_inner().partitions.into_iter().flat_map(|topic| topic.partitions);
        let offsets = asked.filter_map(|partition| {
            let offset = *committed.get(&partition)?;
            let at = pb::TopicPartition { topic: "t".to_owned(), partition, ..Default::default() };
            let offset = pb::OffsetAndMetadata { offset, ..Default::default() };
            Some(pb::CommittedOffset {
                partition: Some(at),
                offset: Some(offset),
                commit_timestamp_ms: 0,
            })
        });
        Ok(Response::new(pb::FetchOffsetsResponse { offsets: offsets.collect() }))
    }

    async fn list_groups(
        &self,
        _: Request<pb::ListGroupsRequest>,
    ) -> Answer<pb::ListGroupsResponse> {
        Err(Status::unimplemented("the fake has no such call"))
    }

    async fn describe_group(
        &self,
        _: Request<pb::DescribeGroupRequest>,
    ) -> Answer<pb::DescribeGroupResponse> {
        Err(Status::unimplemented("the fake has no such call"))
    }

    async fn delete_group(
        &self,
        _: Request<pb::DeleteGroupRequest>,
    ) -> Answer<pb::DeleteGroupResponse> {
        Err(Status::unimplemented("the fake has no such call"))
    }

    async fn remove_group_members(
        &self,
        _: Request<pb::RemoveGroupMembersRequest>,
    ) -> Answer<pb::RemoveGroupMembersResponse> {
        Err(Status::unimplemented("the fake has no such call"))
    }

    async fn delete_group_offsets(
        &self,
        _: Request<pb::DeleteGroupOffsetsRequest>,
    ) -> Answer<pb::DeleteGroupOffsetsResponse> {
        Err(Status::unimplemented("the fake has no such call"))
    }

    async fn reset_group_offsets(
        &self,
        _: Request<pb::ResetGroupOffsetsRequest>,
    ) -> Answer<pb::ResetGroupOffsetsResponse> {
        Err(Status::unimplemented("the fake has no such call"))
    }
}
