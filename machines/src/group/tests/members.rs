//! G12–G14, G19: joining, coming back, static members.

use super::*;

fn back(member: &str, epoch: u32, owned: &[i32]) -> pb::MemberStart {
    let owned = pb::TopicPartitions {
        topic: "t".to_owned(),
        topic_id: id(1).to_wire(),
        partitions: owned.to_vec(),
    };
    pb::MemberStart {
        member_id: member.to_owned(),
        member_epoch: epoch,
        owned: vec![owned],
        ..start()
    }
}

/// G12.
#[test]
fn time_outs_and_sizes_have_bounds() {
    let settings = Settings {
        max_members: 2,
        min_session_timeout_ms: 2_000,
        max_session_timeout_ms: 9_000,
        ..Settings::default()
    };
    let mut coordinator = Coordinator::with(settings, &[("t", 1, 1)]);
    for (asked, refused) in [(1_999, true), (2_000, false), (9_000, false), (9_001, true)] {
        let start = pb::MemberStart { session_timeout_ms: asked, ..start() };
        let joined = coordinator.join_as("a", start);
        assert_eq!(joined.is_err(), refused, "{asked}");
        match joined {
            Ok((session, _)) => drop(coordinator.leave(session)),
            Err(error) => assert_eq!(error, ErrorCode::InvalidSessionTimeout),
        }
    }
    coordinator.join("a");
    coordinator.join("b");
    let refused = coordinator.join_as("c", start()).unwrap_err();
    assert_eq!(refused, ErrorCode::GroupMaxSizeReached);
}

/// G7, G21: the first member fixes it; once the group is empty, the next.
#[test]
fn members_agree_on_an_assignor() {
    let with = |assignor: &str| pb::MemberStart { assignor: assignor.to_owned(), ..start() };
    let mut coordinator = Coordinator::new(&[("t", 1, 1)]);
    let refused = coordinator.join_as("a", with("uniform")).unwrap_err();
    assert_eq!(refused, ErrorCode::UnsupportedAssignor);
    assert!(coordinator.log.is_empty(), "a refusal changes nothing");
    let (a, _) = coordinator.join_as("a", with("range")).unwrap();
    let refused = coordinator.join_as("b", with("sticky")).unwrap_err();
    assert_eq!(refused, ErrorCode::InconsistentAssignor);
    let (b, _) = coordinator.join_as("b", with("")).unwrap();
    coordinator.leave(a);
    coordinator.leave(b);
    coordinator.join_as("c", with("sticky")).unwrap();
    assert_eq!(coordinator.groups.describe("g").unwrap().assignor, "sticky");
    coordinator.fail_over();
    let mut coordinator = Coordinator::new(&[]);
    coordinator.join("a");
    assert_eq!(coordinator.groups.list()[0].assignor, "cooperative-sticky");
}

/// G19: its last epoch or the one before, with nothing that it does not hold.
#[test]
fn a_member_comes_back_without_a_rebalance() {
    let mut coordinator = Coordinator::new(&[("t", 1, 3)]);
    let a = coordinator.settle("a", start());
    let b = coordinator.settle("b", start());
    assert_eq!(coordinator.member("a").member_epoch, 2);
    let logged = coordinator.log.len();
    for (epoch, owned, fenced) in [
        (2, &[0, 1][..], false),
        (2, &[][..], false),
        (1, &[0, 1][..], false),
        (1, &[0, 1, 2][..], true),
        (2, &[2][..], true),
        (3, &[0][..], true),
        (2, &[7][..], true),
        (0, &[][..], true),
    ] {
        coordinator.groups.disconnected(coordinator.now, a);
        match coordinator.join_as("unused", back("a", epoch, owned)) {
            Ok((session, pushes)) => {
                assert!(!fenced, "{epoch} {owned:?}");
                assert_eq!(pushes.len(), 1);
                assert_eq!(told(&pushes[0]), (2, all(&["t0", "t1"])));
                assert_eq!(coordinator.apply(session), []);
                coordinator.groups.disconnected(coordinator.now, session);
            }
            Err(error) => {
                assert!(fenced, "{epoch} {owned:?}");
                assert_eq!(error, ErrorCode::FencedMemberEpoch);
            }
        }
    }
    assert_eq!(coordinator.log.len(), logged, "nothing was recorded");
    let refused = coordinator.join_as("unused", back("who", 1, &[])).unwrap_err();
    assert_eq!(refused, ErrorCode::UnknownMember);
    assert!(coordinator.member("b").connected);
    assert_eq!(coordinator.apply(b), []);
    let pushes = coordinator.pass(5_000);
    assert_eq!(told(&pushes[0]), (3, all(&["t0", "t1", "t2"])), "a has not come back");
}

