//! Plans for clusters: what is asked for, what is refused, and what a plan leaves alone.

use crate::cluster::tests::{apply, cluster, create, id, topic};
use crate::cluster::{
    ClusterError, ClusterImage, CreateTopic, METADATA_VERSION, Plan, PlanGoal, PlanRequest,
    RegisterBroker,
};
use std::collections::{BTreeMap, BTreeSet};
use troupe_proto::error::ErrorCode;
use troupe_proto::ids::NodeId;

fn nodes(ids: &[i32]) -> Vec<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

/// Brokers that know every record.
fn brokers(count: i32) -> ClusterImage {
    let mut image = cluster(count);
    for node in (0..count).map(NodeId) {
        let epoch = image.broker(node).unwrap().epoch;
        let decision = image.note_versions(node, epoch, 0, METADATA_VERSION, &BTreeMap::new());
        apply(&mut image, decision);
    }
    image
}

/// Brokers 0 to 3, and a topic that has the given replicas.
fn with(replicas: &[&[i32]]) -> ClusterImage {
    let mut image = brokers(4);
    let assignments = replicas.iter().map(|list| nodes(list)).collect();
    create(&mut image, &CreateTopic { assignments, ..topic("orders") }, 1);
    image
}

fn proposed(plan: &Plan) -> Vec<Vec<NodeId>> {
    plan.partitions.iter().map(|partition| partition.proposed.clone()).collect()
}

fn added(plan: &Plan) -> usize {
    plan.partitions.iter().map(|partition| partition.added()).sum()
}

fn plan(image: &ClusterImage, request: &PlanRequest) -> Plan {
    image.plan_reassignment(request).unwrap()
}

fn retire(image: &mut ClusterImage, node: i32) {
    let decision = image.retire_broker(NodeId(node), &[]);
    apply(image, decision);
}

/// A15: what a broker gets that has come, from those that have more, and nothing else moves.
#[test]
fn a_new_broker_gets_its_share_of_replicas_and_leaderships() {
    let image = with(&[&[0, 1], &[1, 2], &[2, 0], &[0, 1], &[1, 2], &[2, 0]]);
    let goal = PlanGoal::Fill(nodes(&[3]));
    let plan = plan(&image, &PlanRequest { goal, ..Default::default() });
    let after = &plan.brokers[3].after;
    assert_eq!((after.replicas, added(&plan)), (3, 3));
    assert!(after.leaders >= 1, "{plan:?}");
    for partition in &plan.partitions {
        let new: Vec<_> =
            partition.proposed.iter().filter(|node| !partition.current.contains(node)).collect();
        assert!(new.is_empty() || new == [&NodeId(3)]);
    }
}

/// A15: everything off one broker, the cluster's own topics too, and what does not concern it stays.
#[test]
fn emptying_a_broker_touches_only_what_it_has() {
    let mut image = with(&[&[0, 1], &[1, 2], &[2, 3], &[3, 0]]);
    let internal = CreateTopic {
        assignments: vec![nodes(&[1, 0, 3]), nodes(&[0, 2, 3])],
        internal: true,
        ..topic("__consumer_offsets")
    };
    create(&mut image, &internal, 2);
    let request =
        PlanRequest { goal: PlanGoal::Empty, exclude_nodes: nodes(&[1]), ..PlanRequest::default() };
    let plan = plan(&image, &request);
    assert_eq!(plan.brokers[1].after.replicas, 0);
    assert_eq!(added(&plan), 3);
    for partition in plan.partitions {
        if !partition.current.contains(&NodeId(1)) {
            assert_eq!(partition.current, partition.proposed);
        }
    }
}

/// R29 by way of a plan: as the tool of Kafka would propose it, with its start and shift at 0.
#[test]
fn the_classic_algorithm_proposes_what_kafkas_tool_does() {
    let image = with(&[[0, 1, 2].as_slice(); 8]);
    let request = PlanRequest {
        goal: PlanGoal::Classic,
        topics: vec!["orders".to_owned()],
        to_nodes: nodes(&[0, 1, 2, 3]),
        ..PlanRequest::default()
    };
    let expected =
        [[0, 1, 2], [1, 2, 3], [2, 3, 0], [3, 0, 1], [0, 2, 3], [1, 3, 0], [2, 0, 1], [3, 1, 2]];
    assert_eq!(proposed(&plan(&image, &request)), expected.map(|list| nodes(&list)));
}

