//! Topics: T1–T9, A25.

use crate::refused;
use troupe_proto::admin::v1::{
    ConfigSource, CreatePartitionsRequest, CreateTopicRequest, DeleteTopicRequest, GetTopicRequest,
    ListTopicsRequest, ReplicaAssignment, Topic, UpdateTopicRequest,
};
use troupe_proto::error::ErrorCode;
use troupe_proto::log::v1::{DescribeClusterRequest, TopicPartition};
use troupe_proto::v1::Acks;
use troupe_proto::v1::ErrorReason::*;
use troupe_tests::{Sample, Server, batch_of};

fn named(name: &str) -> CreateTopicRequest {
    CreateTopicRequest { name: name.to_owned(), ..Default::default() }
}

async fn creation_refused(server: &Server, request: CreateTopicRequest) -> ErrorCode {
    refused(server.topics().create_topic(request)).await.code
}

async fn get(server: &Server, name: &str) -> Option<Topic> {
    let request = GetTopicRequest { name: name.to_owned() };
    match server.topics().get_topic(request).await {
        Ok(answer) => answer.into_inner().topic,
        Err(status) => {
            assert_eq!(crate::checked(&status).code, UnknownTopic);
            None
        }
    }
}

async fn a_node_id(server: &Server) -> i32 {
    let answer = server.metadata().describe_cluster(DescribeClusterRequest {}).await.unwrap();
    answer.into_inner().nodes[0].node_id
}

/// T1: numbered partitions, each with a leader that is in sync.
#[tokio::test]
async fn a_new_topic_has_its_partitions_and_they_have_leaders() {
    let server = Server::get().await;
    let topic = server.new_topic(7, &[]).await;
    let numbers: Vec<i32> = topic.partitions.iter().map(|one| one.partition).collect();
    assert_eq!(numbers, (0..7).collect::<Vec<_>>());
    for partition in &topic.partitions {
        assert!(partition.replicas.contains(&partition.leader_id), "{partition:?}");
        assert!(partition.in_sync_replicas.contains(&partition.leader_id), "{partition:?}");
    }
    assert_eq!(topic.topic_id.len(), 16);
    assert_eq!(get(&server, &topic.name).await, Some(topic));
}

/// T2.
#[tokio::test]
async fn names_are_checked() {
    let server = Server::get().await;
    let long = "x".repeat(250);
    for name in ["", ".", "..", "a b", "a/b", "a\0b", "naïve", "a:b", &long] {
        let error = refused(server.topics().create_topic(named(name))).await;
        assert_eq!(error.code, InvalidTopic, "{name:?}");
    }
    let longest = format!("{:x<249}", server.new_name("long"));
    let legal = format!("{}.A_b-9", server.new_name("legal"));
    for name in [longest, legal] {
        server.create_topic(&name, 1, &[]).await;
    }
}

/// T2: metrics replace `.` by `_`, so two names that differ in these alone would be one.
#[tokio::test]
async fn names_that_collide_are_refused() {
    let server = Server::get().await;
    let name = server.new_name("dot.and_underscore");
    server.create_topic(&name, 1, &[]).await;
    assert_eq!(creation_refused(&server, named(&name)).await, TopicExists);
    for other in [name.replace('.', "_"), name.replace('_', ".")] {
        assert_eq!(creation_refused(&server, named(&other)).await, InvalidTopic, "{other}");
    }
}

/// T3.
#[tokio::test]
async fn numbers_of_partitions_and_replicas_are_checked() {
    let server = Server::get().await;
    for partitions in [0, -2, i32::MIN, i32::MAX] {
        let request = CreateTopicRequest {
            partitions: Some(partitions),
            ..named(&server.new_name("partitions"))
        };
        assert_eq!(creation_refused(&server, request).await, InvalidPartitions, "{partitions}");
    }
    for replicas in [0, -2, 1_000] {
        let request = CreateTopicRequest {
            replication_factor: Some(replicas),
            ..named(&server.new_name("replicas"))
        };
        let code = creation_refused(&server, request).await;
        assert_eq!(code, InvalidReplicationFactor, "{replicas}");
    }
    for default in [None, Some(-1)] {
        let request = CreateTopicRequest {
            partitions: default,
            replication_factor: default,
            ..named(&server.new_name("defaults"))
        };
        let topic = server.topics().create_topic(request).await.unwrap().into_inner().topic;
        assert!(!topic.unwrap().partitions.is_empty());
    }
}

