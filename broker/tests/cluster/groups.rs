//! Groups, asked through nodes that do not coordinate them.

use super::Cluster;
use super::any_node::record;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Streaming};
use troupe_proto::admin::v1::GetTopicRequest;
use troupe_proto::admin::v1::topic_service_client::TopicServiceClient;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::log::v1::group_service_client::GroupServiceClient;
use troupe_proto::log::v1::reset_group_offsets_request::To;
use troupe_proto::log::v1::*;
use troupe_proto::v1::event_bus_service_client::EventBusServiceClient;
use troupe_proto::v1::{PublishStreamRequest, Record};

const PATIENCE: Duration = Duration::from_secs(60);
pub(super) const TOPIC: &str = "t";
pub(super) const OFFSETS: &str = "__consumer_offsets";

impl Cluster {
    pub(super) async fn groups(&self, through: i32) -> GroupServiceClient<Channel> {
        GroupServiceClient::new(self.channel(through).await)
    }

    pub(super) async fn coordinator(&self, through: i32, group: &str) -> FindCoordinatorResponse {
        let request = FindCoordinatorRequest { group_id: group.to_owned() };
        self.groups(through).await.find_coordinator(request).await.unwrap().into_inner()
    }

    pub(super) async fn commit(
        &self,
        through: i32,
        request: CommitOffsetsRequest,
    ) -> Vec<Result<(), ErrorCode>> {
        let answer = self.groups(through).await.commit_offsets(request).await.unwrap();
        let results = answer.into_inner().results.into_iter();
        results.map(|result| result.error.map_or(Ok(()), |error| Err(error.reason()))).collect()
    }

    pub(super) async fn committed(&self, through: i32, group: &str) -> Vec<(i32, i64)> {
        let request = FetchOffsetsRequest { group_id: group.to_owned(), ..Default::default() };
        let answer = self.groups(through).await.fetch_offsets(request).await.unwrap();
        let offsets = answer.into_inner().offsets.into_iter();
        let mut offsets: Vec<_> = offsets
            .map(|one| (one.partition.unwrap().partition, one.offset.unwrap().offset))
            .collect();
        offsets.sort_unstable();
        offsets
    }

    async fn describe(&self, through: i32, group: &str) -> Result<DescribeGroupResponse, Error> {
        let request = DescribeGroupRequest { group_id: group.to_owned() };
        Ok(self.groups(through).await.describe_group(request).await?.into_inner())
    }

    async fn reset(
        &self,
        through: i32,
        partitions: Vec<i32>,
        to: To,
        validate_only: bool,
    ) -> Result<Vec<OffsetReset>, Error> {
        let partitions = match partitions.is_empty() {
            true => Vec::new(),
            false => {
                vec![TopicPartitions { topic: TOPIC.into(), partitions, ..Default::default() }]
            }
        };
        let request = ResetGroupOffsetsRequest {
            group_id: "g".into(),
            partitions,
            to: Some(to),
            validate_only,
        };
        Ok(self.groups(through).await.reset_group_offsets(request).await?.into_inner().resets)
    }
}

pub(super) fn commits(group: &str, offsets: &[(&str, i32, i64)]) -> CommitOffsetsRequest {
    let commits = offsets.iter().map(|(topic, partition, offset)| PartitionCommit {
        partition: Some(TopicPartition {
            topic: (*topic).to_owned(),
            partition: *partition,
            ..Default::default()
        }),
        offset: Some(OffsetAndMetadata { offset: *offset, ..Default::default() }),
    });
    CommitOffsetsRequest {
        group_id: group.to_owned(),
        commits: commits.collect(),
        ..Default::default()
    }
}

fn start(group: &str) -> MemberStart {
    MemberStart {
        group_id: group.to_owned(),
        client_id: "c".into(),
        subscription: Some(Subscription { topics: vec![TOPIC.into()], ..Default::default() }),
        ..Default::default()
    }
}

struct Member {
    up: mpsc::Sender<RunMemberRequest>,
    down: Streaming<RunMemberResponse>,
    id: String,
    epoch: u32,
    partitions: Vec<i32>,
}

