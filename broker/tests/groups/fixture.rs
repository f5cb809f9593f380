//! One node with chaos, and members of groups as a client would be them.

use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;
use troupe_broker::{Node, NodeConfig};
use troupe_proto::admin::v1::CreateTopicRequest;
use troupe_proto::admin::v1::topic_service_client::TopicServiceClient;
use troupe_proto::chaos::v1alpha1 as chaos;
use troupe_proto::chaos::v1alpha1::chaos_service_client::ChaosServiceClient;
use troupe_proto::error::Error;
use troupe_proto::log::v1 as pb;
use troupe_proto::log::v1::group_service_client::GroupServiceClient;

/// Longer than anything takes that is going to happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// Returns what comes, or fails the test.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: never came"))
}

pub struct Fixture {
    pub channel: Channel,
    node: Option<Node>,
    directory: tempfile::TempDir,
}

impl Fixture {
    pub async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap()).await
    }

    async fn start_in(directory: tempfile::TempDir) -> Self {
        let config = NodeConfig {
            log_dir: directory.path().join("data"),
            listener: ([127, 0, 0, 1], 0).into(),
            http_listener: ([127, 0, 0, 1], 0).into(),
            chaos_enable: true,
            offsets_topic_partitions: 4,
            ..NodeConfig::default()
        };
        let node = tokio::task::spawn_blocking(|| Node::start(config)).await.unwrap().unwrap();
        let endpoint = format!("http://{}", node.grpc_addr());
        let channel = Channel::from_shared(endpoint).unwrap().connect().await.unwrap();
        Self { channel, node: Some(node), directory }
    }

    /// Begins to stop the node; whoever awaits it, waits until it has.
    pub fn stop(&mut self) -> tokio::task::JoinHandle<()> {
        let node = self.node.take().unwrap();
        tokio::task::spawn_blocking(|| node.stop())
    }

    pub async fn restart(mut self) -> Self {
        self.stop().await.unwrap();
        Self::start_in(self.directory).await
    }

    pub async fn create(&self, topic: &str, partitions: i32) {
        let request = CreateTopicRequest {
            name: topic.to_owned(),
            partitions: Some(partitions),
            ..Default::default()
        };
        TopicServiceClient::new(self.channel.clone()).create_topic(request).await.unwrap();
    }

    pub fn groups(&self) -> GroupServiceClient<Channel> {
        GroupServiceClient::new(self.channel.clone())
    }

    /// A member, as `start` says, with its first answer.
    pub async fn run_member(&self, start: pb::MemberStart) -> Result<Member, Error> {
        let (requests, stream) = mpsc::channel(8);
        let first = pb::RunMemberRequest { start: Some(start), ..Default::default() };
        requests.send(first).await.unwrap();
        let joining = self.groups().join_group(ReceiverStream::new(stream));
        let answers = soon("a member", joining).await?;
        let mut member =
            Member { requests, answers, id: String::new(), epoch: 0, held: BTreeSet::new() };
        member.step().await?;
        Ok(member)
    }

    pub async fn commit(
        &self,
        group: &str,
        member: Option<&Member>,
        offsets: &[(i32, i64)],
    ) -> Result<Vec<Result<(), Error>>, Error> {
        let commits = offsets.iter().map(|(partition, offset)| pb::PartitionCommit {
            partition: Some(topic_partition(*partition)),
            offset: Some(pb::OffsetAndMetadata { offset: *offset, ..Default::default() }),
        });
        let request = pb::CommitOffsetsRequest {
            group_id: group.to_owned(),
            member_id: member.map(|member| member.id.clone()).unwrap_or_default(),
            member_epoch: member.map(|member| member.epoch).unwrap_or_default(),
            commits: commits.collect(),
            ..Default::default()
        };
        let answer = soon("a commit", self.groups().commit_offsets(request)).await?.into_inner();
        let result = |result: pb::PartitionCommitResult| match result.error {
            Some(error) => Err(Error::from(error)),
            None => Ok(()),
        };
        Ok(answer.results.into_iter().map(result).collect())
    }

    /// What is committed, by partition.
    pub async fn offsets(&self, group: &str) -> Vec<(i32, i64)> {
        let request = pb::FetchOffsetsRequest { group_id: group.to_owned(), ..Default::default() };
        let answer = soon("offsets", self.groups().fetch_offsets(request)).await.unwrap();
        let offset = |found: pb::CommittedOffset| {
            (found.partition.unwrap().partition, found.offset.unwrap().offset)
        };
        answer.into_inner().offsets.into_iter().map(offset).collect()
    }

    pub async fn describe(&self, group: &str) -> pb::DescribeGroupResponse {
        let request = pb::DescribeGroupRequest { group_id: group.to_owned() };
        soon("a group", self.groups().describe_group(request)).await.unwrap().into_inner()
    }

    /// The partition of `__consumer_offsets` that the group is in.
    pub async fn partition_of(&self, group: &str) -> i32 {
        let request = pb::FindCoordinatorRequest { group_id: group.to_owned() };
        let found = soon("a coordinator", self.groups().find_coordinator(request)).await.unwrap();
        found.into_inner().partition
    }

    /// The coordinator of a group in the tree of actors.
    pub async fn coordinator(&self, group: &str) -> chaos::Actor {
        let partition = self.partition_of(group).await;
        self.actor(&format!("/group-coordinator/__consumer_offsets/{partition}")).await
    }

    /// The actor whose address ends like this.
    pub async fn actor(&self, suffix: &str) -> chaos::Actor {
        let mut chaos = ChaosServiceClient::new(self.channel.clone());
        let listed = chaos.list_actors(chaos::ListActorsRequest::default()).await.unwrap();
        let mut actors = listed.into_inner().actors.into_iter();
        actors.find(|actor| actor.address.ends_with(suffix)).unwrap()
    }

    /// Kills a group's coordinator; how often that has been done.
    pub async fn kill(&self, group: &str, mode: chaos::KillMode) -> Result<i32, Error> {
        let address = self.coordinator(group).await.address;
        let request = chaos::KillActorRequest { address, mode: mode.into() };
        let mut chaos = ChaosServiceClient::new(self.channel.clone());
        Ok(soon("a new actor", chaos.kill_actor(request)).await?.into_inner().restarts)
    }
}