/// T4.
#[tokio::test]
async fn assignments_are_checked_and_followed() {
    let server = Server::get().await;
    let node = a_node_id(&server).await;
    let lists = |lists: &[&[i32]]| -> Vec<ReplicaAssignment> {
        lists.iter().map(|one| ReplicaAssignment { replicas: one.to_vec() }).collect()
    };
    for wrong in [&[&[][..]][..], &[&[node, node]], &[&[99_999]], &[&[node], &[]]] {
        let request =
            CreateTopicRequest { assignments: lists(wrong), ..named(&server.new_name("assigned")) };
        let code = creation_refused(&server, request).await;
        assert_eq!(code, InvalidReplicaAssignment, "{wrong:?}");
    }
    let both = CreateTopicRequest {
        assignments: lists(&[&[node]]),
        partitions: Some(1),
        ..named(&server.new_name("assigned"))
    };
    assert_eq!(creation_refused(&server, both).await, InvalidReplicaAssignment);

    let request = CreateTopicRequest {
        assignments: lists(&[&[node], &[node]]),
        ..named(&server.new_name("assigned"))
    };
    let topic = server.topics().create_topic(request).await.unwrap().into_inner().topic.unwrap();
    let replicas: Vec<_> = topic.partitions.iter().map(|one| one.replicas.clone()).collect();
    assert_eq!(replicas, [[node], [node]]);
}

/// T5.
#[tokio::test]
async fn partitions_may_only_become_more() {
    let server = Server::get().await;
    let topic = server.new_topic(2, &[]).await;
    let batch = batch_of(&[Sample::of("kept", 1)]);
    assert_eq!(server.produce(&topic.name, 1, batch, Acks::All).await.base_offset, 0);
    let request =
        |total| CreatePartitionsRequest { name: topic.name.clone(), total, ..Default::default() };
    for total in [-1, 0, 1, 2] {
        let error = refused(server.topics().create_partitions(request(total))).await;
        assert_eq!(error.code, InvalidPartitions, "{total}");
    }
    let grown = server.topics().create_partitions(request(5)).await.unwrap().into_inner();
    let grown = grown.topic.unwrap();
    assert_eq!(grown.partitions.len(), 5);
    assert_eq!(grown.partitions[..2], topic.partitions[..], "partitions that exist stay");
    let batch = batch_of(&[Sample::of("new", 2)]);
    assert_eq!(server.produce(&topic.name, 4, batch, Acks::All).await.base_offset, 0);
    assert_eq!(server.read_all(&topic.name, 1).await, [(0, Sample::of("kept", 1))]);

    let unknown = CreatePartitionsRequest { name: "no-such".into(), total: 9, ..request(9) };
    let error = refused(server.topics().create_partitions(unknown)).await;
    assert_eq!(error.code, UnknownTopic);
}

/// T6.
#[tokio::test]
async fn a_topic_made_again_is_another_topic() {
    let server = Server::get().await;
    let first = server.new_topic(1, &[]).await;
    let batch = batch_of(&[Sample::of("gone", 1)]);
    server.produce(&first.name, 0, batch.clone(), Acks::All).await;
    let delete =
        DeleteTopicRequest { name: first.name.clone(), validate_only: false, internal: false };
    let deleted = server.topics().delete_topic(delete).await.unwrap().into_inner();
    assert_eq!(deleted.topic_id, first.topic_id);

    let second = server.create_topic(&first.name, 1, &[]).await;
    assert_ne!(second.topic_id, first.topic_id);
    assert_eq!(server.read_all(&first.name, 0).await, [], "nothing of the old one is there");

    let produce = troupe_proto::log::v1::ProduceRequest {
        partitions: vec![troupe_proto::log::v1::PartitionProduce {
            leader_epoch: None,
            partition: Some(TopicPartition {
                topic: first.name.clone(),
                partition: 0,
                topic_id: first.topic_id,
            }),
            batch: Some(batch),
        }],
        ..Default::default()
    };
    let answer = server.log().produce(produce).await.unwrap().into_inner();
    assert_eq!(crate::reason(&answer.results[0].error), StaleTopicId);
}

/// T7: what is deleted is gone at once.
#[tokio::test]
async fn a_deleted_topic_is_gone() {
    let server = Server::get().await;
    let topic = server.new_topic(3, &[]).await;
    let request = |validate_only| DeleteTopicRequest {
        name: topic.name.clone(),
        validate_only,
        internal: false,
    };
    server.topics().delete_topic(request(true)).await.unwrap();
    assert!(get(&server, &topic.name).await.is_some(), "validate_only deletes nothing");
    server.topics().delete_topic(request(false)).await.unwrap();
    assert_eq!(get(&server, &topic.name).await, None);
    assert_eq!(refused(server.topics().delete_topic(request(false))).await.code, UnknownTopic);
    let batch = batch_of(&[Sample::of("late", 1)]);
    let result = server.produce(&topic.name, 0, batch, Acks::All).await;
    assert_eq!(crate::reason(&result.error), UnknownTopic);
}

