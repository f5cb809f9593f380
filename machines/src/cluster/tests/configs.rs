//! What is set for brokers and for the cluster: which value counts, and that every way to an image keeps it.

use super::partitions::fence;
use super::*;
use crate::config::{BrokerKeys, ConfigError, Scope};
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

/// A leader or a follower of an earlier version would forget which transactions are open.
#[test]
fn the_topic_of_transactions_waits_until_every_node_knows_them() {
    let mut image = cluster(2);
    let request = CreateTopic {
        name: TRANSACTION_TOPIC.to_owned(),
        partitions: Some(1),
        internal: true,
        ..Default::default()
    };
    let create = |image: &ClusterImage| {
        image
            .create_topic(
                &ClusterPolicy::default(),
                &request,
                TopicId::from_wire(&[9; 16]).unwrap(),
                0,
            )
            .map(drop)
    };
    let nodes = vec![NodeId(0), NodeId(1)];
    assert_eq!(create(&image), Err(ClusterError::NodesBehind { nodes }));
    for node in 0..2 {
        let epoch = image.broker(NodeId(node)).unwrap().epoch;
        let versions = (0, METADATA_VERSION);
        let decision =
            image.note_versions(NodeId(node), epoch, versions.0, versions.1, &BTreeMap::new());
        apply(&mut image, decision);
    }
    assert!(create(&image).is_err(), "it has to be decided that all know them");
    let raised = image.raise_metadata_version(version_of_topic(TRANSACTION_TOPIC), &[]);
    apply(&mut image, raised);
    assert_eq!(create(&image), Ok(()));
}

