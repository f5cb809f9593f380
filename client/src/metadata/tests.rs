//! Updates and hints of different age.

use super::*;
use bytes::Bytes;
use troupe_proto::error::ErrorCode;

fn described(leader: i32, epoch: u32) -> wire::TopicMetadata {
    wire::TopicMetadata {
        name: "orders".into(),
        topic_id: Bytes::from_static(&[7; 16]),
        internal: false,
        partitions: vec![wire::PartitionMetadata {
            partition: 0,
            leader_id: leader,
            leader_epoch: epoch,
            ..Default::default()
        }],
    }
}

fn nodes() -> Vec<wire::Node> {
    [(1, "n1:1"), (2, "n2:1")]
        .map(|(node_id, endpoint)| wire::Node {
            node_id,
            endpoint: endpoint.into(),
            ..Default::default()
        })
        .into()
}

fn leader(metadata: &Metadata) -> String {
    match metadata.leader("orders", PartitionId(0)) {
        Leader::Known(at) => at.endpoint.to_string(),
        other => format!("{other:?}"),
    }
}

fn update(offset: i64, topics: Vec<wire::TopicMetadata>) -> MetadataUpdate {
    MetadataUpdate { offset, topics, gone: vec![], nodes: nodes() }
}

fn without_orders(offset: i64) -> MetadataUpdate {
    MetadataUpdate { offset, gone: vec!["orders".to_owned()], ..MetadataUpdate::default() }
}

/// P22.
#[test]
fn an_older_leader_epoch_is_ignored() {
    let metadata = Metadata::new();
    let now = Instant::now();
    assert_eq!(leader(&metadata), "UnknownTopic");
    metadata.merge(now, update(0, vec![described(1, 4)]));
    assert_eq!(leader(&metadata), "n1:1");
    metadata.merge(now, update(0, vec![described(2, 3)]));
    assert_eq!(leader(&metadata), "n1:1");
    metadata.merge(now, update(0, vec![described(-1, 5)]));
    assert_eq!(leader(&metadata), "None");
}

/// P21.
#[test]
fn a_hint_is_used_at_once_unless_it_is_old() {
    let metadata = Metadata::new();
    let now = Instant::now();
    metadata.merge(now, update(9, vec![described(1, 4)]));
    let hint = |node, epoch| {
        let refusal = Refusal::new(ErrorCode::NotLeader, "");
        let refusal = refusal.with_leader_of(node, format!("n{node}:9"), epoch);
        metadata.take_hint("orders", PartitionId(0), &refusal)
    };
    assert!(!hint(2, 3) && !hint(2, 4) && !hint(1, 4));
    let without_epoch = Refusal::new(ErrorCode::NotLeader, "").with_leader(2, "n2:9");
    assert!(!metadata.take_hint("orders", PartitionId(0), &without_epoch));
    assert_eq!(leader(&metadata), "n1:1");
    assert!(hint(2, 5));
    assert_eq!(leader(&metadata), "n2:9");
    assert!(hint(2, 6), "the same node, elected again");
    metadata.merge(now, update(10, vec![described(1, 5)]));
    assert_eq!(leader(&metadata), "n2:1", "the update is newer than the last, not than the hint");
}

#[test]
fn a_hint_may_say_where_a_leader_is_that_is_known_by_its_number_only() {
    let metadata = Metadata::new();
    metadata.merge(Instant::now(), update(1, vec![described(3, 4)]));
    assert_eq!(leader(&metadata), "None");
    let hint = Refusal::new(ErrorCode::NotLeader, "").with_leader_of(3, "n3:1", 4);
    assert!(metadata.take_hint("orders", PartitionId(0), &hint));
    assert_eq!(leader(&metadata), "n3:1");
}