/// The first stream may still seem to be open when the second one comes.
#[test]
fn a_member_has_one_stream() {
    let mut coordinator = Coordinator::new(&[("t", 1, 1)]);
    let old = coordinator.settle("a", start());
    let (new, _) = coordinator.join_as("unused", back("a", 1, &[0])).unwrap();
    assert_eq!(coordinator.ended, [(old, ErrorCode::FencedMemberEpoch)]);
    coordinator.groups.disconnected(coordinator.now, old);
    assert!(coordinator.member("a").connected, "the old stream's end says nothing");
    coordinator.apply(new);
    assert_eq!(coordinator.pass(60_000), []);
    assert!(coordinator.member("a").connected);
}

/// After a failover everybody counts as away since then, and goes on from what the log says.
#[test]
fn a_rebalance_goes_on_after_a_failover() {
    let mut coordinator = Coordinator::new(&[("t", 1, 2)]);
    coordinator.settle("a", start());
    let (b, _) = coordinator.join("b");
    coordinator.apply(b);
    let before = *coordinator.numbers.values().max().unwrap();
    coordinator.now = coordinator.now.plus(1_000_000);
    coordinator.fail_over();
    assert_eq!(coordinator.groups.next_deadline(), Some(coordinator.now.plus(5_000)));
    let (b, pushes) = coordinator.join_as("unused", back("b", 2, &[])).unwrap();
    assert_eq!(told(&pushes[0]), (2, all(&[])));
    coordinator.apply(b);
    // a was told to give up t1: it may not have heard that.
    let (a, pushes) = coordinator.join_as("unused", back("a", 1, &[0, 1])).unwrap();
    assert_eq!(told(&pushes[0]), (1, all(&["t0"])));
    assert!(coordinator.numbers[&a] > before, "numbers are never used twice");
    let pushes = coordinator.apply(a);
    assert_eq!((pushes[1].session, told(&pushes[1])), (b, (2, all(&["t1"]))));
}

/// A member that comes back may have been started with other topics.
#[test]
fn a_member_comes_back_with_another_subscription() {
    let mut coordinator = Coordinator::new(&[("t", 1, 1), ("u", 2, 1)]);
    let a = coordinator.settle("a", start());
    coordinator.groups.disconnected(coordinator.now, a);
    let other = pb::MemberStart { subscription: Some(subscription(&["u"])), ..back("a", 1, &[0]) };
    let (a, pushes) = coordinator.join_as("unused", other).unwrap();
    assert_eq!(told(&pushes[0]), (1, all(&["t0"])), "first what it has");
    let pushes = coordinator.apply(a);
    assert_eq!(told(&pushes[0]), (1, all(&[])));
    let pushes = coordinator.apply(a);
    assert_eq!(told(&pushes[0]), (2, all(&["u0"])));
    // One that names none keeps what it had.
    coordinator.groups.disconnected(coordinator.now, a);
    let silent = pb::MemberStart { subscription: None, owned: Vec::new(), ..back("a", 2, &[]) };
    let (_, pushes) = coordinator.join_as("unused", silent).unwrap();
    assert_eq!(told(&pushes[0]), (2, all(&["u0"])));
}

/// G13: a restart within the session keeps the assignment, and nobody else notices.
#[test]
fn a_static_member_comes_back_under_a_new_id() {
    let mut coordinator = Coordinator::new(&[("t", 1, 4)]);
    let a = coordinator.settle("a-1", static_start("a"));
    coordinator.settle("b-1", static_start("b"));
    assert_eq!(coordinator.leave(a), [], "it only goes away");
    coordinator.pass(44_999);
    assert_eq!(coordinator.commit("a-1", 2, "t", 0, 7), None, "it still has its place");
    let (_, pushes) = coordinator.join_as("a-2", static_start("a")).unwrap();
    assert_eq!(pushes.len(), 1, "nobody else is told anything");
    assert_eq!(&*pushes[0].member_id, "a-2");
    assert_eq!(told(&pushes[0]), (2, all(&["t0", "t1"])));
    assert_eq!(coordinator.groups.describe("g").unwrap().group_epoch, 2);
    assert_eq!(coordinator.ended, []);
    assert_eq!(coordinator.commit("a-1", 2, "t", 0, 8), Some(ErrorCode::UnknownMember));
    assert_eq!(coordinator.commit("a-2", 2, "t", 0, 8), None);
    assert_eq!(coordinator.state(), pb::GroupState::Stable);
    coordinator.fail_over();
}

/// G13: the second live holder of an instance id fences the first.
#[test]
fn a_static_member_is_fenced_by_its_successor() {
    let mut coordinator = Coordinator::new(&[("t", 1, 2)]);
    let old = coordinator.settle("a-1", static_start("a"));
    let (new, _) = coordinator.join_as("a-2", static_start("a")).unwrap();
    assert_eq!(coordinator.ended, [(old, ErrorCode::FencedInstanceId)]);
    coordinator.groups.disconnected(coordinator.now, old);
    coordinator.apply(new);
    let late = pb::MemberStart { instance_id: "a".to_owned(), ..back("a-1", 1, &[0]) };
    let refused = coordinator.join_as("unused", late).unwrap_err();
    assert_eq!(refused, ErrorCode::FencedInstanceId);
    assert_eq!(coordinator.pass(100_000), []);
    assert_eq!(coordinator.held().len(), 1);
}