impl Member {
    async fn join(cluster: &Cluster, through: i32, start: MemberStart) -> Result<Member, Error> {
        let (up, requests) = mpsc::channel(16);
        let first = RunMemberRequest { start: Some(start), ..Default::default() };
        up.send(first).await.unwrap();
        let mut client = cluster.groups(through).await;
        let down = client.run_member(ReceiverStream::new(requests)).await?.into_inner();
        let mut member = Member { up, down, id: String::new(), epoch: 0, partitions: Vec::new() };
        member.hear().await?;
        Ok(member)
    }

    /// Takes one answer, and says that what it assigns is in force.
    async fn hear(&mut self) -> Result<(), Error> {
        let answer = timeout(PATIENCE, self.down.message()).await.unwrap()?.unwrap();
        (self.id, self.epoch) = (answer.member_id, answer.member_epoch);
        if let Some(assignment) = answer.assignment {
            let assigned = assignment.partitions.into_iter().flat_map(|topic| topic.partitions);
            self.partitions = assigned.collect();
            self.partitions.sort_unstable();
            let applied = Some(assignment.number);
            // Why the stream has ended, if it has, the answers say.
            let _ = self.up.send(RunMemberRequest { applied, ..Default::default() }).await;
        }
        Ok(())
    }

    async fn holds(&mut self, count: usize) {
        while self.partitions.len() != count {
            self.hear().await.unwrap();
        }
    }

    async fn failure(mut self) -> Error {
        loop {
            match self.hear().await {
                Ok(()) => {}
                Err(error) => return error,
            }
        }
    }
}

async fn refused(cluster: &Cluster, through: i32, start: MemberStart) -> ErrorCode {
    match Member::join(cluster, through, start).await {
        Ok(member) => member.failure().await.code,
        Err(error) => error.code,
    }
}

/// G1, G2: every call, through a node that does not coordinate the group; and every node says who does.
#[tokio::test(flavor = "multi_thread")]
async fn any_node_answers_for_a_group() {
    let cluster = Cluster::start(3).await;
    cluster.create(1, TOPIC, 4).await.unwrap();
    nothing_is_there_before_the_first_group(&cluster).await;

    let found = cluster.coordinator(1, "g").await;
    for through in 2..=3 {
        assert_eq!(cluster.coordinator(through, "g").await, found);
    }
    assert_eq!(found.endpoint, cluster.configs[&found.node_id].listener.to_string());
    let topic = TopicServiceClient::new(cluster.channel(2).await)
        .get_topic(GetTopicRequest { name: OFFSETS.into() })
        .await
        .unwrap()
        .into_inner()
        .topic
        .unwrap();
    let config = |name: &str| topic.configs.iter().find(|entry| entry.name == name).unwrap();
    assert_eq!((topic.partitions.len(), topic.replication_factor), (5, 3));
    assert_eq!(config("cleanup.policy").value, "compact");
    assert_eq!(config("segment.bytes").value, (100 << 20).to_string());

    let (other, third) = (found.node_id % 3 + 1, (found.node_id + 1) % 3 + 1);
    let offsets = [(TOPIC, 0, 7), (TOPIC, 9, 1), ("nothing", 0, 1), (TOPIC, 1, -5)];
    let results = cluster.commit(other, commits("g", &offsets)).await;
    let expected = [
        Ok(()),
        Err(ErrorCode::UnknownPartition),
        Err(ErrorCode::UnknownTopic),
        Err(ErrorCode::InvalidRequest),
    ];
    assert_eq!(results, expected);
    assert_eq!(cluster.committed(third, "g").await, [(0, 7)]);

    let mut member = Member::join(&cluster, other, start("g")).await.unwrap();
    member.holds(4).await;
    assert!(member.id.starts_with("c-"), "{}", member.id);
    let described = cluster.describe(third, "g").await.unwrap();
    assert_eq!(described.coordinator_id, found.node_id);
    assert_eq!(described.coordinator_endpoint, found.endpoint);
    assert_eq!(described.members[0].member_id, member.id);
    assert_eq!(described.members[0].host, "127.0.0.1");
    a_live_group_is_not_meddled_with(&cluster, other, &member).await;

    let leave = RunMemberRequest { leave: true, ..Default::default() };
    member.up.send(leave).await.unwrap();
    while let Ok(Some(_)) = timeout(PATIENCE, member.down.message()).await.unwrap() {}
    let listed = cluster.groups(other).await.list_groups(ListGroupsRequest::default()).await;
    let listed = listed.unwrap().into_inner().groups;
    assert_eq!(listed[0].group_id, "g");
    assert_eq!(listed[0].coordinator_id, found.node_id);
    let request = DeleteGroupRequest { group_id: "g".into() };
    cluster.groups(other).await.delete_group(request).await.unwrap();
    let gone = cluster.describe(third, "g").await.unwrap_err();
    assert_eq!(gone.code, ErrorCode::GroupNotFound);
    assert!(cluster.committed(third, "g").await.is_empty());
}