#[test]
fn a_node_that_lags_behind_brings_no_deleted_topic_back_and_takes_no_new_one_away() {
    let metadata = Metadata::new();
    let now = Instant::now();
    metadata.merge(now, update(10, vec![described(1, 4)]));
    metadata.merge(now, without_orders(9));
    assert_eq!(leader(&metadata), "n1:1");
    metadata.merge(now, without_orders(12));
    assert_eq!(leader(&metadata), "UnknownTopic");
    metadata.merge(now, update(11, vec![described(1, 5)]));
    assert_eq!(leader(&metadata), "UnknownTopic");
    let again = wire::TopicMetadata { topic_id: [8; 16].to_vec().into(), ..described(2, 0) };
    metadata.merge(now, update(13, vec![again]));
    assert_eq!(leader(&metadata), "n2:1");
    metadata.merge(now, update(11, vec![described(1, 5)]));
    assert_eq!(leader(&metadata), "n2:1");
}

#[test]
fn where_a_node_was_before_is_not_believed_again() {
    let metadata = Metadata::new();
    let now = Instant::now();
    let at = |endpoint: &str| {
        vec![wire::Node { node_id: 1, endpoint: endpoint.into(), ..Default::default() }]
    };
    metadata.merge(now, MetadataUpdate { nodes: at("n1:2"), ..update(10, vec![described(1, 4)]) });
    metadata.merge(now, MetadataUpdate { nodes: at("n1:1"), ..update(9, vec![]) });
    assert_eq!(leader(&metadata), "n1:2");
    metadata.merge(now, MetadataUpdate { nodes: at("n1:3"), ..update(11, vec![]) });
    assert_eq!(leader(&metadata), "n1:3");
}

#[test]
fn a_cluster_that_began_anew_is_believed_after_a_while() {
    let metadata = Metadata::new();
    let now = Instant::now();
    metadata.merge(now, update(100, vec![described(1, 4)]));
    let later = now + Duration::from_secs(600);
    metadata.merge(later, without_orders(3));
    assert_eq!(leader(&metadata), "n1:1", "the first that is older");
    metadata.merge(later + LAG_PATIENCE, without_orders(4));
    assert_eq!(leader(&metadata), "UnknownTopic");
}

#[test]
fn only_changes_are_announced() {
    let metadata = Metadata::new();
    let (mut changes, mut names) = (metadata.changes(), metadata.names());
    metadata.merge(Instant::now(), update(1, vec![described(1, 4)]));
    assert!(changes.has_changed().unwrap() && names.has_changed().unwrap());
    changes.mark_unchanged();
    names.mark_unchanged();
    metadata.merge(Instant::now(), update(2, vec![described(1, 4)]));
    assert!(!changes.has_changed().unwrap());
    metadata.merge(Instant::now(), update(3, vec![described(2, 5)]));
    assert!(changes.has_changed().unwrap() && !names.has_changed().unwrap());
    changes.mark_unchanged();
    metadata.merge(Instant::now(), without_orders(4));
    assert!(changes.has_changed().unwrap() && names.has_changed().unwrap());
}

/// P22.
#[test]
fn a_topic_that_nobody_uses_is_forgotten_and_one_that_is_used_or_held_is_not() {
    let metadata = Metadata::new();
    let minute = Duration::from_secs(60);
    let names = metadata.names();
    metadata.merge(Instant::now(), update(1, vec![described(1, 1)]));
    let held = metadata.hold(&"orders".into());
    metadata.forget_idle(Instant::now() + minute, minute);
    assert_eq!(metadata.topic_names(), ["orders"], "somebody reads it");
    drop(held);
    // Pushes do not count as use; a question does.
    metadata.merge(Instant::now() + minute, update(2, vec![described(2, 2)]));
    metadata.topic("orders", Instant::now() + minute, minute);
    metadata.forget_idle(Instant::now() + minute, minute);
    assert_eq!(metadata.topic_names(), ["orders"]);
    metadata.merge(Instant::now() + minute * 2, update(3, vec![described(1, 3)]));
    let before = *names.borrow();
    metadata.forget_idle(Instant::now() + minute * 2, minute);
    assert_eq!(metadata.topic_names(), Vec::<String>::new());
    assert_ne!(*names.borrow(), before, "who watches hears of it");
    assert_eq!(metadata.leader("orders", PartitionId(0)), Leader::UnknownTopic);
    // It did not vanish: it comes back with the next question.
    metadata.merge(Instant::now(), update(3, vec![described(1, 3)]));
    assert_eq!(leader(&metadata), "n1:1");
}
