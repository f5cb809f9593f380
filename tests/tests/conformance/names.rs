//! Names that nothing can have: refused at once by every call that takes one, whatever it would do with it.

use crate::{checked, reason};
use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorSet};
use std::collections::BTreeMap;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;
use troupe_proto::admin::v1 as admin;
use troupe_proto::log::v1 as log;
use troupe_proto::v1 as bus;
use troupe_proto::v1::{ErrorDetail, ErrorReason};
use troupe_tests::{Sample, Server, batch_of, partition_of};

/// What a client takes of headers at the very most: gRPC's C core refuses more.
const MAX_HEADERS: usize = 16 << 10;

/// Every message of the contract by its full name.
fn messages(set: &FileDescriptorSet) -> BTreeMap<String, &DescriptorProto> {
    let all = set.file.iter().flat_map(|file| {
        let full = move |one: &DescriptorProto| format!(".{}.{}", file.package(), one.name());
        file.message_type.iter().map(move |one| (full(one), one))
    });
    all.collect()
}

/// Whether a message, or one within it, has a field of one of these names.
fn names(
    messages: &BTreeMap<String, &DescriptorProto>,
    message: &str,
    fields: &[&str],
    depth: usize,
) -> bool {
    let Some(found) = messages.get(message).filter(|_| depth > 0) else { return false };
    found.field.iter().any(|field| {
        fields.contains(&field.name()) || names(messages, field.type_name(), fields, depth - 1)
    })
}

/// The paths of the methods that clients may call and that take such a field.
fn methods_that_take(fields: &[&str]) -> Vec<String> {
    let set = FileDescriptorSet::decode(troupe_proto::FILE_DESCRIPTOR_SET).unwrap();
    let messages = messages(&set);
    let mut paths = Vec::new();
    for file in set.file.iter().filter(|file| file.package() != "troupe.internal.v1") {
        for service in &file.service {
            // There the topic itself is what is named.
            let fields = match service.name() {
                "TopicService" if fields.contains(&"topic") => [fields, &["name"]].concat(),
                _ => fields.to_vec(),
            };
            for method in &service.method {
                if names(&messages, method.input_type(), &fields, 6) {
                    let (package, service) = (file.package(), service.name());
                    paths.push(format!("/{package}.{service}/{}", method.name()));
                }
            }
        }
    }
    paths
}

/// The first answer to one message.
async fn first<Req, Res>(server: &Server, path: &str, request: Req) -> Result<Res, Status>
where
    Req: Message + Default + 'static,
    Res: Message + Default + 'static,
{
    let mut grpc = tonic::client::Grpc::new(server.channel());
    grpc.ready().await.unwrap();
    let path = http::uri::PathAndQuery::try_from(path).unwrap();
    let requests = tonic::Request::new(tokio_stream::once(request));
    let answers = grpc.streaming(requests, path, ProstCodec::<Req, Res>::default()).await?;
    Ok(answers.into_inner().message().await?.expect("an answer, or a refusal"))
}

/// A call that is refused as a whole.
async fn whole<Req>(server: &Server, path: &str, request: Req) -> ErrorReason
where
    Req: Message + Default + 'static,
{
    let refused = first::<Req, ()>(server, path, request).await;
    let status = refused.expect_err(path);
    assert_eq!(status.code(), Code::InvalidArgument, "{path}: {status:?}");
    let mut headers = http::HeaderMap::new();
    status.add_header(&mut headers).unwrap();
    let len: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    assert!(len < MAX_HEADERS, "{path}: {len} bytes");
    let error = checked(&status);
    assert!(error.surely_not_done() && !error.is_retriable(), "{path}: {error}");
    error.code
}

/// One that says of each part what became of it.
async fn part<Req, Res>(
    server: &Server,
    path: &str,
    request: Req,
    detail: impl Fn(Res) -> Option<ErrorDetail>,
) -> ErrorReason
where
    Req: Message + Default + 'static,
    Res: Message + Default + 'static,
{
    let answer = first::<Req, Res>(server, path, request).await;
    let detail = detail(answer.unwrap_or_else(|status| panic!("{path}: {status:?}")));
    assert!(detail.as_ref().is_some_and(|detail| !detail.retriable), "{path}: {detail:?}");
    reason(&detail)
}