async fn nothing_is_there_before_the_first_group(cluster: &Cluster) {
    let mut client = cluster.groups(2).await;
    let listed = client.list_groups(ListGroupsRequest::default()).await.unwrap().into_inner();
    assert!(listed.groups.is_empty());
    assert!(cluster.committed(3, "g").await.is_empty());
    assert_eq!(cluster.describe(1, "g").await.unwrap_err().code, ErrorCode::GroupNotFound);
    let deletion = client.delete_group(DeleteGroupRequest { group_id: "g".into() }).await;
    assert_eq!(Error::from(deletion.unwrap_err()).code, ErrorCode::GroupNotFound);
    let request = DeleteGroupOffsetsRequest { group_id: "g".into(), ..Default::default() };
    let deletion = client.delete_group_offsets(request).await;
    assert_eq!(Error::from(deletion.unwrap_err()).code, ErrorCode::GroupNotFound);
    let nameless = client.find_coordinator(FindCoordinatorRequest::default()).await;
    assert_eq!(Error::from(nameless.unwrap_err()).code, ErrorCode::InvalidGroupId);
    let mut topics = TopicServiceClient::new(cluster.channel(1).await);
    let topic = topics.get_topic(GetTopicRequest { name: OFFSETS.into() }).await;
    assert_eq!(Error::from(topic.unwrap_err()).code, ErrorCode::UnknownTopic);
}

/// G19, G28, G29, C16: whatever a group with members refuses.
async fn a_live_group_is_not_meddled_with(cluster: &Cluster, through: i32, member: &Member) {
    let outsider = cluster.commit(through, commits("g", &[(TOPIC, 1, 1)])).await;
    assert_eq!(outsider, [Err(ErrorCode::GroupNotEmpty)]);
    let of_member = CommitOffsetsRequest {
        member_id: member.id.clone(),
        member_epoch: member.epoch,
        ..commits("g", &[(TOPIC, 1, 3)])
    };
    assert_eq!(cluster.commit(through, of_member.clone()).await, [Ok(())]);
    let ahead = CommitOffsetsRequest { member_epoch: member.epoch + 1, ..of_member.clone() };
    assert_eq!(cluster.commit(through, ahead).await, [Err(ErrorCode::StaleMemberEpoch)]);
    let stranger = CommitOffsetsRequest { member_id: "nobody".into(), ..of_member.clone() };
    assert_eq!(cluster.commit(through, stranger).await, [Err(ErrorCode::UnknownMember)]);
    let mut large = of_member;
    large.commits[0].offset.as_mut().unwrap().metadata = "x".repeat(5000);
    assert_eq!(cluster.commit(through, large).await, [Err(ErrorCode::OffsetMetadataTooLarge)]);

    let mut client = cluster.groups(through).await;
    let request = FetchOffsetsRequest {
        group_id: "g".into(),
        member_id: "nobody".into(),
        ..Default::default()
    };
    let stranger = client.fetch_offsets(request).await.unwrap_err();
    assert_eq!(Error::from(stranger).code, ErrorCode::UnknownMember);
    let deletion = client.delete_group(DeleteGroupRequest { group_id: "g".into() }).await;
    assert_eq!(Error::from(deletion.unwrap_err()).code, ErrorCode::GroupNotEmpty);
    for validate_only in [true, false] {
        let reset = cluster.reset(through, vec![0], To::Earliest(true), validate_only).await;
        assert_eq!(reset.unwrap_err().code, ErrorCode::GroupNotEmpty);
    }
    let partitions =
        vec![TopicPartitions { topic: TOPIC.into(), partitions: vec![0], ..Default::default() }];
    let request = DeleteGroupOffsetsRequest { group_id: "g".into(), partitions };
    let result = client.delete_group_offsets(request).await.unwrap().into_inner().results;
    let error = result.into_iter().next().unwrap().error.unwrap();
    assert_eq!(error.reason(), ErrorCode::GroupSubscribedToTopic);

    let named = |assignor: &str| MemberStart { assignor: assignor.into(), ..start("g") };
    let cases = [
        (start(""), ErrorCode::InvalidGroupId),
        (named("best"), ErrorCode::UnsupportedAssignor),
        (named("range"), ErrorCode::InconsistentAssignor),
        (MemberStart { session_timeout_ms: 1, ..start("g") }, ErrorCode::InvalidSessionTimeout),
        (MemberStart { member_id: "c-0".into(), ..start("g") }, ErrorCode::UnknownMember),
    ];
    for (start, expected) in cases {
        assert_eq!(refused(cluster, through, start.clone()).await, expected, "{start:?}");
    }
    let pattern = Subscription { pattern: "(".into(), ..Default::default() };
    let pattern = MemberStart { subscription: Some(pattern), ..start("g") };
    assert_eq!(refused(cluster, through, pattern).await, ErrorCode::InvalidRegularExpression);
    let late = MemberStart { member_id: member.id.clone(), member_epoch: 77, ..start("g") };
    assert_eq!(refused(cluster, through, late).await, ErrorCode::FencedMemberEpoch);
    let nothing = client.run_member(futures::stream::iter([RunMemberRequest::default()])).await;
    assert_eq!(Error::from(nothing.unwrap_err()).code, ErrorCode::InvalidRequest);
}