/// A14: raising keeps what is there, lowering copies nothing.
#[test]
fn another_replication_factor_is_reached_by_as_few_copies_as_it_takes() {
    let image = with(&[&[0], &[1], &[2], &[3]]);
    let ask = |factor| PlanRequest { replication_factor: Some(factor), ..PlanRequest::default() };
    let raised = plan(&image, &ask(3));
    assert_eq!(added(&raised), 8);
    for (partition, broker) in raised.partitions.iter().zip(&raised.brokers) {
        assert_eq!((partition.proposed.len(), broker.after.replicas), (3, 3));
        assert!(partition.proposed.contains(&partition.current[0]));
    }
    let image = with(&[&[0, 1, 2], &[0, 1, 2], &[0, 1, 2], &[0, 1, 2]]);
    let lowered = plan(&image, &PlanRequest { goal: PlanGoal::Empty, ..ask(1) });
    assert_eq!(added(&lowered), 0);
    assert!(lowered.partitions.iter().all(|partition| partition.proposed.len() == 1));
}

#[test]
fn only_the_topics_that_are_named_are_planned_and_the_others_count() {
    let mut image = with(&[&[0], &[0], &[1], &[1], &[2], &[2]]);
    create(&mut image, &CreateTopic { assignments: vec![nodes(&[0])], ..topic("audit") }, 2);
    let plan = plan(&image, &PlanRequest { topics: vec!["audit".into()], ..Default::default() });
    assert_eq!(plan.partitions.len(), 1);
    assert_eq!(added(&plan), 0, "one partition is even wherever it is");
    let replicas: Vec<u64> = plan.brokers.iter().map(|broker| broker.before.replicas).collect();
    assert_eq!(replicas, [3, 2, 2, 0]);
}

#[test]
fn a_plan_that_cannot_be_says_why() {
    let mut image = with(&[&[0, 1, 2]]);
    let refused = |image: &ClusterImage, change: &dyn Fn(&mut PlanRequest)| {
        let mut request = PlanRequest::default();
        change(&mut request);
        image.plan_reassignment(&request).unwrap_err()
    };
    let code = |change: &dyn Fn(&mut PlanRequest)| refused(&image, change).code();
    assert_eq!(code(&|it| it.topics.push("gone".into())), ErrorCode::UnknownTopic);
    assert_eq!(code(&|it| it.topics.push("a/b".into())), ErrorCode::InvalidTopic);
    assert_eq!(code(&|it| it.to_nodes = nodes(&[0, 9])), ErrorCode::BrokerNotRegistered);
    assert_eq!(code(&|it| it.exclude_nodes = nodes(&[9])), ErrorCode::BrokerNotRegistered);
    let few = refused(&image, &|it| it.to_nodes = nodes(&[0, 1]));
    assert_eq!(few.code(), ErrorCode::InvalidReplicationFactor);
    assert!(few.to_string().contains("'orders' has 3 replicas"), "{few}");
    let none = code(&|it| it.exclude_nodes = nodes(&[0, 1, 2, 3]));
    assert_eq!(none, ErrorCode::InvalidReplicationFactor);
    assert_eq!(code(&|it| it.replication_factor = Some(0)), ErrorCode::InvalidReplicationFactor);
    let racked = RegisterBroker {
        node_id: NodeId(3),
        incarnation: [9; 16],
        rack: Some("r1".to_owned()),
        metadata_version: METADATA_VERSION,
        ..RegisterBroker::default()
    };
    let decision = image.register_unfenced_broker(&racked);
    apply(&mut image, decision);
    let some = refused(&image, &|_| {});
    assert_eq!(some, ClusterError::RacksIncomplete { without: nodes(&[0, 1, 2]) });
    let ignored = PlanRequest { ignore_racks: true, ..PlanRequest::default() };
    assert!(image.plan_reassignment(&ignored).is_ok());
}

