//! Deltas say what changed, and nothing else; and no decision costs the square of a topic's partitions.

use super::partitions::{epoch, fence, isr_request, key, nodes, partition};
use super::*;
use troupe_proto::internal::v1::MetadataDelta;

fn records(delta: &Delta) -> usize {
    delta.records.len()
}

fn wide(name: &str, partitions: usize) -> CreateTopic {
    let replicas = |at: usize| (0..3).map(|r| NodeId(((at + r) % 4) as i32)).collect();
    CreateTopic { assignments: (0..partitions).map(replicas).collect(), ..topic(name) }
}

#[test]
fn a_delta_has_a_record_for_each_thing_that_changed() {
    let mut image = cluster(4);
    create(&mut image, &wide("a.b", 8), 1);
    create(&mut image, &wide("other", 8), 2);
    assert_eq!(records(&image.delta(&image)), 0);
    let before = image.clone();
    fence(&mut image, 0);
    let moved = image.topics().flat_map(|topic| &topic.partitions);
    let moved = moved.filter(|partition| partition.replicas.contains(&NodeId(0))).count();
    assert_eq!(records(&image.delta(&before)), moved + 1);

    let before = image.clone();
    let delete = DeleteTopic { name: "a.b".into(), validate_only: false, internal: false };
    let decision = image.delete_topic(&ClusterPolicy::default(), &delete);
    apply(&mut image, decision);
    create(&mut image, &wide("a_b", 1), 3);
    let delta = image.delta(&before);
    assert_eq!(records(&delta), 1 + 2);
    let mut follower = before;
    follower.apply_delta(&delta).unwrap();
    assert_eq!((&follower, &follower.collision_forms), (&image, &image.collision_forms));
}

/// K12: an epoch is the offset of the registration, wherever the record is read.
#[test]
fn brokers_keep_their_epochs() {
    let mut image = cluster(5);
    create(&mut image, &wide("orders", 4), 1);
    let mut follower = ClusterImage::default();
    follower.apply_delta(&image.delta(&follower)).unwrap();
    let before = image.clone();
    let decision = image.register_broker(&registration(1, 2), Arrival::default());
    let renewed = apply(&mut image, decision);
    fence(&mut image, 4);
    let decision = image.unregister_broker(NodeId(4));
    apply(&mut image, decision);
    follower.apply_delta(&image.delta(&before)).unwrap();
    assert_eq!(follower, image);
    assert_eq!((epoch(&follower, 1), follower.broker(NodeId(4))), (renewed, None));
}

#[test]
fn a_delta_that_does_not_fit_changes_nothing_and_everything_fits_everywhere() {
    let mut image = cluster(4);
    create(&mut image, &wide("orders", 4), 1);
    let first = image.clone();
    fence(&mut image, 0);
    let second = image.clone();
    fence(&mut image, 1);
    let mut follower = first.clone();
    let refused = follower.apply_delta(&image.delta(&second)).unwrap_err();
    assert_eq!(refused.fault, Fault::WrongOffset { next: first.next_offset() });
    let mut damaged = MetadataDelta::from(image.delta(&first));
    damaged.records[1].record = None;
    assert!(follower.apply_delta(&damaged.into()).is_err());
    assert_eq!(follower, first);
    follower.apply_delta(&image.delta(&ClusterImage::default())).unwrap();
    assert_eq!(follower, image);
}

/// 2,000 requests about 2,000 partitions of one topic: with a copy of the topic for each, they would be four
/// million partitions.
#[test]
fn a_large_decision_copies_its_topic_once() {
    let mut image = cluster(4);
    let all = vec![nodes(&[0, 1, 2]); 2000];
    create(&mut image, &CreateTopic { assignments: all, ..topic("orders") }, 1);
    let without_2 = |at: u32| AlterPartition { key: key(at), ..isr_request(&image, &[0, 1]) };
    let requests: Vec<_> = (0..2000).map(without_2).collect();
    let decision = image.alter_partitions(NodeId(0), epoch(&image, 0), &requests).unwrap();
    assert_eq!((decision.records.len(), decision.answer.len()), (2000, 2000));
    let committed = image.clone();
    let mut copies = std::collections::BTreeSet::new();
    for record in &decision.records {
        image.replay(image.next_offset(), record).unwrap();
        copies.insert(Arc::as_ptr(image.topic("orders").unwrap()));
    }
    assert_eq!(copies.len(), 1);
    assert_ne!(copies.first(), Some(&Arc::as_ptr(committed.topic("orders").unwrap())));
    assert_eq!(partition(&committed, 7).isr, nodes(&[0, 1, 2]), "the copy is a copy");
    assert_eq!(partition(&image, 7).isr, nodes(&[0, 1]));
    fence(&mut image, 0);
    assert_eq!(records(&image.delta(&committed)), 2001);
}
