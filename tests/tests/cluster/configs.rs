//! Settings that are changed while a cluster of three runs: each node goes by them, whoever fails.

use crate::partition_where;
use std::collections::BTreeMap;
use troupe_proto::admin::v1::config_resource::Resource;
use troupe_proto::admin::v1::{
    AlterConfigOperation as Op, AlterConfigsResource, AlterableConfig, ConfigEntrySource as From,
    ConfigResource, CreateTopicRequest, DescribeConfigsRequest, DescribeConfigsResource,
    DescribedConfigs, IncrementalAlterConfigsRequest,
};
use troupe_tests::{Cluster, Server, eventually_or_why};

const KEY: &str = "log.cleaner.backoff.ms";

fn of(resource: &Resource) -> Option<ConfigResource> {
    Some(ConfigResource { resource: Some(resource.clone()) })
}

/// Through any node that answers; asked again while a controller is elected.
async fn alter(server: &Server, resource: Resource, name: &str, value: Option<&str>) {
    let operation = if value.is_some() { Op::Set } else { Op::Delete };
    let config = AlterableConfig {
        name: name.to_owned(),
        operation: operation.into(),
        value: value.unwrap_or_default().to_owned(),
    };
    let resources = vec![AlterConfigsResource { resource: of(&resource), configs: vec![config] }];
    let request = IncrementalAlterConfigsRequest { resources, ..Default::default() };
    eventually_or_why("the setting is changed", async || {
        let answer = server.configs().incremental_alter_configs(request.clone()).await;
        let mut results = answer.map_err(|status| status.to_string())?.into_inner().results;
        results.remove(0).error.map_or(Ok(()), |error| Err(error.message))
    })
    .await;
}

async fn describe(server: &Server, node: i32) -> DescribedConfigs {
    let resource = of(&Resource::BrokerId(node));
    let resources = vec![DescribeConfigsResource { resource, keys: vec![KEY.to_owned()] }];
    let request = DescribeConfigsRequest { resources };
    server.configs().describe_configs(request).await.unwrap().into_inner().results.remove(0)
}

/// What each node has, as the node that is asked tells it.
async fn held(server: &Server, nodes: &[i32]) -> BTreeMap<i32, (Option<String>, From)> {
    let mut held = BTreeMap::new();
    for &node in nodes {
        let config = describe(server, node).await.configs.remove(0);
        held.insert(node, (config.value.clone(), config.source()));
    }
    held
}

async fn all_hold(server: &Server, wanted: [(&str, From); 3]) {
    let wanted: BTreeMap<_, _> =
        (1..).zip(wanted.map(|(value, source)| (Some(value.to_owned()), source))).collect();
    eventually_or_why("every node holds it", async || {
        let held = held(server, &[1, 2, 3]).await;
        if held == wanted { Ok(()) } else { Err(format!("{held:?}")) }
    })
    .await;
}

/// A3: what is set for the cluster counts after a broker's own and before what it was started with; it outlives
/// restarts and controllers; and of a node that is away, what only it knows is told to be unknown.
#[tokio::test]
async fn settings_of_brokers_and_of_the_cluster_outlive_restarts_and_controllers() {
    let mut cluster = Cluster::start(&["log.cleaner.backoff.ms=1000"]).await;
    let controller = cluster.healed().await.controller;
    let through = cluster.ids().find(|&id| id != controller).unwrap();
    let server = cluster.server(through).await;
    all_hold(&server, [("1000", From::StaticBroker); 3]).await;
    alter(&server, Resource::Cluster(true), KEY, Some("2s")).await;
    all_hold(&server, [("2000", From::DynamicDefaultBroker); 3]).await;
    alter(&server, Resource::BrokerId(controller), KEY, Some("3s")).await;
    let mut wanted = [("2000", From::DynamicDefaultBroker); 3];
    wanted[controller as usize - 1] = ("3000", From::DynamicBroker);
    all_hold(&server, wanted).await;

    cluster.kill(controller);
    let away = eventually_or_why("another controller decides", async || {
        let away = describe(&server, controller).await;
        if away.notice.is_empty() { Err(format!("{away:?}")) } else { Ok(away) }
    })
    .await;
    assert!(away.notice.contains("is not known"), "{}", away.notice);
    assert_eq!(away.configs[0].value.as_deref(), Some("3000"), "everybody knows what was set");
    alter(&server, Resource::BrokerId(controller), KEY, None).await;
    let away = describe(&server, controller).await;
    assert_eq!(away.configs[0].value.as_deref(), Some("2000"));
    alter(&server, Resource::Cluster(true), KEY, None).await;
    let away = describe(&server, controller).await;
    let unknown = (away.configs[0].value.as_deref(), away.configs[0].source());
    assert_eq!(unknown, (None, From::Unspecified), "only it knows what it was started with");
    alter(&server, Resource::BrokerId(controller), KEY, Some("4s")).await;

    cluster.restart(&[controller]).await;
    cluster.healed().await;
    let mut wanted = [("1000", From::StaticBroker); 3];
    wanted[controller as usize - 1] = ("4000", From::DynamicBroker);
    all_hold(&server, wanted).await;
    for id in [1, 2, 3] {
        cluster.terminate(id).await;
    }
    cluster.restart(&[1, 2, 3]).await;
    cluster.healed().await;
    all_hold(&cluster.server(through).await, wanted).await;
}

/// The controller itself goes by what is set for the cluster, whichever node it is.
#[tokio::test]
async fn the_controller_goes_by_what_is_set_for_the_cluster() {
    let mut cluster = Cluster::start(&["min.insync.replicas=1"]).await;
    let controller = cluster.healed().await.controller;
    let through = cluster.ids().find(|&id| id != controller).unwrap();
    let server = cluster.server(through).await;
    for (key, value) in
        [("num.partitions", "4"), ("default.replication.factor", "3"), ("min.insync.replicas", "2")]
    {
        alter(&server, Resource::Cluster(true), key, Some(value)).await;
    }
    let create = async |name: &str| {
        let request = CreateTopicRequest { name: name.to_owned(), ..Default::default() };
        eventually_or_why("the topic is created", async || {
            let created = server.topics().create_topic(request.clone()).await;
            let topic = created.map_err(|status| status.to_string())?.into_inner().topic.unwrap();
            Ok::<_, String>((topic.partitions.len(), topic.partitions[0].replicas.len()))
        })
        .await
    };
    assert_eq!(create("before").await, (4, 3));
    partition_where(&cluster, "before", |one| one.min_in_sync_replicas == 2).await;
    cluster.kill(controller);
    assert_eq!(create("after").await, (4, 3));
    alter(&server, Resource::Cluster(true), "min.insync.replicas", None).await;
    partition_where(&cluster, "before", |one| one.min_in_sync_replicas == 1).await;
}