/// What cannot be given anything, and what has to lose all it has.
#[test]
fn a_broker_that_is_being_retired_takes_nothing_and_is_emptied_by_every_plan() {
    let mut image = with(&[&[0, 1], &[1, 2], &[2, 0], &[3, 0]]);
    retire(&mut image, 3);
    let to_it = PlanRequest { to_nodes: nodes(&[0, 3]), ..PlanRequest::default() };
    let refused = image.plan_reassignment(&to_it).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::InvalidRequest);
    let plan = plan(&image, &PlanRequest::default());
    assert_eq!(plan.brokers[3].after.replicas, 0);
}

/// A mark that lasts: through another registration, a snapshot, and until it is removed or kept.
#[test]
fn retiring_moves_leaderships_at_once_and_outlives_a_restart() {
    let mut image = with(&[&[3, 1], &[3, 0], &[0, 3]]);
    let moved = apply_retirement(&mut image, 3);
    assert_eq!(moved, 2);
    let topic = image.topic("orders").unwrap();
    let leaders: Vec<_> = topic.partitions.iter().map(|it| it.leader.unwrap().0).collect();
    assert_eq!(leaders, [1, 0, 0]);
    assert!(topic.partitions[0].isr.contains(&NodeId(3)), "it stays in sync while others copy");
    assert_eq!(apply_retirement(&mut image, 3), 0, "asked again nothing changes");
    // Neither by itself nor on demand do they go back.
    assert!(image.balance_leaders(Default::default()).records.is_empty());
    let again = RegisterBroker {
        node_id: NodeId(3),
        incarnation: [5; 16],
        metadata_version: METADATA_VERSION,
        ..RegisterBroker::default()
    };
    let decision = image.register_unfenced_broker(&again);
    apply(&mut image, decision);
    assert!(image.broker(NodeId(3)).unwrap().retiring);
    let restored = ClusterImage::from_snapshot(&image.snapshot()).unwrap();
    assert_eq!(restored, image);
    let before = image.clone();
    let decision = image.keep_broker(NodeId(3));
    apply(&mut image, decision);
    assert!(!image.broker(NodeId(3)).unwrap().retiring);
    let mut follower = before.clone();
    follower.apply_delta(&image.delta(&before)).unwrap();
    assert_eq!(follower, image);
}

fn apply_retirement(image: &mut ClusterImage, node: i32) -> usize {
    let decision = image.retire_broker(NodeId(node), &[]);
    apply(image, decision)
}

#[test]
fn nothing_new_is_placed_on_a_broker_that_is_being_retired() {
    let mut image = brokers(4);
    retire(&mut image, 2);
    let request =
        CreateTopic { partitions: Some(12), replication_factor: Some(3), ..topic("orders") };
    let created = create(&mut image, &request, 1);
    let used: BTreeSet<_> = created.partitions.iter().flat_map(|it| &it.replicas).collect();
    assert_eq!(used, [NodeId(0), NodeId(1), NodeId(3)].iter().collect());
    let policy = Default::default();
    let four = CreateTopic { replication_factor: Some(4), ..topic("more") };
    let refused = image.create_topic(&policy, &four, id(2), 0).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::InvalidReplicationFactor);
    let by_hand = CreateTopic { assignments: vec![nodes(&[2])], ..topic("more") };
    let refused = image.create_topic(&policy, &by_hand, id(2), 0).unwrap_err();
    assert!(refused.to_string().contains("being retired"), "{refused}");
}

#[test]
fn a_retirement_that_would_leave_too_few_brokers_is_refused_and_names_the_topic() {
    let mut image = with(&[&[0, 1, 2]]);
    retire(&mut image, 3);
    let before = image.clone();
    let refused = image.retire_broker(NodeId(0), &[]).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::InvalidReplicationFactor);
    assert!(refused.to_string().contains("orders"), "{refused}");
    let behind = brokers(4).retire_broker(NodeId(3), &[NodeId(7)]).unwrap_err();
    assert_eq!(behind, ClusterError::NodesBehind { nodes: nodes(&[7]) });
    let unknown = image.retire_broker(NodeId(9), &[]).unwrap_err();
    assert_eq!(unknown, ClusterError::UnknownBroker { node_id: NodeId(9) });
    assert_eq!(image, before);
    let alone = brokers(1);
    let last = alone.retire_broker(NodeId(0), &[]).unwrap_err();
    assert_eq!(last, ClusterError::LastBroker { node_id: NodeId(0) });
}
