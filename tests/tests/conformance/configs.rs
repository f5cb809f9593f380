//! Settings of topics, brokers and the cluster (A3, A25): described with where they come from, changed while nodes run.

use crate::reason;
use std::collections::BTreeMap;
use troupe_proto::admin::v1::config_resource::Resource;
use troupe_proto::admin::v1::{
    AlterConfigOperation as Op, AlterConfigsResource, AlterableConfig, AlteredConfigs,
    ConfigEntrySource as From, ConfigResource, ConfigUpdateMode, DescribeConfigsRequest,
    DescribeConfigsResource, DescribedConfig, DescribedConfigs, GetClusterRequest,
    IncrementalAlterConfigsRequest,
};
use troupe_proto::error::ErrorCode;
use troupe_tests::Server;

fn of(resource: Resource) -> Option<ConfigResource> {
    Some(ConfigResource { resource: Some(resource) })
}

fn topic(name: &str) -> Resource {
    Resource::Topic(name.to_owned())
}

fn change(name: &str, operation: Op, value: &str) -> AlterableConfig {
    AlterableConfig { name: name.to_owned(), operation: operation.into(), value: value.to_owned() }
}

fn set(name: &str, value: &str) -> AlterableConfig {
    change(name, Op::Set, value)
}

async fn alter_all(
    server: &Server,
    resources: Vec<AlterConfigsResource>,
    validate_only: bool,
) -> Vec<AlteredConfigs> {
    let request = IncrementalAlterConfigsRequest { resources, validate_only, internal: false };
    server.configs().incremental_alter_configs(request).await.unwrap().into_inner().results
}

async fn alter(
    server: &Server,
    resource: Resource,
    configs: Vec<AlterableConfig>,
) -> AlteredConfigs {
    let resource = AlterConfigsResource { resource: of(resource), configs };
    alter_all(server, vec![resource], false).await.remove(0)
}

async fn altered(server: &Server, resource: Resource, configs: Vec<AlterableConfig>) {
    let result = alter(server, resource, configs).await;
    assert_eq!(result.error, None);
}

async fn describe(server: &Server, resource: Resource, keys: &[&str]) -> DescribedConfigs {
    let keys = keys.iter().map(|&key| key.to_owned()).collect();
    let resources = vec![DescribeConfigsResource { resource: of(resource), keys }];
    let request = DescribeConfigsRequest { resources };
    server.configs().describe_configs(request).await.unwrap().into_inner().results.remove(0)
}

async fn one(server: &Server, resource: Resource, key: &str) -> DescribedConfig {
    let mut described = describe(server, resource, &[key]).await;
    assert_eq!((described.error, described.configs.len()), (None, 1));
    described.configs.remove(0)
}

fn synonyms(config: &DescribedConfig) -> Vec<(&str, &str, From)> {
    config.synonyms.iter().map(|it| (&*it.name, &*it.value, it.source())).collect()
}

/// Some broker of the cluster.
async fn broker(server: &Server) -> i32 {
    let cluster = server.cluster().get_cluster(GetClusterRequest {}).await.unwrap().into_inner();
    cluster.nodes[0].node_id
}

#[tokio::test]
async fn a_topics_settings_are_set_deleted_appended_and_subtracted() {
    let server = Server::get().await;
    let name = server.new_topic(1, &[]).await.name;
    let both = vec![set("retention.ms", "1d"), set("max.message.bytes", "2MiB")];
    altered(&server, topic(&name), both).await;
    let retention = one(&server, topic(&name), "retention.ms").await;
    assert_eq!(
        (retention.value.as_deref(), retention.source()),
        (Some("86400000"), From::DynamicTopic)
    );
    assert_eq!(retention.update_mode(), ConfigUpdateMode::PerTopic);
    assert_eq!(retention.default_value, "604800000");
    assert!(!retention.list && retention.documentation.len() > 20);
    let all = synonyms(&retention);
    assert_eq!(all.first(), Some(&("retention.ms", "86400000", From::DynamicTopic)));
    assert_eq!(all.last(), Some(&("retention.ms", "604800000", From::Default)));
    altered(&server, topic(&name), vec![change("retention.ms", Op::Delete, "")]).await;
    assert_ne!(one(&server, topic(&name), "retention.ms").await.source(), From::DynamicTopic);

    let policy = async || one(&server, topic(&name), "cleanup.policy").await;
    assert!(policy().await.list);
    altered(&server, topic(&name), vec![change("cleanup.policy", Op::Append, "compact")]).await;
    assert_eq!(policy().await.value.as_deref(), Some("compact,delete"));
    altered(&server, topic(&name), vec![change("cleanup.policy", Op::Subtract, "delete")]).await;
    assert_eq!(policy().await.value.as_deref(), Some("compact"));
    let key = "follower.replication.throttled.replicas";
    altered(&server, topic(&name), vec![change(key, Op::Append, "0:1,0:2")]).await;
    altered(&server, topic(&name), vec![change(key, Op::Subtract, "0:1")]).await;
    assert_eq!(one(&server, topic(&name), key).await.value.as_deref(), Some("0:2"));
    altered(&server, topic(&name), vec![set("leader.replication.throttled.replicas", "*")]).await;
}