/// A node that meets a record which it does not know stops.
#[test]
fn records_of_a_new_kind_wait_until_every_node_knows_them_and_keep_older_ones_out_from_then_on() {
    let mut image = cluster(2);
    let refused = image.raise_metadata_version(METADATA_VERSION, &[NodeId(7)]).unwrap_err();
    assert_eq!(refused, ClusterError::NodesBehind { nodes: vec![NodeId(0), NodeId(1), NodeId(7)] });
    assert!(refused.to_string().contains("update and start node 0, node 1, node 7"), "{refused}");
    for node in 0..2 {
        let epoch = image.broker(NodeId(node)).unwrap().epoch;
        let decision =
            image.note_versions(NodeId(node), epoch, 0, METADATA_VERSION, &BTreeMap::new());
        apply(&mut image, decision);
    }
    assert!(
        image.raise_metadata_version(METADATA_VERSION, &[NodeId(7)]).is_err(),
        "a voter may be no broker"
    );
    let before = image.clone();
    let raised = image.raise_metadata_version(METADATA_VERSION, &[]);
    apply(&mut image, raised);
    assert!(
        image.raise_metadata_version(METADATA_VERSION, &[NodeId(7)]).unwrap().records.is_empty()
    );
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

/// Three of the settings that brokers have; the third needs a restart.
struct Keys;

impl BrokerKeys for Keys {
    fn canonical(&self, scope: Scope, key: &str, value: &str) -> Result<String, ConfigError> {
        self.check_key(scope, key)?;
        if key == "listed" {
            return Ok(value.to_owned());
        }
        let invalid = |_| ConfigError::Invalid {
            key: key.to_owned(),
            value: value.to_owned(),
            reason: "no number".to_owned(),
        };
        value.parse::<u32>().map(|number| number.to_string()).map_err(invalid)
    }

    fn check_key(&self, scope: Scope, key: &str) -> Result<(), ConfigError> {
        let key_owned = || key.to_owned();
        match (key, scope) {
            ("threads" | "listed", _) | ("min.insync.replicas", Scope::Cluster) => Ok(()),
            ("min.insync.replicas", _) => Err(ConfigError::ForTheCluster { key: key_owned() }),
            ("port", _) => Err(ConfigError::NeedsRestart { key: key_owned() }),
            _ => Err(ConfigError::UnknownOfBroker { key: key_owned(), suggestion: None }),
        }
    }

    fn default_list(&self, key: &str) -> Option<String> {
        (key == "listed").then(|| "a".to_owned())
    }

    fn check(&self, cluster: &Overrides, own: &Overrides) -> Result<(), ConfigError> {
        let threads = own.get("threads").or_else(|| cluster.get("threads"));
        let listed = own.get("listed").or_else(|| cluster.get("listed"));
        match (threads.map(String::as_str), listed.map(String::as_str)) {
            (Some("7"), Some("x")) => Err(ConfigError::Invalid {
                key: "threads".to_owned(),
                value: "7".to_owned(),
                reason: "not with x".to_owned(),
            }),
            _ => Ok(()),
        }
    }
}

fn current(brokers: i32) -> ClusterImage {
    let mut image = ClusterImage::default();
    let decision = image.initialize("cluster");
    apply(&mut image, decision);
    for node in 0..brokers {
        let request =
            RegisterBroker { metadata_version: METADATA_VERSION, ..registration(node, 1) };
        let decision = image.register_unfenced_broker(&request);
        apply(&mut image, decision);
    }
    let decision = image.raise_metadata_version(METADATA_VERSION, &[]);
    apply(&mut image, decision);
    image
}

fn alter(resource: Configured, alterations: &[(&str, Alteration)]) -> AlterConfigs {
    let owned = |(key, alteration): &(&str, Alteration)| ((*key).to_owned(), alteration.clone());
    let alterations = alterations.iter().map(owned).collect();
    AlterConfigs { resource, alterations, internal: false, validate_only: false }
}

fn altered(image: &mut ClusterImage, request: &AlterConfigs) -> Result<(), String> {
    let decision = image.alter_configs(&ClusterPolicy::default(), &Keys, request);
    let decision = decision.map_err(|error| error.to_string())?;
    let before = image.clone();
    image.replay_all(&decision.records).unwrap();
    survives(image, &before);
    Ok(())
}

fn set(value: &str) -> Alteration {
    Alteration::Set(value.to_owned())
}

fn broker(id: i32) -> Configured {
    Configured::Broker(NodeId(id))
}

#[test]
fn settings_of_a_resource_change_together_or_not_at_all() {
    let mut image = current(2);
    let both = [("threads", set(" 07".trim())), ("listed", set("b"))];
    altered(&mut image, &alter(broker(1), &both)).unwrap();
    assert_eq!(image.broker_setting(NodeId(1), "threads"), Some("7"), "in canonical form");
    let before = image.clone();
    for (resource, alterations, told) in [
        (
            broker(1),
            vec![("threads", set("2")), ("color", set("red"))],
            "unknown broker configuration",
        ),
        (broker(1), vec![("threads", set("2")), ("port", set("1"))], "start it again"),
        (broker(1), vec![("threads", set("many"))], "no number"),
        (broker(1), vec![("min.insync.replicas", set("2"))], "set it for the cluster"),
        (broker(1), vec![("threads", set("1")), ("threads", Alteration::Delete)], "more than once"),
        (broker(1), vec![("threads", Alteration::Append("1".to_owned()))], "not a list"),
        (broker(9), vec![("threads", set("1"))], "broker 9 is not registered"),
        (Configured::Cluster, vec![("listed", set("x")), ("color", Alteration::Delete)], "unknown"),
        (
            Configured::Topic("none".to_owned()),
            vec![("retention.ms", set("1"))],
            "there is no topic",
        ),
    ] {
        let refused = altered(&mut image, &alter(resource, &alterations)).unwrap_err();
        assert!(refused.contains(told), "{refused}");
    }
    // Its own threads make no sense beside what the cluster would say of the rest.
    let decision = alter(broker(1), &[("listed", Alteration::Delete)]);
    altered(&mut image, &decision).unwrap();
    let refused = altered(&mut image, &alter(Configured::Cluster, &[("listed", set("x"))]));
    assert!(refused.unwrap_err().contains("not with x"));
    let mut only_asked = alter(broker(0), &[("threads", set("3"))]);
    only_asked.validate_only = true;
    altered(&mut image, &only_asked).unwrap();
    assert!(image.broker_overrides(NodeId(0)).is_empty());
    assert_eq!(before.cluster_overrides(), image.cluster_overrides());
}

#[test]
fn lists_grow_and_shrink_from_what_holds() {
    let mut image = current(1);
    let append = |more: &str| Alteration::Append(more.to_owned());
    let subtract = |less: &str| Alteration::Subtract(less.to_owned());
    let listed =
        |image: &ClusterImage| image.broker_setting(NodeId(0), "listed").map(str::to_owned);
    altered(&mut image, &alter(Configured::Cluster, &[("listed", append("b, a"))])).unwrap();
    assert_eq!(listed(&image).as_deref(), Some("a,b"), "the default and what is new");
    altered(&mut image, &alter(broker(0), &[("listed", append("c"))])).unwrap();
    assert_eq!(listed(&image).as_deref(), Some("a,b,c"));
    altered(&mut image, &alter(broker(0), &[("listed", subtract("a,c,z"))])).unwrap();
    assert_eq!(listed(&image).as_deref(), Some("b"));
    create(&mut image, &topic("t"), 1);
    let named = || Configured::Topic("t".to_owned());
    let key = "leader.replication.throttled.replicas";
    altered(&mut image, &alter(named(), &[(key, append("0:1,1:2"))])).unwrap();
    altered(&mut image, &alter(named(), &[(key, subtract("0:1"))])).unwrap();
    altered(&mut image, &alter(named(), &[("cleanup.policy", append("compact"))])).unwrap();
    let overrides = &image.topic("t").unwrap().overrides;
    assert_eq!((&*overrides[key], &*overrides["cleanup.policy"]), ("1:2", "compact,delete"));
    let nothing = alter(named(), &[("cleanup.policy", subtract("delete,compact"))]);
    assert!(altered(&mut image, &nothing).is_err());
}

/// R16; and what was created while the cluster's counted does not lose what its nodes were started with.
#[test]
fn topics_that_follow_are_settled_when_the_clusters_min_insync_replicas_changes() {
    let mut image = current(3);
    let assignments = vec![vec![NodeId(0), NodeId(1), NodeId(2)]];
    altered(&mut image, &alter(Configured::Cluster, &[("min.insync.replicas", set("2"))])).unwrap();
    create(&mut image, &CreateTopic { assignments, ..topic("t") }, 1);
    fence(&mut image, 1);
    fence(&mut image, 2);
    let elr = |image: &ClusterImage| image.topic("t").unwrap().partitions[0].elr.clone();
    assert_eq!(elr(&image), [NodeId(2)]);
    let policy = ClusterPolicy { min_insync_replicas: 3, ..ClusterPolicy::default() };
    let unset = alter(Configured::Cluster, &[("min.insync.replicas", Alteration::Delete)]);
    let mut kept = image.clone();
    let decision = kept.alter_configs(&policy, &Keys, &unset);
    apply(&mut kept, decision);
    assert_eq!(kept.topic("t").unwrap().config.min_insync_replicas, 3);
    altered(&mut image, &unset).unwrap();
    assert_eq!(image.topic("t").unwrap().config.min_insync_replicas, 1);
    assert!(elr(&image).is_empty(), "one in sync suffices");
}

#[test]
fn what_an_earlier_version_does_not_know_is_refused_while_one_is_there() {
    let mut image = cluster(1);
    let mut request = alter(broker(0), &[("threads", set("3"))]);
    for validate_only in [false, true] {
        request.validate_only = validate_only;
        let refused = altered(&mut image, &request).unwrap_err();
        assert!(refused.contains("update and start node 0"), "{refused}");
    }
    let key = "leader.replication.throttled.replicas".to_owned();
    let configs = BTreeMap::from([(key, "*".to_owned())]);
    let throttled = CreateTopic { configs, ..topic("t") };
    assert_eq!(decide(&image, &throttled).unwrap_err(), ErrorCode::InvalidRequest);
}