trait JoinGroup {
    async fn join_group(
        self,
        requests: ReceiverStream<pb::RunMemberRequest>,
    ) -> Result<Streaming<pb::RunMemberResponse>, Error>;
}

impl JoinGroup for GroupServiceClient<Channel> {
    async fn join_group(
        mut self,
        requests: ReceiverStream<pb::RunMemberRequest>,
    ) -> Result<Streaming<pb::RunMemberResponse>, Error> {
        Ok(self.run_member(requests).await?.into_inner())
    }
}

fn topic_partition(partition: i32) -> pb::TopicPartition {
    pb::TopicPartition { topic: TOPIC.to_owned(), partition, ..Default::default() }
}

/// What all groups here read.
pub const TOPIC: &str = "read";

/// How a new member begins.
pub fn start(group: &str) -> pb::MemberStart {
    let subscription = pb::Subscription { topics: vec![TOPIC.to_owned()], ..Default::default() };
    pb::MemberStart {
        group_id: group.to_owned(),
        subscription: Some(subscription),
        session_timeout_ms: 60_000,
        ..Default::default()
    }
}

pub struct Member {
    pub requests: mpsc::Sender<pb::RunMemberRequest>,
    answers: Streaming<pb::RunMemberResponse>,
    pub id: String,
    pub epoch: u32,
    /// Partitions of the topic.
    pub held: BTreeSet<i32>,
}

impl Member {
    /// Takes the next answer, and says that it is applied.
    pub async fn step(&mut self) -> Result<(), Error> {
        let answer = self.answers.message().await?;
        let answer = answer.expect("the stream ended without a reason");
        self.id = answer.member_id;
        self.epoch = answer.member_epoch;
        if let Some(assignment) = answer.assignment {
            self.held = assignment.partitions.into_iter().flat_map(|it| it.partitions).collect();
            let applied =
                pb::RunMemberRequest { applied: Some(assignment.number), ..Default::default() };
            // The stream may be over; then the next answer tells.
            let _ = self.requests.send(applied).await;
        }
        Ok(())
    }

    /// Steps until it holds that many partitions.
    pub async fn holds(&mut self, count: usize) {
        let enough = async {
            while self.held.len() != count {
                self.step().await.unwrap();
            }
        };
        soon("an assignment", enough).await;
    }

    /// Steps until the coordinator has told it this epoch.
    pub async fn reaches(&mut self, epoch: u32) {
        let reached = async {
            while self.epoch < epoch {
                self.step().await.unwrap();
            }
        };
        soon("an epoch", reached).await;
    }

    /// How its stream ends.
    pub async fn ending(&mut self) -> Error {
        let end = async {
            loop {
                if let Err(error) = self.step().await {
                    return error;
                }
            }
        };
        soon("the stream's end", end).await
    }

    /// How it comes back after its stream broke.
    pub fn again(&self, group: &str) -> pb::MemberStart {
        let owned = pb::TopicPartitions {
            topic: TOPIC.to_owned(),
            partitions: self.held.iter().copied().collect(),
            ..Default::default()
        };
        pb::MemberStart {
            member_id: self.id.clone(),
            member_epoch: self.epoch,
            owned: vec![owned],
            ..start(group)
        }
    }
}