#[tokio::test]
async fn every_setting_of_a_topic_a_broker_and_the_cluster_is_described() {
    let server = Server::get().await;
    let name = server.new_topic(1, &[("segment.bytes", "1MiB")]).await.name;
    let described = describe(&server, topic(&name), &[]).await;
    assert!(described.configs.is_sorted_by_key(|config| config.name.clone()));
    assert!(described.configs.len() > 20 && described.notice.is_empty());
    let broker = describe(&server, Resource::BrokerId(broker(&server).await), &[]).await;
    let cluster = describe(&server, Resource::Cluster(true), &[]).await;
    let modes = |described: &DescribedConfigs| -> BTreeMap<String, ConfigUpdateMode> {
        described.configs.iter().map(|it| (it.name.clone(), it.update_mode())).collect()
    };
    let (of_broker, of_cluster) = (modes(&broker), modes(&cluster));
    assert_eq!(of_broker["node.id"], ConfigUpdateMode::ReadOnly);
    assert_eq!(of_broker["log.cleaner.threads"], ConfigUpdateMode::PerBroker);
    assert_eq!(of_broker["num.partitions"], ConfigUpdateMode::ClusterWide);
    assert!(!of_cluster.contains_key("node.id") && of_cluster.contains_key("num.partitions"));
    for config in described.configs.iter().chain(&broker.configs).chain(&cluster.configs) {
        assert!(!config.documentation.is_empty() && !config.synonyms.is_empty(), "{config:?}");
        assert_ne!(config.source(), From::Unspecified, "{config:?}");
        assert_eq!(config.source(), config.synonyms[0].source(), "{config:?}");
        assert_eq!(config.synonyms.last().unwrap().source(), From::Default, "{config:?}");
    }
}

/// A3: topic, broker, cluster, what it was started with, default.
#[tokio::test]
async fn a_brokers_own_setting_counts_before_the_clusters() {
    let server = Server::get().await;
    let broker = Resource::BrokerId(broker(&server).await);
    let key = "log.scrub.interval.ms";
    altered(&server, Resource::Cluster(true), vec![set(key, "3d")]).await;
    altered(&server, broker.clone(), vec![set(key, "2d")]).await;
    let own = one(&server, broker.clone(), key).await;
    assert_eq!((own.value.as_deref(), own.source()), (Some("172800000"), From::DynamicBroker));
    let all = synonyms(&own);
    assert_eq!(all[0], (key, "172800000", From::DynamicBroker));
    assert_eq!(all[1], (key, "259200000", From::DynamicDefaultBroker));
    let cluster = one(&server, Resource::Cluster(true), key).await;
    assert_eq!(cluster.source(), From::DynamicDefaultBroker);
    altered(&server, broker.clone(), vec![change(key, Op::Delete, "")]).await;
    let now = one(&server, broker.clone(), key).await;
    assert_eq!(
        (now.value.as_deref(), now.source()),
        (Some("259200000"), From::DynamicDefaultBroker)
    );
    // Once more: there is nothing to do.
    altered(&server, broker.clone(), vec![change(key, Op::Delete, "")]).await;
    altered(&server, Resource::Cluster(true), vec![change(key, Op::Delete, "")]).await;
    assert!(!matches!(one(&server, broker, key).await.source(), From::DynamicDefaultBroker));
}