/// Calls a method about a topic of that name: why it is refused. None: there it means something else.
async fn refused_topic(server: &Server, path: &str, name: &str) -> Option<ErrorReason> {
    let topic = name.to_owned();
    let partition = Some(partition_of(name, 0));
    let (_, method) = path.rsplit_once('/').unwrap();
    if path.starts_with("/troupe.log.v1.GroupService/") {
        return Some(refused_of_group(server, method, path, topic).await);
    }
    if path.contains("TransactionService/") {
        return refused_of_transactions(server, method, path, topic).await;
    }
    if path.starts_with("/troupe.v1.") {
        return Some(refused_by_bus(server, method, path, topic).await);
    }
    Some(match method {
        "GetTopic" => whole(server, path, admin::GetTopicRequest { name: topic }).await,
        "CreateTopic" => {
            let request = admin::CreateTopicRequest { name: topic, ..Default::default() };
            whole(server, path, request).await
        }
        "UpdateTopic" => {
            let request = admin::UpdateTopicRequest { name: topic, ..Default::default() };
            whole(server, path, request).await
        }
        "CreatePartitions" => {
            let request =
                admin::CreatePartitionsRequest { name: topic, total: 3, ..Default::default() };
            whole(server, path, request).await
        }
        "DeleteTopic" => {
            let request = admin::DeleteTopicRequest { name: topic, ..Default::default() };
            whole(server, path, request).await
        }
        "DeleteRecords" => {
            let deletion = admin::RecordsDeletion { topic, ..Default::default() };
            let request =
                admin::DeleteRecordsRequest { partitions: vec![deletion], ..Default::default() };
            let detail = |answer: admin::DeleteRecordsResponse| answer.results[0].error.clone();
            part(server, path, request, detail).await
        }
        "DescribeConfigs" => {
            let resource = Some(admin::ConfigResource {
                resource: Some(admin::config_resource::Resource::Topic(topic)),
            });
            let resources = vec![admin::DescribeConfigsResource { resource, keys: Vec::new() }];
            let detail = |answer: admin::DescribeConfigsResponse| answer.results[0].error.clone();
            part(server, path, admin::DescribeConfigsRequest { resources }, detail).await
        }
        "IncrementalAlterConfigs" => {
            let resource = Some(admin::ConfigResource {
                resource: Some(admin::config_resource::Resource::Topic(topic)),
            });
            let resources = vec![admin::AlterConfigsResource { resource, configs: Vec::new() }];
            let request = admin::IncrementalAlterConfigsRequest { resources, ..Default::default() };
            let detail =
                |answer: admin::IncrementalAlterConfigsResponse| answer.results[0].error.clone();
            part(server, path, request, detail).await
        }
        // All topics.
        "ListReplicas" | "ListPartitions" | "ScrubReplicas" if name.is_empty() => return None,
        "ScrubReplicas" => {
            whole(server, path, admin::ScrubReplicasRequest { topic, ..Default::default() }).await
        }
        "PlanReassignment" => {
            let topics = vec![topic];
            whole(server, path, admin::PlanReassignmentRequest { topics, ..Default::default() })
                .await
        }
        "RecoverPartition" => {
            whole(server, path, admin::RecoverPartitionRequest { topic, partition: 0 }).await
        }
        "ListReplicas" => {
            whole(server, path, admin::ListReplicasRequest { topic, ..Default::default() }).await
        }
        "ListPartitions" => {
            whole(server, path, admin::ListPartitionsRequest { topic, ..Default::default() }).await
        }
        "ElectLeaders" => {
            let partitions = vec![admin::TopicPartitions { topic, partitions: vec![] }];
            let request = admin::ElectLeadersRequest { partitions, ..Default::default() };
            let detail = |answer: admin::ElectLeadersResponse| answer.results[0].error.clone();
            part(server, path, request, detail).await
        }
        "AlterPartitionReassignments" => {
            let one = admin::ReassignPartition { topic, replicas: vec![1], ..Default::default() };
            let partitions = vec![one];
            let request =
                admin::AlterPartitionReassignmentsRequest { partitions, ..Default::default() };
            let detail = |answer: admin::AlterPartitionReassignmentsResponse| {
                answer.results[0].error.clone()
            };
            part(server, path, request, detail).await
        }
        "ListPartitionReassignments" => {
            let partitions = vec![admin::TopicPartitions { topic, partitions: vec![] }];
            let request =
                admin::ListPartitionReassignmentsRequest { partitions, ..Default::default() };
            whole(server, path, request).await
        }
        "DescribeLogDirs" => {
            let partitions = vec![admin::TopicPartitions { topic, partitions: vec![] }];
            whole(server, path, admin::DescribeLogDirsRequest { partitions }).await
        }
        "AlterReplicaLogDirs" => {
            let replicas = vec![admin::ReplicaLogDir { topic, ..Default::default() }];
            let detail =
                |answer: admin::AlterReplicaLogDirsResponse| answer.results[0].error.clone();
            part(server, path, admin::AlterReplicaLogDirsRequest { replicas }, detail).await
        }
        "DescribeTopics" => {
            whole(
                server,
                path,
                log::DescribeTopicsRequest { topics: vec![topic], ..Default::default() },
            )
            .await
        }
        "WatchMetadata" => {
            whole(server, path, log::WatchMetadataRequest { topics: vec![topic] }).await
        }
        "Produce" => {
            let batch = Some(batch_of(&[Sample::of("x", 1)]));
            let partitions = vec![log::PartitionProduce { partition, batch, leader_epoch: None }];
            let request = log::ProduceRequest { partitions, ..Default::default() };
            let detail = |answer: log::ProduceResponse| answer.results[0].error.clone();
            part(server, path, request, detail).await
        }
        "ProduceStream" => {
            let batch = Some(batch_of(&[Sample::of("x", 1)]));
            let request = log::ProduceStreamRequest { partition, batch, ..Default::default() };
            let detail = |answer: log::ProduceStreamResponse| answer.result.unwrap().error;
            part(server, path, request, detail).await
        }
        "Fetch" => {
            let positions = vec![log::FetchPosition { partition, ..Default::default() }];
            let request =
                log::FetchRequest { positions, max_wait_ms: 60_000, ..Default::default() };
            let detail = |answer: log::FetchResponse| answer.partitions[0].error.clone();
            part(server, path, request, detail).await
        }
        "FetchStream" => {
            let positions = vec![log::FetchPosition { partition, ..Default::default() }];
            let request = log::FetchStreamRequest { positions, credit_bytes: 1, drop: vec![] };
            let detail = |answer: log::FetchStreamResponse| answer.error;
            part(server, path, request, detail).await
        }
        "ListOffsets" => {
            let at = Some(log::offset_query::At::Latest(true));
            let queries =
                vec![log::OffsetQuery { isolation_level: Default::default(), partition, at }];
            let detail = |answer: log::ListOffsetsResponse| answer.results[0].error.clone();
            part(server, path, log::ListOffsetsRequest { queries }, detail).await
        }
        _ => panic!("{path} takes a topic, and nobody has looked what it says of impossible ones"),
    })
}