/// What a static member had that does not come back goes to the others at once; and a stream that is open ends.
#[test]
fn members_that_are_removed_leave_at_once_all_or_none() {
    let mut coordinator = Coordinator::new(&[("t", 1, 2)]);
    let away = coordinator.settle("a-1", static_start("a"));
    coordinator.settle("b", start());
    coordinator.leave(away);
    let description = coordinator.member("a-1");
    assert!(!description.connected);
    assert!(description.away_until_ms > i64::try_from(coordinator.now.0).unwrap());
    assert_eq!(coordinator.member("b").away_until_ms, 0, "it is connected");
    let asked = |member_ids: &[&str], instance_ids: &[&str]| pb::RemoveGroupMembersRequest {
        group_id: "g".to_owned(),
        member_ids: member_ids.iter().map(ToString::to_string).collect(),
        instance_ids: instance_ids.iter().map(ToString::to_string).collect(),
    };
    let now = coordinator.now;
    for (request, code) in [
        (asked(&["a-1", "c"], &[]), ErrorCode::UnknownMember),
        (asked(&["b"], &["b"]), ErrorCode::UnknownMember),
        (asked(&[], &[]), ErrorCode::InvalidRequest),
    ] {
        assert_eq!(coordinator.groups.expel(now, &request).unwrap_err().code(), code);
    }
    assert_eq!(coordinator.held().len(), 2, "all or none");
    let decision = coordinator.groups.expel(now, &asked(&[], &["a"])).unwrap();
    let (answer, pushes) = coordinator.run(decision);
    assert_eq!(answer.member_ids, ["a-1"]);
    coordinator.apply_all(pushes);
    assert_eq!(coordinator.member("b").assigned[0].partitions, [0, 1]);
    let decision = coordinator.groups.expel(now, &asked(&["b"], &[])).unwrap();
    coordinator.run(decision);
    assert_eq!(coordinator.ended.len(), 1, "its stream ends");
    assert_eq!(coordinator.state(), pb::GroupState::Empty);
    coordinator.fail_over();
}

/// What the old process was giving up, the new one never had.
#[test]
fn a_successor_need_not_give_up_what_it_never_had() {
    let mut coordinator = Coordinator::new(&[("t", 1, 2)]);
    coordinator.settle("a-1", static_start("a"));
    let (b, _) = coordinator.join("b");
    coordinator.apply(b);
    let (_, pushes) = coordinator.join_as("a-2", static_start("a")).unwrap();
    let mut told: Vec<_> = pushes.iter().map(told).collect();
    told.sort();
    assert_eq!(told, [(2, all(&["t0"])), (2, all(&["t1"]))]);
    coordinator.fail_over();
}

/// What a member leaves out when it comes back is as it was.
#[test]
fn a_static_member_comes_back_by_its_id() {
    let mut coordinator = Coordinator::new(&[("t", 1, 1)]);
    let a = coordinator.settle("a-1", static_start("a"));
    let logged = coordinator.log.len();
    coordinator.groups.disconnected(coordinator.now, a);
    let (a, pushes) = coordinator.join_as("unused", back("a-1", 1, &[0])).unwrap();
    assert_eq!(told(&pushes[0]), (1, all(&["t0"])));
    assert_eq!(coordinator.log.len(), logged);
    coordinator.apply(a);
    coordinator.groups.disconnected(coordinator.now, a);
    coordinator.pass(44_999);
    assert_eq!(coordinator.state(), pb::GroupState::Stable);
}

/// G13: a static member that stays away leaves after all.
#[test]
fn a_static_member_leaves_after_its_session() {
    let mut coordinator = Coordinator::new(&[("t", 1, 1)]);
    let a = coordinator.settle("a-1", static_start("a"));
    coordinator.leave(a);
    coordinator.pass(45_000);
    assert_eq!(coordinator.state(), pb::GroupState::Empty);
    coordinator.fail_over();
}

/// G15.
#[test]
fn a_subscription_changes_what_one_gets() {
    let mut coordinator = Coordinator::new(&[("t", 1, 1), ("u", 2, 1)]);
    let a = coordinator.settle("a", start());
    let decision = coordinator.groups.subscribe(coordinator.now, a, subscription(&["t"]));
    assert_eq!(decision, Ok(Decision::default()), "the same again");
    let decision = coordinator.groups.subscribe(coordinator.now, a, subscription(&["u"]));
    let (_, pushes) = coordinator.run(decision.unwrap());
    assert_eq!(told(&pushes[0]), (1, all(&[])));
    let pushes = coordinator.apply(a);
    assert_eq!(told(&pushes[0]), (2, all(&["u0"])));
    let nobody = coordinator.groups.subscribe(coordinator.now, SessionId(9), subscription(&["u"]));
    assert_eq!(nobody.unwrap_err().code(), ErrorCode::InvalidRequest);
}