/// A13, as far as it is kept.
#[tokio::test]
async fn throttles_of_a_broker_are_rates_in_bytes() {
    let server = Server::get().await;
    let broker = Resource::BrokerId(broker(&server).await);
    for key in ["leader.replication.throttled.rate", "follower.replication.throttled.rate"] {
        altered(&server, broker.clone(), vec![set(key, "1GiB")]).await;
        let rate = one(&server, broker.clone(), key).await;
        assert_eq!(
            (rate.value.as_deref(), rate.source()),
            (Some("1073741824"), From::DynamicBroker)
        );
        altered(&server, broker.clone(), vec![change(key, Op::Delete, "")]).await;
        let refused = alter(&server, broker.clone(), vec![set(key, "fast")]).await;
        assert_eq!(reason(&refused.error), ErrorCode::InvalidConfig);
    }
}

/// What a topic does not set itself is shown with what its broker says of it.
#[tokio::test]
async fn a_topics_setting_comes_from_the_cluster_where_nothing_nearer_has_it() {
    let server = Server::get().await;
    let name = server.new_topic(1, &[]).await.name;
    // Longer than the default: other tests go on beside this one.
    altered(&server, Resource::Cluster(true), vec![set("log.retention.bytes", "1TiB")]).await;
    let config = one(&server, topic(&name), "retention.bytes").await;
    assert_eq!(config.value.as_deref(), Some("1099511627776"));
    assert_eq!(
        synonyms(&config)[0],
        ("log.retention.bytes", "1099511627776", From::DynamicDefaultBroker)
    );
    altered(&server, Resource::Cluster(true), vec![change("log.retention.bytes", Op::Delete, "")])
        .await;
    assert_eq!(one(&server, topic(&name), "retention.bytes").await.value.as_deref(), Some("-1"));
}

/// A25.
#[tokio::test]
async fn resources_succeed_and_fail_each_for_itself_and_one_as_a_whole() {
    let server = Server::get().await;
    let (good, bad) = (server.new_topic(1, &[]).await.name, server.new_topic(1, &[]).await.name);
    let named = |name: &str, configs| AlterConfigsResource { resource: of(topic(name)), configs };
    let asked = vec![
        named(&good, vec![set("retention.ms", "2d")]),
        named(&bad, vec![set("retention.ms", "2d"), set("segment.bytes", "huge")]),
        named("no.such.topic", vec![set("retention.ms", "2d")]),
        named(&good, vec![set("retention.ms", "3d")]),
        AlterConfigsResource { resource: None, configs: Vec::new() },
        named(&bad, vec![change("retention.ms", Op::Unspecified, "")]),
    ];
    for validate_only in [true, false] {
        let results = alter_all(&server, asked.clone(), validate_only).await;
        assert_eq!(results.len(), 6);
        let resources = results.iter().zip(&asked).all(|(it, asked)| it.resource == asked.resource);
        assert!(resources, "in the order asked: {results:?}");
        assert_eq!(results[0].error, None);
        assert_eq!(reason(&results[1].error), ErrorCode::InvalidConfig);
        assert_eq!(reason(&results[2].error), ErrorCode::UnknownTopic);
        for refused in &results[3..] {
            assert_eq!(reason(&refused.error), ErrorCode::InvalidRequest);
        }
        let set = one(&server, topic(&good), "retention.ms").await.value;
        assert_eq!(set.as_deref() == Some("172800000"), !validate_only);
        assert_ne!(one(&server, topic(&bad), "retention.ms").await.value, Some("172800000".into()));
    }
    let request = DescribeConfigsRequest {
        resources: vec![
            DescribeConfigsResource { resource: of(topic(&good)), keys: Vec::new() },
            DescribeConfigsResource { resource: of(topic("no.such.topic")), keys: Vec::new() },
            DescribeConfigsResource { resource: None, keys: Vec::new() },
            DescribeConfigsResource { resource: of(topic(&good)), keys: vec!["colour".into()] },
        ],
    };
    let described = server.configs().describe_configs(request).await.unwrap().into_inner();
    let reasons: Vec<_> = described.results[1..].iter().map(|it| reason(&it.error)).collect();
    assert_eq!(described.results[0].error, None);
    let expected = [ErrorCode::UnknownTopic, ErrorCode::InvalidRequest, ErrorCode::InvalidConfig];
    assert_eq!(reasons, expected);
    assert!(described.as_of.is_some());
}