/// T9, A3: keys are checked, all or nothing.
#[tokio::test]
async fn configs_are_set_and_unset_together_or_not_at_all() {
    let server = Server::get().await;
    let topic = server.new_topic(1, &[("retention.ms", "5m")]).await;
    let value = |topic: &Topic, key: &str| {
        let entry = topic.configs.iter().find(|entry| entry.name == key).unwrap();
        (entry.value.clone(), entry.source())
    };
    assert_eq!(value(&topic, "retention.ms"), ("300000".into(), ConfigSource::Topic));
    let update = |set: &[(&str, &str)], unset: &[&str], validate_only| UpdateTopicRequest {
        name: topic.name.clone(),
        set_configs: set.iter().map(|&(key, value)| (key.into(), value.into())).collect(),
        unset_configs: unset.iter().map(|&key| key.into()).collect(),
        validate_only,
        internal: false,
    };
    for wrong in [
        update(&[("no.such.key", "1")], &[], false),
        update(&[("retention.ms", "soon")], &[], false),
        update(&[("segment.bytes", "2097152"), ("retention.ms", "-7")], &[], false),
        update(&[("replication.factor", "3")], &[], false),
        update(&[], &["no.such.key"], false),
    ] {
        let error = refused(server.topics().update_topic(wrong.clone())).await;
        assert_eq!(error.code, InvalidConfig, "{wrong:?}");
    }
    assert_eq!(get(&server, &topic.name).await.unwrap(), topic, "nothing was changed");

    let dry = update(&[("segment.bytes", "2MiB")], &["retention.ms"], true);
    let shown = server.topics().update_topic(dry.clone()).await.unwrap().into_inner().topic;
    assert_eq!(value(&shown.unwrap(), "segment.bytes").0, "2097152");
    assert_eq!(get(&server, &topic.name).await.unwrap(), topic, "validate_only changes nothing");

    let wet = UpdateTopicRequest { validate_only: false, ..dry };
    server.topics().update_topic(wet).await.unwrap();
    let changed = get(&server, &topic.name).await.unwrap();
    assert_eq!(value(&changed, "segment.bytes"), ("2097152".into(), ConfigSource::Topic));
    assert_eq!(value(&changed, "retention.ms").1, ConfigSource::Default);
    assert!(changed.configs.iter().all(|entry| !entry.documentation.is_empty()));
}

/// A25.
#[tokio::test]
async fn validate_only_checks_everything_and_does_nothing() {
    let server = Server::get().await;
    let name = server.new_name("dry");
    let dry = |partitions| CreateTopicRequest {
        partitions: Some(partitions),
        validate_only: true,
        ..named(&name)
    };
    assert_eq!(creation_refused(&server, dry(0)).await, InvalidPartitions);
    let shown = server.topics().create_topic(dry(3)).await.unwrap().into_inner().topic.unwrap();
    assert_eq!((shown.name.as_str(), shown.partitions.len()), (name.as_str(), 3));
    assert_eq!(get(&server, &name).await, None);

    let topic = server.create_topic(&name, 1, &[]).await;
    let request = CreatePartitionsRequest {
        name: name.clone(),
        total: 4,
        validate_only: true,
        ..Default::default()
    };
    let grown = server.topics().create_partitions(request).await.unwrap().into_inner();
    assert_eq!(grown.topic.unwrap().partitions.len(), 4);
    assert_eq!(get(&server, &name).await, Some(topic));
}

#[tokio::test]
async fn topics_are_listed_by_pages() {
    let server = Server::get().await;
    let prefix = server.new_name("page");
    let mut names = Vec::new();
    for n in 0..5 {
        names.push(server.create_topic(&format!("{prefix}-{n}"), 1, &[]).await.name);
    }
    let (mut listed, mut page_token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let request = ListTopicsRequest { page_size: 2, page_token, include_internal: false };
        let page = server.topics().list_topics(request).await.unwrap().into_inner();
        assert!(page.topics.len() <= 2);
        listed.extend(page.topics.into_iter().map(|topic| topic.name));
        pages += 1;
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert!(pages >= 3);
    assert!(listed.is_sorted());
    listed.retain(|name| name.starts_with(&prefix));
    assert_eq!(listed, names);
    let request = ListTopicsRequest { page_size: -1, ..Default::default() };
    assert_eq!(refused(server.topics().list_topics(request)).await.code, InvalidRequest);
}
