//! G14–G20: epochs, steps, time-outs.

use super::*;

fn range() -> pb::MemberStart {
    pb::MemberStart { assignor: "range".to_owned(), ..start() }
}

/// Until the group is in this epoch, by subscriptions that change nothing.
fn reach_epoch(coordinator: &mut Coordinator, session: SessionId, epoch: u32) {
    for turn in 0.. {
        if coordinator.groups.describe("g").unwrap().group_epoch == epoch {
            break;
        }
        let topics: &[&str] = if turn % 2 == 0 { &["t", "nothing"] } else { &["t"] };
        let decision = coordinator.groups.subscribe(coordinator.now, session, subscription(topics));
        let (_, pushes) = coordinator.run(decision.unwrap());
        assert_eq!(pushes, [], "nothing changes for it");
    }
}

/// G17 to the letter: A in epoch 10 holds 0, 1, 2; B joins.
#[test]
fn an_added_member_gets_what_another_has_given_up() {
    let mut coordinator = Coordinator::new(&[("t", 1, 3)]);
    let (first, _) = coordinator.join("x");
    reach_epoch(&mut coordinator, first, 8);
    coordinator.leave(first);
    let (a, pushes) = coordinator.join_as("a", range()).unwrap();
    assert_eq!(pushes.iter().map(told).collect::<Vec<_>>(), [(10, all(&["t0", "t1", "t2"]))]);
    assert_eq!(coordinator.apply(a), []);
    assert_eq!(coordinator.state(), pb::GroupState::Stable);

    // Group epoch 11, target A {0,1} B {2}. A: epoch 10, {0,1}. B: epoch 11, {}.
    let (b, pushes) = coordinator.join_as("b", range()).unwrap();
    let epoch = coordinator.groups.describe("g").unwrap().group_epoch;
    assert_eq!(epoch, 11);
    assert_eq!(pushes.len(), 2);
    assert_eq!((pushes[0].session, told(&pushes[0])), (a, (10, all(&["t0", "t1"]))));
    assert_eq!((pushes[1].session, told(&pushes[1])), (b, (11, all(&[]))));
    assert_eq!(coordinator.member("a").state(), pb::MemberState::UnrevokedPartitions);
    assert_eq!(coordinator.member("b").state(), pb::MemberState::UnreleasedPartitions);
    assert_eq!(coordinator.state(), pb::GroupState::Reconciling);

    // B has applied that it has nothing: it still waits.
    assert_eq!(coordinator.apply(b), []);
    // A reports {0,1}: epoch 11. B: epoch 11, {2}. Partitions 0 and 1 have never stopped.
    let pushes = coordinator.apply(a);
    assert_eq!(pushes.len(), 2);
    assert_eq!((pushes[0].session, told(&pushes[0])), (a, (11, None)));
    assert_eq!((pushes[1].session, told(&pushes[1])), (b, (11, all(&["t2"]))));
    assert_eq!(coordinator.apply(b), []);
    assert_eq!(coordinator.state(), pb::GroupState::Stable);
    assert_eq!(coordinator.member("a").member_epoch, 11);
    coordinator.fail_over();
}

/// Only members whose target changes are recorded anew, and only those hear of it.
#[test]
fn who_is_not_concerned_is_not_bothered() {
    let mut coordinator = Coordinator::new(&[("t", 1, 2), ("u", 2, 1)]);
    coordinator.settle("a", start());
    let logged = coordinator.log.len();
    let other = pb::MemberStart { subscription: Some(subscription(&["u"])), ..start() };
    let (b, pushes) = coordinator.join_as("b", other).unwrap();
    assert_eq!(pushes.iter().map(|push| push.session).collect::<Vec<_>>(), [b]);
    let about_a = records::member_key("a");
    for change in &coordinator.log[logged..] {
        let key = change.key.of.as_ref().unwrap();
        assert!(![Key::Target(about_a.clone()), Key::Current(about_a.clone())].contains(key));
    }
    coordinator.apply(b);
    assert_eq!(coordinator.state(), pb::GroupState::Stable);
    assert_eq!(coordinator.member("a").member_epoch, 1);
}