#[tokio::test]
async fn what_cannot_be_set_is_refused_with_what_to_do() {
    let server = Server::get().await;
    let name = server.new_topic(1, &[]).await.name;
    let broker = Resource::BrokerId(broker(&server).await);
    let keys = ["log.cleaner.threads", "num.partitions", "listener"];
    let before = describe(&server, broker.clone(), &keys).await.configs;
    let (topic, cluster) = (topic(&name), Resource::Cluster(true));
    let throttled = "leader.replication.throttled.replicas";
    for (resource, change, code, told) in [
        (
            &topic,
            set("retention.mss", "1"),
            ErrorCode::InvalidConfig,
            "did you mean 'retention.ms'?",
        ),
        (&topic, set("retention.ms", "soon"), ErrorCode::InvalidConfig, "no value for"),
        (&topic, set(throttled, "0-1"), ErrorCode::InvalidConfig, "PARTITION:BROKER"),
        (&topic, change("retention.ms", Op::Append, "1"), ErrorCode::InvalidConfig, "not a list"),
        (
            &broker,
            set("log.cleaner.thread", "1"),
            ErrorCode::InvalidConfig,
            "'log.cleaner.threads'?",
        ),
        (&broker, set("log.cleaner.threads", "0"), ErrorCode::InvalidConfig, "0 is too small"),
        (&broker, set("log.cleaner.threads", "many"), ErrorCode::InvalidConfig, "no value for"),
        (&broker, set("listener", "127.0.0.1:1"), ErrorCode::InvalidConfig, "start it again"),
        (&broker, set("num.partitions", "2"), ErrorCode::InvalidConfig, "set it for the cluster"),
        (
            &broker,
            change("log.cleaner.threads", Op::Subtract, "1"),
            ErrorCode::InvalidConfig,
            "list",
        ),
        (&broker, change("no.key", Op::Delete, ""), ErrorCode::InvalidConfig, "unknown broker"),
        (&cluster, set("num.partitions", "0"), ErrorCode::InvalidConfig, "0 is too small"),
        (&cluster, set("log.retention.ms", "0"), ErrorCode::InvalidConfig, "at least 1"),
        (
            &Resource::BrokerId(4711),
            set("log.cleaner.threads", "1"),
            ErrorCode::BrokerNotRegistered,
            "4711 is not registered",
        ),
        (
            &Resource::BrokerId(-1),
            set("log.cleaner.threads", "1"),
            ErrorCode::BrokerNotRegistered,
            "-1",
        ),
        (
            &Resource::Cluster(false),
            set("num.partitions", "2"),
            ErrorCode::InvalidRequest,
            "name a",
        ),
    ] {
        let key = change.name.clone();
        let result = alter(&server, resource.clone(), vec![change]).await;
        assert_eq!(reason(&result.error), code, "{key}");
        let message = result.error.unwrap().message;
        assert!(message.contains(told), "{key}: {message}");
    }
    let twice = vec![set("log.cleaner.threads", "2"), set("log.cleaner.threads", "3")];
    let result = alter(&server, broker.clone(), twice).await;
    assert!(result.error.unwrap().message.contains("more than once"));
    assert_eq!(describe(&server, broker, &keys).await.configs, before, "nothing has changed");
    let away = describe(&server, Resource::BrokerId(4711), &[]).await;
    assert_eq!(reason(&away.error), ErrorCode::BrokerNotRegistered);
}

/// The cluster's own topics are changed by who knows.
#[tokio::test]
async fn a_topic_of_the_clusters_own_is_changed_only_by_who_says_so() {
    let server = Server::get().await;
    let result = alter(&server, topic("__own"), vec![set("retention.ms", "1d")]).await;
    let error = result.error.unwrap();
    assert!(
        matches!(error.reason(), ErrorCode::InvalidTopic | ErrorCode::UnknownTopic),
        "{error:?}"
    );
}
