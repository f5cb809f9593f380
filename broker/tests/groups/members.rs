//! Members, and what they read.

use crate::fixture::{Fixture, TOPIC, soon, start};
use tokio::join;
use troupe_proto::error::ErrorCode;
use troupe_proto::log::v1 as pb;

#[tokio::test(flavor = "multi_thread")]
async fn two_members_share_seven_partitions_and_each_commits_its_own() {
    let node = Fixture::start().await;
    node.create(TOPIC, 7).await;
    let mut first = node.run_member(start("readers")).await.unwrap();
    first.holds(7).await;
    let mut second = node.run_member(start("readers")).await.unwrap();
    join!(first.holds(4), second.holds(3));
    assert!(first.held.is_disjoint(&second.held));
    // The one that gave something up is in the new epoch when it has said so (G17).
    join!(first.reaches(2), second.reaches(2));
    assert_eq!((first.epoch, second.epoch), (2, 2));

    let described = node.describe("readers").await;
    assert_eq!(described.state(), pb::GroupState::Stable);
    assert_eq!((described.members.len(), described.coordinator_id), (2, 1));

    let mine: Vec<_> = first.held.iter().map(|partition| (*partition, 10)).collect();
    let committed = node.commit("readers", Some(&first), &mine).await.unwrap();
    assert_eq!(committed, vec![Ok(()); 4]);
    let theirs: Vec<_> = second.held.iter().map(|partition| (*partition, 20)).collect();
    for refused in node.commit("readers", Some(&first), &theirs).await.unwrap() {
        assert_eq!(refused.unwrap_err().code, ErrorCode::NotAssigned);
    }
    assert_eq!(node.offsets("readers").await, mine);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_leaves_frees_what_it_held_at_once() {
    let node = Fixture::start().await;
    node.create(TOPIC, 4).await;
    let mut first = node.run_member(start("leavers")).await.unwrap();
    first.holds(4).await;
    let mut second = node.run_member(start("leavers")).await.unwrap();
    join!(first.holds(2), second.holds(2));
    let leave = pb::RunMemberRequest { leave: true, ..Default::default() };
    first.requests.send(leave).await.unwrap();
    second.holds(4).await;
    assert_eq!(node.describe("leavers").await.members.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_stream_broke_keeps_its_place_for_its_session() {
    let node = Fixture::start().await;
    node.create(TOPIC, 4).await;
    let mut patient = node.run_member(start("breaks")).await.unwrap();
    patient.holds(4).await;
    let brief = pb::MemberStart { session_timeout_ms: 300, ..start("breaks") };
    let mut hasty = node.run_member(brief).await.unwrap();
    join!(patient.holds(2), hasty.holds(2));
    patient.reaches(2).await;

    let (epoch, held, id) = (patient.epoch, patient.held.clone(), patient.id.clone());
    let again = patient.again("breaks");
    drop(patient);
    let mut patient = node.run_member(again).await.unwrap();
    assert_eq!((patient.epoch, &patient.held, &patient.id), (epoch, &held, &id));

    drop(hasty);
    patient.holds(4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_is_told_why() {
    let node = Fixture::start().await;
    node.create(TOPIC, 1).await;
    let unknown = pb::MemberStart { assignor: "best".to_owned(), ..start("refused") };
    let refused = node.run_member(unknown).await.err().unwrap();
    assert_eq!(refused.code, ErrorCode::UnsupportedAssignor);
    let stranger = pb::MemberStart { member_id: "stranger".to_owned(), ..start("refused") };
    let refused = node.run_member(stranger).await.err().unwrap();
    assert_eq!(refused.code, ErrorCode::UnknownMember);
}

/// What cannot be remembered changes nothing, not even for the one whose place it wants (G13).
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_says_too_much_of_itself_is_refused_and_forgotten() {
    let node = Fixture::start().await;
    node.create(TOPIC, 4).await;
    let named = pb::MemberStart {
        session_timeout_ms: 300,
        instance_id: "one".to_owned(),
        ..start("verbose")
    };
    let mut first = node.run_member(named.clone()).await.unwrap();
    first.holds(4).await;
    let topics = (0..100_000).map(|number| format!("topic-{number}")).collect();
    let subscription = Some(pb::Subscription { topics, ..Default::default() });
    let verbose = pb::MemberStart { subscription, ..named.clone() };
    let refused = node.run_member(verbose).await.err().unwrap();
    assert_eq!(refused.code, ErrorCode::RecordTooLarge);
    let nameless = pb::MemberStart { client_id: "c".repeat(2_000), ..named };
    let refused = node.run_member(nameless).await.err().unwrap();
    assert_eq!(refused.code, ErrorCode::InvalidRequest);
    // It has its place still, and loses it as always.
    assert_eq!(node.describe("verbose").await.members.len(), 1);
    drop(first);
    let mut next = node.run_member(start("verbose")).await.unwrap();
    next.holds(4).await;
}

/// Its stream ends with the refusal, and from then on it is away like any other (G19).
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_asks_for_nonsense_does_not_stay_for_ever() {
    let node = Fixture::start().await;
    node.create(TOPIC, 4).await;
    let brief = pb::MemberStart { session_timeout_ms: 300, ..start("nonsense") };
    let mut confused = node.run_member(brief).await.unwrap();
    confused.holds(4).await;
    let subscription = pb::Subscription { pattern: "(".to_owned(), ..Default::default() };
    let nonsense = pb::RunMemberRequest { subscription: Some(subscription), ..Default::default() };
    confused.requests.send(nonsense).await.unwrap();
    assert_eq!(confused.ending().await.code, ErrorCode::InvalidRegularExpression);
    let mut next = node.run_member(start("nonsense")).await.unwrap();
    next.holds(4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_partitions_come_to_members_by_themselves() {
    let node = Fixture::start().await;
    let mut early = node.run_member(start("early")).await.unwrap();
    assert!(early.held.is_empty());
    node.create(TOPIC, 3).await;
    soon("the topic", early.holds(3)).await;
}