/// What was told before it was heard is not told again, and an old number says nothing.
#[test]
fn one_assignment_is_outstanding_at_a_time() {
    let mut coordinator = Coordinator::new(&[("t", 1, 4)]);
    let a = coordinator.settle("a", start());
    let (b, pushes) = coordinator.join("b");
    assert_eq!(pushes.len(), 2);
    let first = coordinator.numbers[&a];
    let (_, pushes) = coordinator.join("c");
    assert_eq!(pushes.len(), 1, "only the new member: a and b have something to acknowledge");
    let decision = coordinator.groups.applied(coordinator.now, a, first - 1);
    assert_eq!(decision, Decision::default());
    let decision = coordinator.groups.applied(coordinator.now, SessionId(99), first);
    assert_eq!(decision, Decision::default());
    let pushes = coordinator.apply(a);
    assert!(pushes.iter().all(|push| push.session != b), "b has not acknowledged anything");
    let decision = coordinator.groups.applied(coordinator.now, a, first);
    assert!(decision.changes.is_empty() || coordinator.numbers[&a] != first);
}

/// G16, I13: nobody gets a partition before it is given up; with the planted bug somebody does.
#[test]
fn a_partition_waits_for_its_last_holder() {
    for planted in [false, true] {
        let mut coordinator = Coordinator::new(&[("t", 1, 2)]);
        if planted {
            coordinator.groups.plant(Bug::GrantBeforeRelease);
        }
        let a = coordinator.settle("a", start());
        let (b, pushes) = coordinator.join("b");
        let to_b = pushes.iter().find(|push| push.session == b).unwrap();
        assert_eq!(told(to_b).1.unwrap().is_empty(), !planted);
        if !planted {
            coordinator.apply(b);
            let pushes = coordinator.apply(a);
            let to_b = pushes.iter().find(|push| push.session == b).unwrap();
            assert_eq!(told(to_b), (2, all(&["t1"])));
        }
    }
}

/// A member's leaving frees what it held, whatever it was about to give up.
#[test]
fn who_leaves_frees_what_it_held() {
    let mut coordinator = Coordinator::new(&[("t", 1, 3)]);
    let a = coordinator.settle("a", start());
    let (b, _) = coordinator.join("b");
    coordinator.apply(b);
    let pushes = coordinator.leave(a);
    assert_eq!(pushes.iter().map(told).collect::<Vec<_>>(), [(3, all(&["t0", "t1", "t2"]))]);
    coordinator.apply(b);
    coordinator.leave(b);
    assert_eq!(coordinator.state(), pb::GroupState::Empty);
    assert_eq!(coordinator.groups.next_deadline(), coordinator.groups.next_sweep);
    coordinator.fail_over();
}

/// G18.
#[test]
fn who_does_not_give_up_in_time_is_out() {
    let mut coordinator = Coordinator::new(&[("t", 1, 2)]);
    let slow = pb::MemberStart { rebalance_timeout_ms: 2_000, ..start() };
    let a = coordinator.settle("a", slow);
    assert_eq!(coordinator.pass(60_000), [], "nothing is asked of it");
    let (b, _) = coordinator.join("b");
    coordinator.apply(b);
    assert_eq!(coordinator.groups.next_deadline(), Some(coordinator.now.plus(2_000)));
    assert_eq!(coordinator.pass(1_999), []);
    let pushes = coordinator.pass(1);
    assert_eq!(pushes.iter().map(told).collect::<Vec<_>>(), [(3, all(&["t0", "t1"]))]);
    assert_eq!(coordinator.ended, [(a, ErrorCode::UnknownMember)]);
    assert_eq!(coordinator.commit("a", 1, "t", 0, 5), Some(ErrorCode::UnknownMember));
    assert_eq!(coordinator.leave(a), [], "its stream has no member any more");
}