/// G29, A9: wherever an offset is moved to, it stays within what the partition holds.
#[tokio::test(flavor = "multi_thread")]
async fn offsets_of_an_empty_group_are_moved_within_bounds() {
    let cluster = Cluster::start(3).await;
    cluster.create(1, TOPIC, 2).await.unwrap();
    let records: Vec<Record> = (0..10)
        .map(|number| Record { timestamp_ms: Some(1_000 + number), ..record("v", 0) })
        .collect();
    cluster.publish(2, TOPIC, records).await.unwrap();
    let through = cluster.coordinator(3, "g").await.node_id % 3 + 1;
    let moved = async |to, validate_only| {
        let resets = cluster.reset(through, vec![0], to, validate_only).await.unwrap();
        assert_eq!(resets[0].error, None);
        (resets[0].old_offset, resets[0].new_offset)
    };
    assert_eq!(moved(To::Latest(true), true).await, (-1, 10));
    assert!(cluster.committed(1, "g").await.is_empty());
    assert_eq!(moved(To::Latest(true), false).await, (-1, 10));
    assert_eq!(cluster.committed(1, "g").await, [(0, 10)]);
    assert_eq!(moved(To::ShiftBy(-4), false).await, (10, 6));
    assert_eq!(moved(To::ShiftBy(-40), false).await, (6, 0));
    assert_eq!(moved(To::TimestampMs(1_003), false).await, (0, 3));
    assert_eq!(moved(To::TimestampMs(9_999), false).await, (3, 10));
    assert_eq!(moved(To::Earliest(true), false).await, (10, 0));
    assert_eq!(moved(To::Offset(1_700), false).await, (0, 10));

    let resets = cluster.reset(through, vec![0, 1, 5], To::ShiftBy(-1), false).await.unwrap();
    let errors: Vec<_> =
        resets.iter().map(|one| one.error.as_ref().map(|error| error.reason())).collect();
    let expected = [None, Some(ErrorCode::NoCommittedOffset), Some(ErrorCode::UnknownPartition)];
    assert_eq!(errors, expected);
    let all = cluster.reset(through, Vec::new(), To::Earliest(true), false).await.unwrap();
    assert_eq!((all.len(), all[0].new_offset), (1, 0));
    let wrong = cluster.reset(through, vec![0], To::Offset(-2), false).await.unwrap_err();
    assert_eq!(wrong.code, ErrorCode::InvalidRequest);
    let nowhere = TopicPartitions { topic: "nothing".into(), ..Default::default() };
    let request = ResetGroupOffsetsRequest {
        group_id: "g".into(),
        partitions: vec![nowhere],
        to: Some(To::Earliest(true)),
        ..Default::default()
    };
    let wrong = cluster.groups(through).await.reset_group_offsets(request).await.unwrap_err();
    assert_eq!(Error::from(wrong).code, ErrorCode::UnknownTopic);
}

