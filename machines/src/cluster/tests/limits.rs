//! How many partitions there may be, and what is the cluster's own.

use super::{apply, cluster, id, topic};
use crate::cluster::{
    ClusterImage, ClusterPolicy, CreatePartitions, CreateTopic, DeleteTopic, INTERNAL_TOPICS,
    PartitionLimits, UpdateTopic,
};
use troupe_proto::error::{Error, ErrorCode};

fn policy(per_request: u32, per_node: u32, per_cluster: u32) -> ClusterPolicy {
    let partition_limits = PartitionLimits { per_request, per_node, per_cluster };
    ClusterPolicy { partition_limits, ..ClusterPolicy::default() }
}

fn of(name: &str, partitions: i32, replicas: i32) -> CreateTopic {
    CreateTopic { partitions: Some(partitions), replication_factor: Some(replicas), ..topic(name) }
}

fn create(image: &mut ClusterImage, policy: &ClusterPolicy, request: &CreateTopic, n: u8) {
    let decision = image.create_topic(policy, request, id(n), 7);
    apply(image, decision);
}

/// Which limit, and what is left of it.
fn refusal<T: std::fmt::Debug>(
    decision: Result<T, crate::cluster::ClusterError>,
) -> (String, String) {
    let error = Error::from(decision.unwrap_err());
    assert_eq!(error.code, ErrorCode::PartitionLimitReached, "{error}");
    assert!(error.message.contains(&error.facts["left"]), "{error}");
    (error.facts["key"].clone(), error.facts["left"].clone())
}

fn told(key: &str, left: &str) -> (String, String) {
    (format!("max.partitions.per.{key}"), left.to_owned())
}

#[test]
fn partitions_are_limited_per_request_per_node_and_in_the_cluster() {
    let mut image = cluster(3);
    let policy = policy(10, 15, 20);
    let refused =
        |image: &ClusterImage, request| refusal(image.create_topic(&policy, &request, id(9), 7));
    assert_eq!(refused(&image, of("a", 11, 1)), told("request", "10"));
    create(&mut image, &policy, &of("a", 10, 3), 1);
    assert_eq!(refused(&image, of("b", 6, 3)), told("node", "5"));
    create(&mut image, &policy, &of("b", 5, 3), 2);
    assert_eq!(refused(&image, of("c", 6, 1)), told("cluster", "5"));
    assert_eq!(refused(&image, of("c", 1, 1)), told("node", "0"));
    // Existing topics grow within the same limits.
    let grow = |total| CreatePartitions { name: "a".into(), total, ..Default::default() };
    let grown = |total| refusal(image.create_partitions(&policy, &grow(total), 7));
    assert_eq!(grown(21), told("request", "10"));
    assert_eq!(grown(16), told("cluster", "5"));
    assert_eq!(grown(11), told("node", "0"));
}

#[test]
fn assigned_partitions_are_limited_as_placed_ones_are() {
    use troupe_proto::ids::NodeId;
    let image = cluster(2);
    let assigned = |count| CreateTopic { assignments: vec![vec![NodeId(1)]; count], ..topic("a") };
    let refused = |policy, count| refusal(image.create_topic(&policy, &assigned(count), id(1), 7));
    assert_eq!(refused(policy(2, 9, 9), 3), told("request", "2"));
    assert_eq!(refused(policy(9, 2, 9), 3), told("node", "2"));
    assert_eq!(refused(policy(9, 9, 2), 3), told("cluster", "2"));
    assert!(image.create_topic(&policy(2, 2, 2), &assigned(2), id(1), 7).is_ok());
}

fn code<T>(decision: Result<T, crate::cluster::ClusterError>) -> Option<ErrorCode> {
    decision.err().map(|error| Error::from(error).code)
}

#[test]
fn what_begins_with_two_underscores_is_the_clusters_own() {
    let policy = ClusterPolicy::default();
    let refused = Some(ErrorCode::InvalidTopic);
    let mut image = cluster(1);
    image.metadata_version = crate::cluster::METADATA_VERSION;
    for name in INTERNAL_TOPICS.into_iter().chain(["__mine", "__"]) {
        assert_eq!(code(image.create_topic(&policy, &topic(name), id(1), 7)), refused, "{name}");
    }
    // Those that it keeps may be made before they are needed.
    for (n, name) in (1..).zip(INTERNAL_TOPICS) {
        create(&mut image, &policy, &CreateTopic { internal: true, ..of(name, 3, 1) }, n);
    }
    let mine = CreateTopic { internal: true, ..topic("__mine") };
    assert_eq!(code(image.create_topic(&policy, &mine, id(3), 7)), refused);
    for name in INTERNAL_TOPICS {
        for internal in [false, true] {
            let delete = DeleteTopic { name: name.into(), internal, validate_only: false };
            assert_eq!(code(image.delete_topic(&policy, &delete)), refused, "{name}");
            let name = name.to_owned();
            let grow = CreatePartitions { name, total: 9, internal, ..Default::default() };
            assert_eq!(code(image.create_partitions(&policy, &grow, 7)), refused, "{grow:?}");
        }
        let set = |key: &str, value: &str, internal| {
            let set = [(key.to_owned(), value.to_owned())].into();
            UpdateTopic { name: name.into(), set, internal, ..Default::default() }
        };
        let retention = |internal| set("retention.ms", "1000", internal);
        assert_eq!(code(image.update_topic(&retention(false))), refused, "{name}");
        assert_eq!(code(image.update_topic(&retention(true))), None, "{name}");
        let delete = set("cleanup.policy", "delete", true);
        assert_eq!(code(image.update_topic(&delete)), refused, "{name}");
        let unset = vec!["cleanup.policy".to_owned()];
        let unset = UpdateTopic { name: name.into(), unset, internal: true, ..Default::default() };
        assert_eq!(code(image.update_topic(&unset)), refused, "{name}");
    }
}

/// Names that nothing can have are refused as such, and not looked for.
#[test]
fn an_impossible_name_is_invalid_in_every_request() {
    let (image, policy) = (cluster(1), ClusterPolicy::default());
    for name in ["", ".", "..", "a b", "ä", &"x".repeat(250)] {
        let name = name.to_owned();
        let refused = Some(ErrorCode::InvalidTopic);
        assert_eq!(code(image.create_topic(&policy, &topic(&name), id(1), 7)), refused);
        let update = UpdateTopic { name: name.clone(), ..Default::default() };
        assert_eq!(code(image.update_topic(&update)), refused);
        let grow = CreatePartitions { name: name.clone(), total: 2, ..Default::default() };
        assert_eq!(code(image.create_partitions(&policy, &grow, 7)), refused);
        let delete = DeleteTopic { name, ..Default::default() };
        assert_eq!(code(image.delete_topic(&policy, &delete)), refused);
    }
}