/// The same of transactions, where no topic at all may stand for all of them.
async fn refused_of_transactions(
    server: &Server,
    method: &str,
    path: &str,
    topic: String,
) -> Option<ErrorReason> {
    let partition = partition_of(&topic, 0);
    let (transactional_id, producer_id) = ("an id".to_owned(), 1);
    Some(match method {
        "AddPartitions" => {
            let partitions = vec![partition];
            let request = log::AddPartitionsRequest {
                transactional_id,
                producer_id,
                partitions,
                ..Default::default()
            };
            whole(server, path, request).await
        }
        "CommitTransactionOffsets" => {
            let offset = Some(log::OffsetAndMetadata::default());
            let commits = vec![log::PartitionCommit { partition: Some(partition), offset }];
            let request = log::CommitTransactionOffsetsRequest {
                transactional_id,
                producer_id,
                group_id: "a group".to_owned(),
                commits,
                ..Default::default()
            };
            let detail =
                |answer: log::CommitTransactionOffsetsResponse| answer.results[0].error.clone();
            part(server, path, request, detail).await
        }
        "DescribeProducers" => {
            whole(server, path, admin::DescribeProducersRequest { topic, partition: 0 }).await
        }
        "FindHangingTransactions" if topic.is_empty() => return None,
        "FindHangingTransactions" => {
            let request = admin::FindHangingTransactionsRequest { topic, ..Default::default() };
            whole(server, path, request).await
        }
        "AbortHangingTransaction" => {
            let request = admin::AbortHangingTransactionRequest { topic, ..Default::default() };
            whole(server, path, request).await
        }
        _ => panic!("{path} takes a topic, and nobody has looked what it says of impossible ones"),
    })
}

