//! What is set for brokers and for the cluster: which value counts, and that every way to an image keeps it.

use super::partitions::fence;
use super::*;
use troupe_proto::internal::v1::config_resource::Resource;
use troupe_proto::internal::v1::metadata_record::Record;
use troupe_proto::internal::v1::{ConfigRecord, ConfigResource};

fn setting(resource: Resource, key: &str, value: Option<&str>) -> MetadataRecord {
    let resource = Some(ConfigResource { resource: Some(resource) });
    let (key, value) = (key.to_owned(), value.map(str::to_owned));
    wrap(Record::Config(ConfigRecord { resource, key, value }))
}

fn node(id: i32, key: &str, value: Option<&str>) -> MetadataRecord {
    setting(Resource::NodeId(id), key, value)
}

fn all(key: &str, value: Option<&str>) -> MetadataRecord {
    setting(Resource::Cluster(true), key, value)
}

/// The same by a snapshot, and by the delta from an earlier image.
fn survives(image: &ClusterImage, earlier: &ClusterImage) {
    assert_eq!(&ClusterImage::from_snapshot(&image.snapshot()).unwrap(), image);
    let mut follower = earlier.clone();
    follower.apply_delta(&image.delta(earlier)).unwrap();
    assert_eq!(&follower, image);
    assert_eq!(follower.topic_defaults, image.topic_defaults);
}

#[test]
fn a_brokers_own_setting_counts_before_the_clusters() {
    let mut image = cluster(2);
    let before = image.clone();
    let records = [
        all("log.retention.ms", Some("5")),
        node(1, "log.retention.ms", Some("7")),
        node(0, "log.cleaner.threads", Some("2")),
    ];
    image.replay_all(&records).unwrap();
    let seen = |image: &ClusterImage, node, key| {
        image.broker_setting(NodeId(node), key).map(str::to_owned)
    };
    assert_eq!(seen(&image, 0, "log.retention.ms").as_deref(), Some("5"));
    assert_eq!(seen(&image, 1, "log.retention.ms").as_deref(), Some("7"));
    assert_eq!(seen(&image, 1, "log.cleaner.threads"), None);
    survives(&image, &before);
    survives(&image, &ClusterImage::default());
    let before = image.clone();
    image
        .replay_all(&[node(1, "log.retention.ms", None), all("num.partitions", Some("3"))])
        .unwrap();
    assert_eq!(seen(&image, 1, "log.retention.ms").as_deref(), Some("5"));
    assert!(image.broker_overrides(NodeId(1)).is_empty());
    survives(&image, &before);
    let unknown = image.replay_all(&[node(9, "log.retention.ms", Some("1"))]).unwrap_err();
    assert_eq!(unknown.fault, Fault::UnknownBroker);
}

/// K22.
#[test]
fn settings_of_a_broker_go_when_it_is_removed_and_stay_when_it_comes_back() {
    let mut image = cluster(2);
    image.replay_all(&[node(1, "log.retention.ms", Some("7"))]).unwrap();
    let before = image.clone();
    let decision = image.register_broker(&registration(1, 9), Arrival::default());
    apply(&mut image, decision);
    assert_eq!(image.broker_setting(NodeId(1), "log.retention.ms"), Some("7"));
    survives(&image, &before);
    fence(&mut image, 1);
    let decision = image.unregister_broker(NodeId(1));
    apply(&mut image, decision);
    assert!(image.broker_overrides(NodeId(1)).is_empty());
    survives(&image, &before);
    let decision = image.register_broker(&registration(1, 10), Arrival::default());
    apply(&mut image, decision);
    assert_eq!(image.broker_setting(NodeId(1), "log.retention.ms"), None);
    survives(&image, &before);
}

/// The controller decides by them, so that they are the same wherever the image is.
#[test]
fn topics_follow_the_clusters_min_insync_replicas_unless_they_have_their_own() {
    let mut image = cluster(3);
    create(&mut image, &topic("follows"), 1);
    let own = BTreeMap::from([("min.insync.replicas".to_owned(), "1".to_owned())]);
    create(&mut image, &CreateTopic { configs: own, ..topic("own") }, 2);
    let before = image.clone();
    let records = [
        all("min.insync.replicas", Some("2")),
        all("unclean.leader.election.enable", Some("true")),
    ];
    image.replay_all(&records).unwrap();
    let min = |image: &ClusterImage, name| image.topic(name).unwrap().config.min_insync_replicas;
    assert_eq!((min(&image, "follows"), min(&image, "own")), (2, 1));
    assert!(image.topic("own").unwrap().config.unclean_leader_election);
    // Not even what the controller was started with counts before it.
    let policy = ClusterPolicy { min_insync_replicas: 3, ..ClusterPolicy::default() };
    let decision = image.create_topic(&policy, &topic("new"), id(3), 7);
    let new = apply(&mut image, decision);
    assert_eq!((min(&image, "new"), new.overrides.len()), (2, 0));
    assert_eq!(image.topic("new"), Some(&new));
    let unset = UpdateTopic {
        name: "own".into(),
        unset: vec!["min.insync.replicas".into()],
        ..UpdateTopic::default()
    };
    let decision = image.update_topic(&unset);
    let answered = apply(&mut image, decision);
    assert_eq!((min(&image, "own"), image.topic("own")), (2, Some(&answered)));
    survives(&image, &before);
    let before = image.clone();
    image.replay_all(&[all("min.insync.replicas", None)]).unwrap();
    assert_eq!((min(&image, "follows"), min(&image, "own")), (1, 1));
    survives(&image, &before);
}

/// A node that meets a record which it does not know stops.
#[test]
fn records_of_a_new_kind_wait_until_every_node_knows_them_and_keep_older_ones_out_from_then_on() {
    let mut image = cluster(2);
    let refused = image.require_metadata_version(1, &[NodeId(7)]).unwrap_err();
    assert_eq!(refused, ClusterError::NodesBehind { nodes: vec![NodeId(0), NodeId(1), NodeId(7)] });
    assert!(refused.to_string().contains("update and start node 0, node 1, node 7"), "{refused}");
    for node in 0..2 {
        let epoch = image.broker(NodeId(node)).unwrap().epoch;
        let decision = image.note_versions(NodeId(node), epoch, 0, METADATA_VERSION);
        apply(&mut image, decision);
    }
    assert!(image.require_metadata_version(1, &[NodeId(7)]).is_err(), "a voter may be no broker");
    let before = image.clone();
    let raised = image.require_metadata_version(1, &[]).unwrap().unwrap();
    image.replay_all(&[raised]).unwrap();
    assert_eq!(image.require_metadata_version(1, &[NodeId(7)]), Ok(None));
    survives(&image, &before);
    let old = registration(1, 9);
    let refused = image.register_broker(&old, Arrival::default()).unwrap_err();
    assert_eq!(WireError::from(refused).code, ErrorCode::InvalidRequest);
    assert!(image.register_unfenced_broker(&old).is_err());
    let new = RegisterBroker { metadata_version: METADATA_VERSION, ..old };
    let decision = image.register_broker(&new, Arrival::default());
    apply(&mut image, decision);
    survives(&image, &before);
}