/// G15: topics that come, grow, go and come again under the same name.
#[test]
fn topics_change_targets() {
    let mut coordinator = Coordinator::new(&[]);
    let (a, pushes) = coordinator.join("a");
    assert_eq!(told(&pushes[0]), (1, all(&[])), "an unknown topic is fine");
    coordinator.apply(a);
    let pushes = coordinator.topics(&[("t", 1, 1), ("u", 9, 1)]);
    assert_eq!(pushes.iter().map(told).collect::<Vec<_>>(), [(2, all(&["t0"]))]);
    coordinator.apply(a);
    assert_eq!(coordinator.topics(&[("t", 1, 1)]), [], "nobody reads u");
    let pushes = coordinator.topics(&[("t", 1, 2)]);
    assert_eq!(pushes.iter().map(told).collect::<Vec<_>>(), [(3, all(&["t0", "t1"]))]);
    coordinator.apply(a);
    let pushes = coordinator.topics(&[("t", 2, 1)]);
    assert_eq!(told(&pushes[0]), (3, all(&[])), "the old topic's partitions go first");
    let pushes = coordinator.apply(a);
    assert_eq!(told(&pushes[0]), (4, all(&["t0"])));
    assert_eq!(pushes[0].assignment.as_ref().unwrap().1[0].topic_id, id(2).to_wire());
    coordinator.apply(a);
    let pushes = coordinator.topics(&[]);
    assert_eq!(told(&pushes[0]), (4, all(&[])));
    coordinator.apply(a);
    coordinator.fail_over();
}

/// G15, C2: a pattern is of whole names, matches what comes later, and no internal topic.
#[test]
fn patterns_match_whole_names() {
    let topics = [
        ("orders", 1, 1),
        ("orders-eu", 2, 1),
        ("__orders", 3, 1),
        ("my-orders", 4, 1),
        ("orders2", 6, 1),
    ];
    let mut coordinator = Coordinator::new(&topics);
    let reads = |subscription| pb::MemberStart { subscription: Some(subscription), ..start() };
    let (a, pushes) = coordinator.join_as("a", reads(pattern("orders.*|.*"))).unwrap();
    assert_eq!(told(&pushes[0]).1, all(&["my-orders0", "orders0", "orders-eu0", "orders20"]));
    coordinator.leave(a);
    let (a, pushes) = coordinator.join_as("a", reads(pattern("orders|orders-.*"))).unwrap();
    assert_eq!(told(&pushes[0]).1, all(&["orders0", "orders-eu0"]));
    coordinator.apply(a);
    let more = [("orders", 1, 1), ("orders-eu", 2, 1), ("orders-us", 5, 1)];
    let pushes = coordinator.topics(&more);
    assert_eq!(told(&pushes[0]).1, all(&["orders0", "orders-eu0", "orders-us0"]));
    coordinator.apply(a);
    for bad in ["(", "a)|(b", "a{999999999}"] {
        let refused = coordinator.join_as("b", reads(pattern(bad))).unwrap_err();
        assert_eq!(refused, ErrorCode::InvalidRegularExpression, "{bad}");
        let refused = coordinator.groups.subscribe(coordinator.now, a, pattern(bad)).unwrap_err();
        assert_eq!(refused.code(), ErrorCode::InvalidRegularExpression);
    }
    // An internal topic's name always works.
    coordinator.topics(&topics);
    let (_, pushes) = coordinator.join_as("b", reads(subscription(&["__orders"]))).unwrap();
    assert!(pushes.iter().any(|push| told(push).1 == all(&["__orders0"])));
}

/// G26: nobody reads what a member that is away holds, and it is told nothing.
#[test]
fn who_is_away_keeps_its_place() {
    let mut coordinator = Coordinator::new(&[("t", 1, 2)]);
    let a = coordinator.settle("a", start());
    coordinator.groups.disconnected(coordinator.now, a);
    assert!(!coordinator.member("a").connected);
    let (b, pushes) = coordinator.join("b");
    assert_eq!(pushes.iter().map(told).collect::<Vec<_>>(), [(2, all(&[]))]);
    coordinator.apply(b);
    assert_eq!(coordinator.pass(4_999), []);
    let pushes = coordinator.pass(1);
    assert_eq!(pushes.iter().map(told).collect::<Vec<_>>(), [(3, all(&["t0", "t1"]))]);
    assert_eq!(coordinator.ended, [], "there was no stream to end");
}