/// G1, G2: whoever leads next has the members and the offsets; to those who ask it is a delay.
#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_dies_is_replaced() {
    let mut cluster = Cluster::start(3).await;
    cluster.create(1, TOPIC, 4).await.unwrap();
    let first = cluster.coordinator(1, "g").await.node_id;
    let through = first % 3 + 1;
    let mut member = Member::join(&cluster, through, start("g")).await.unwrap();
    member.holds(4).await;
    let commit = |member: &Member, offset| CommitOffsetsRequest {
        member_id: member.id.clone(),
        member_epoch: member.epoch,
        ..commits("g", &[(TOPIC, 2, offset)])
    };
    assert_eq!(cluster.commit(through, commit(&member, 5)).await, [Ok(())]);
    cluster.kill_node(first).await;
    let (id, epoch, partitions) = (member.id.clone(), member.epoch, member.partitions.clone());
    let lost = member.failure().await;
    assert!(lost.is_retriable(), "{lost}");
    let owned = vec![TopicPartitions {
        topic: TOPIC.into(),
        partitions: partitions.clone(),
        ..Default::default()
    }];
    let back = MemberStart { member_id: id.clone(), member_epoch: epoch, owned, ..start("g") };
    let back = Member::join(&cluster, through, back).await.unwrap();
    assert_eq!((&back.id, back.epoch), (&id, epoch));
    assert_eq!(cluster.commit(through, commit(&back, 6)).await, [Ok(())]);
    assert_eq!(cluster.committed(through, "g").await, [(2, 6)]);
    let described = cluster.describe(through, "g").await.unwrap();
    assert_ne!(described.coordinator_id, first);
    assert!(described.members[0].connected);
    let listed = cluster.groups(through).await.list_groups(ListGroupsRequest::default()).await;
    assert_eq!(listed.unwrap().into_inner().groups.len(), 1);
}

/// G1: a call that another node sent on goes no further, and says who coordinates.
#[tokio::test(flavor = "multi_thread")]
async fn a_forwarded_call_is_answered_where_it_arrives() {
    let cluster = Cluster::start(3).await;
    let coordinator = cluster.coordinator(1, "g").await.node_id;
    let other = coordinator % 3 + 1;
    cluster.coordinator(other, "g").await;
    let mut request =
        Request::new(FetchOffsetsRequest { group_id: "g".into(), ..Default::default() });
    request.metadata_mut().insert("troupe-forwarded", "1".parse().unwrap());
    let refused: Error =
        cluster.groups(other).await.fetch_offsets(request).await.unwrap_err().into();
    assert_eq!(refused.code, ErrorCode::NotCoordinator);
    assert_eq!(refused.leader.unwrap().node_id, coordinator);
}

/// What coordinators write, clients may read and not write.
#[tokio::test(flavor = "multi_thread")]
async fn clients_read_internal_topics_and_do_not_write_to_them() {
    let cluster = Cluster::start(3).await;
    cluster.create(1, TOPIC, 1).await.unwrap();
    cluster.holds(2, TOPIC).await;
    assert_eq!(cluster.commit(2, commits("g", &[(TOPIC, 0, 1)])).await, [Ok(())]);
    let record = Record { key: Some("k".into()), ..record("v", 0) };
    let refused = cluster.publish(2, OFFSETS, vec![record.clone()]).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidTopic);
    let first =
        PublishStreamRequest { topic: OFFSETS.into(), records: vec![record], ..Default::default() };
    let mut client = EventBusServiceClient::new(cluster.channel(3).await);
    let mut answers =
        client.publish_stream(futures::stream::iter([first])).await.unwrap().into_inner();
    let refused: Error = answers.message().await.unwrap_err().into();
    assert_eq!(refused.code, ErrorCode::InvalidTopic);
    for node in 1..=3 {
        let refused = super::produce_to(&cluster, node, OFFSETS, b"x").await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvalidTopic);
    }
    let mut tail = cluster.tail(1, OFFSETS, true).await;
    let mut read = 0;
    while let Some(answer) = timeout(PATIENCE, tail.message()).await.unwrap().unwrap() {
        read += answer.deliveries.len();
    }
    assert!(read > 0);
}