fn subscribing(topic: String, group: &str) -> bus::SubscriptionOptions {
    bus::SubscriptionOptions { topics: vec![topic], group: group.into(), ..Default::default() }
}

async fn refused_by_bus(server: &Server, method: &str, path: &str, topic: String) -> ErrorReason {
    match method {
        "Publish" => {
            let request = bus::PublishRequest { topic, ..Default::default() };
            whole(server, path, request).await
        }
        "PublishAtomically" => {
            let topics = vec![bus::TopicRecords { topic, records: vec![Default::default()] }];
            let request = bus::PublishAtomicallyRequest { topics, ..Default::default() };
            whole(server, path, request).await
        }
        "PublishStream" => {
            whole(server, path, bus::PublishStreamRequest { topic, ..Default::default() }).await
        }
        "Tail" => whole(server, path, bus::TailRequest { topic, ..Default::default() }).await,
        "Subscribe" => {
            let start = Some(subscribing(topic, "a group"));
            whole(server, path, bus::SubscribeRequest { start, ..Default::default() }).await
        }
        "Pull" => {
            let options = Some(subscribing(topic, "a group"));
            whole(server, path, bus::PullRequest { options, ..Default::default() }).await
        }
        _ => panic!("{path} takes a topic, and nobody has looked what it says of impossible ones"),
    }
}

async fn refused_of_group(server: &Server, method: &str, path: &str, topic: String) -> ErrorReason {
    let group_id = "a group".to_owned();
    let partition = Some(partition_of(&topic, 0));
    let partitions = vec![log::TopicPartitions { topic: topic.clone(), ..Default::default() }];
    match method {
        "RunMember" => {
            let subscription =
                Some(log::Subscription { topics: vec![topic], ..Default::default() });
            let start = Some(log::MemberStart { group_id, subscription, ..Default::default() });
            whole(server, path, log::RunMemberRequest { start, ..Default::default() }).await
        }
        "CommitOffsets" => {
            let offset = Some(log::OffsetAndMetadata::default());
            let commits = vec![log::PartitionCommit { partition, offset }];
            let request = log::CommitOffsetsRequest { group_id, commits, ..Default::default() };
            let detail = |answer: log::CommitOffsetsResponse| answer.results[0].error.clone();
            part(server, path, request, detail).await
        }
        "FetchOffsets" => {
            let request = log::FetchOffsetsRequest { group_id, partitions, ..Default::default() };
            whole(server, path, request).await
        }
        "DeleteGroupOffsets" => {
            whole(server, path, log::DeleteGroupOffsetsRequest { group_id, partitions }).await
        }
        "ResetGroupOffsets" => {
            let to = Some(log::reset_group_offsets_request::To::Earliest(true));
            let request =
                log::ResetGroupOffsetsRequest { group_id, partitions, to, validate_only: false };
            whole(server, path, request).await
        }
        _ => panic!("{path} takes a topic, and nobody has looked what it says of impossible ones"),
    }
}

/// Nothing is waited for, and nothing is looked for. Every method of the contract that takes a topic is asked, those
/// too that come later.
#[tokio::test]
async fn an_impossible_topic_name_is_refused_at_once_wherever_it_is_named() {
    let server = Server::get().await;
    let paths = methods_that_take(&["topic", "topics"]);
    assert!(paths.len() > 20, "{paths:?}");
    for name in ["", "a/b", &"x".repeat(250), ".", "..", "no such topic", &"x".repeat(60_000)] {
        for path in &paths {
            let Some(code) = refused_topic(&server, path, name).await else { continue };
            let expected = match path.rsplit_once('/').unwrap().1 {
                // As if none were named.
                "Publish" | "PublishStream" | "Tail" if name.is_empty() => {
                    [ErrorReason::InvalidTopic, ErrorReason::InvalidRequest]
                }
                _ => [ErrorReason::InvalidTopic; 2],
            };
            assert!(expected.contains(&code), "{path} of {name:.20?}: {code:?}");
        }
    }
}