/// Two columns of members, as many as there are partitions of a hundred topics.
#[test]
fn a_large_group_takes_one_more() {
    let names: Vec<_> = (0..10).map(|n| format!("t{n}")).collect();
    let topics: Vec<_> = (1u8..).zip(&names).map(|(n, name)| (name.as_str(), n, 100)).collect();
    let mut coordinator = Coordinator::new(&topics);
    let all_topics = pb::MemberStart {
        subscription: Some(pattern("t.*")),
        assignor: "range".to_owned(),
        ..start()
    };
    for n in 0..100 {
        coordinator.join_as(&format!("m{n:03}"), all_topics.clone()).unwrap();
    }
    let sessions: Vec<_> = (1..=100).map(SessionId).collect();
    for _ in 0..4 {
        for session in &sessions {
            coordinator.apply(*session);
        }
    }
    assert_eq!(coordinator.state(), pb::GroupState::Stable);
    assert!(coordinator.held().iter().all(|(_, held)| held.len() == 10));
}

/// G6, G24: three that start together are given their partitions once, as if nobody had been there before.
#[test]
fn who_starts_together_is_waited_for() {
    let settings = Settings { initial_rebalance_delay_ms: 3_000, ..Settings::default() };
    let mut coordinator = Coordinator::with(settings, &[("t", 1, 7)]);
    let sticky = || pb::MemberStart { assignor: "sticky".to_owned(), ..start() };
    for member in ["c0", "c1", "c2"] {
        let (session, pushes) = coordinator.join_as(member, sticky()).unwrap();
        assert_eq!(pushes.len(), 1, "the others are not bothered");
        assert_eq!(told(&pushes[0]).1, all(&[]));
        coordinator.apply(session);
        coordinator.pass(1);
    }
    assert_eq!(coordinator.state(), pb::GroupState::Assigning);
    assert_eq!(coordinator.groups.next_deadline(), Some(Time(1_003_000)));
    let pushes = coordinator.pass(3_000);
    let given: Vec<_> = pushes.iter().map(|push| told(push).1).collect();
    assert_eq!(given, [all(&["t0", "t3", "t6"]), all(&["t1", "t4"]), all(&["t2", "t5"])]);
    coordinator.apply_all(pushes);
    assert_eq!(coordinator.state(), pb::GroupState::Stable);
    // Later ones are not waited for.
    let (_, pushes) = coordinator.join_as("c3", sticky()).unwrap();
    assert!(pushes.len() > 1);
    coordinator.fail_over();
}

/// One that is away for too long just when the others have been waited for is not given anything.
#[test]
fn who_is_out_when_the_group_is_formed_gets_nothing() {
    let settings = Settings { initial_rebalance_delay_ms: 6_000, ..Settings::default() };
    for others in [&[][..], &["b", "c"]] {
        let mut coordinator = Coordinator::with(settings.clone(), &[("t", 1, 4)]);
        let brief = || pb::MemberStart { session_timeout_ms: 6_000, ..start() };
        let (lost, _) = coordinator.join_as("a", brief()).unwrap();
        let mut sessions = Vec::new();
        for member in others {
            let (session, _) = coordinator.join_as(member, brief()).unwrap();
            coordinator.apply(session);
            sessions.push(session);
        }
        coordinator.groups.disconnected(coordinator.now, lost);
        let pushes = coordinator.pass(6_000);
        coordinator.apply_all(pushes);
        let held = coordinator.held();
        assert!(held.iter().all(|(member, _)| member != "a"), "{held:?}");
        assert_eq!(held.iter().map(|(_, held)| held.len()).sum::<usize>(), 2 * others.len());
        let state = if others.is_empty() { pb::GroupState::Empty } else { pb::GroupState::Stable };
        assert_eq!(coordinator.state(), state);
        coordinator.fail_over();
    }
}