/// What can be is done beside what cannot.
#[tokio::test]
async fn a_commit_beside_one_of_an_impossible_topic_is_made() {
    use troupe_proto::log::v1::group_service_client::GroupServiceClient;
    let server = Server::get().await;
    let topic = server.new_topic(1, &[]).await.name;
    let names = ["a/b", &topic, "..", &topic];
    let commits = names.iter().zip(1..).map(|(name, offset)| log::PartitionCommit {
        partition: Some(partition_of(name, 0)),
        offset: Some(log::OffsetAndMetadata { offset, ..Default::default() }),
    });
    let group_id = server.new_name("group");
    let request = log::CommitOffsetsRequest {
        group_id: group_id.clone(),
        commits: commits.collect(),
        ..Default::default()
    };
    let mut groups = GroupServiceClient::new(server.channel());
    let results = groups.commit_offsets(request).await.unwrap().into_inner().results;
    let told = results.iter().map(|result| {
        let name = result.partition.as_ref().unwrap().topic.as_str();
        (name, result.error.as_ref().map(|_| reason(&result.error)))
    });
    let refused = Some(ErrorReason::InvalidTopic);
    let expected = [("a/b", refused), (topic.as_str(), None), ("..", refused), (&topic, None)];
    assert_eq!(told.collect::<Vec<_>>(), expected);
    let request = log::FetchOffsetsRequest { group_id, ..Default::default() };
    let committed = groups.fetch_offsets(request).await.unwrap().into_inner().offsets;
    assert_eq!(committed.len(), 1);
    assert_eq!(committed[0].offset.as_ref().unwrap().offset, 4);
}

/// Calls a method about a group of that name: why it is refused.
async fn refused_group(server: &Server, path: &str, group: &str) -> ErrorReason {
    let group_id = group.to_owned();
    let (transactional_id, producer_id) = ("an id".to_owned(), 1);
    match path.rsplit_once('/').unwrap().1 {
        "AddOffsets" => {
            let request = log::AddOffsetsRequest {
                transactional_id,
                producer_id,
                group_id,
                ..Default::default()
            };
            whole(server, path, request).await
        }
        "CommitTransactionOffsets" => {
            let request = log::CommitTransactionOffsetsRequest {
                transactional_id,
                producer_id,
                group_id,
                ..Default::default()
            };
            whole(server, path, request).await
        }
        "Subscribe" => {
            let start = Some(subscribing("topic".to_owned(), group));
            whole(server, path, bus::SubscribeRequest { start, ..Default::default() }).await
        }
        "Pull" => {
            let options = Some(subscribing("topic".to_owned(), group));
            whole(server, path, bus::PullRequest { options, ..Default::default() }).await
        }
        "RunMember" => {
            let start = Some(log::MemberStart { group_id, ..Default::default() });
            whole(server, path, log::RunMemberRequest { start, ..Default::default() }).await
        }
        "CommitOffsets" => {
            let request = log::CommitOffsetsRequest { group_id, ..Default::default() };
            whole(server, path, request).await
        }
        "FetchOffsets" => {
            let request = log::FetchOffsetsRequest { group_id, ..Default::default() };
            whole(server, path, request).await
        }
        "RemoveGroupMembers" => {
            let member_ids = vec!["member".to_owned()];
            let request =
                log::RemoveGroupMembersRequest { group_id, member_ids, instance_ids: vec![] };
            whole(server, path, request).await
        }
        "DeleteGroupOffsets" => {
            let request = log::DeleteGroupOffsetsRequest { group_id, partitions: vec![] };
            whole(server, path, request).await
        }
        "ResetGroupOffsets" => {
            let request = log::ResetGroupOffsetsRequest { group_id, ..Default::default() };
            whole(server, path, request).await
        }
        // Nothing but the group.
        _ => whole(server, path, log::DescribeGroupRequest { group_id }).await,
    }
}

#[tokio::test]
async fn an_impossible_group_name_is_refused_at_once_wherever_it_is_named() {
    let server = Server::get().await;
    let paths = methods_that_take(&["group", "group_id"]);
    assert!(paths.len() >= 10, "{paths:?}");
    for group in ["", "a\nb", "\u{7f}", &"x".repeat(256), &"ä".repeat(30_000)] {
        for path in &paths {
            let code = refused_group(&server, path, group).await;
            assert_eq!(code, ErrorReason::InvalidGroupId, "{path} of {group:.20?}");
        }
    }
}
