//! The examples of semantics G22–G25, to the letter.

mod cost;
mod properties;

use super::*;
use troupe_proto::ids::PartitionId;

/// A member that subscribes to `topics` (names between blanks) and owns nothing.
pub(super) fn member(id: &str, topics: &str) -> AssignorMember {
    AssignorMember {
        member_id: id.into(),
        instance_id: None,
        topics: topics.split_whitespace().map(Arc::from).collect(),
        owned: BTreeSet::new(),
        epoch: 0,
    }
}

/// Partitions from `t0p1 t1p0`.
fn partitions(text: &str) -> BTreeSet<GroupPartition> {
    let parse = |word: &str| {
        let (topic, number) = word.rsplit_once('p').unwrap();
        GroupPartition { topic: topic.into(), partition: PartitionId(number.parse().unwrap()) }
    };
    text.split_whitespace().map(parse).collect()
}

fn topics(counts: &[(&str, u32)]) -> BTreeMap<Arc<str>, u32> {
    counts.iter().map(|(topic, count)| (Arc::from(*topic), *count)).collect()
}

fn plan(parts: &[(&str, &str)]) -> Assignment {
    parts.iter().map(|(member, text)| (Arc::from(*member), partitions(text))).collect()
}

/// The members with what they were given, in the next epoch.
pub(super) fn after(members: &[AssignorMember], given: &Assignment) -> Vec<AssignorMember> {
    let owning = |member: &AssignorMember| AssignorMember {
        owned: given.get(&member.member_id).cloned().unwrap_or_default(),
        epoch: member.epoch + 1,
        ..member.clone()
    };
    members.iter().map(owning).collect()
}

fn owning(id: &str, topics: &str, owned: &str, epoch: u32) -> AssignorMember {
    AssignorMember { owned: partitions(owned), epoch, ..member(id, topics) }
}

const FOUR_BY_TWO: [(&str, u32); 4] = [("t0", 2), ("t1", 2), ("t2", 2), ("t3", 2)];

#[test]
fn range_gives_contiguous_ranges_and_the_first_members_one_more_g22() {
    let members = [member("C0", "t"), member("C1", "t"), member("C2", "t")];
    let seven = topics(&[("t", 7)]);
    let first = assign(Assignor::Range, &members, &seven);
    assert_eq!(first, plan(&[("C0", "tp0 tp1 tp2"), ("C1", "tp3 tp4"), ("C2", "tp5 tp6")]));
    let left = assign(Assignor::Range, &after(&members[1..], &first), &seven);
    assert_eq!(left, plan(&[("C1", "tp0 tp1 tp2 tp3"), ("C2", "tp4 tp5 tp6")]));
}

#[test]
fn range_skews_towards_the_first_members_g22() {
    let names = ["a", "b", "c", "d"];
    let members = [member("C0", "a b c d"), member("C1", "a b c d"), member("C2", "a b c d")];
    let given = assign(Assignor::Range, &members, &topics(&names.map(|name| (name, 7))));
    let counts: Vec<usize> = given.values().map(BTreeSet::len).collect();
    assert_eq!(counts, [3 * 4, 2 * 4, 2 * 4]);

    let members = [member("C0", "t0 t1"), member("C1", "t0 t1")];
    let given = assign(Assignor::Range, &members, &topics(&[("t0", 3), ("t1", 3)]));
    assert_eq!(given, plan(&[("C0", "t0p0 t0p1 t1p0 t1p1"), ("C1", "t0p2 t1p2")]));
}

#[test]
fn range_counts_only_the_subscribers_of_a_topic_g22() {
    let members = [member("C0", "a"), member("C1", "a b"), member("C2", "b nowhere")];
    let given = assign(Assignor::Range, &members, &topics(&[("a", 3), ("b", 3), ("unread", 4)]));
    assert_eq!(given, plan(&[("C0", "ap0 ap1"), ("C1", "ap2 bp0 bp1"), ("C2", "bp2")]));
}

#[test]
fn more_members_than_partitions_leave_the_last_with_nothing_g22_g23_g24() {
    let members = [member("C0", "t"), member("C1", "t"), member("C2", "t")];
    for assignor in Assignor::ALL {
        let given = assign(assignor, &members, &topics(&[("t", 2)]));
        assert_eq!(given, plan(&[("C0", "tp0"), ("C1", "tp1"), ("C2", "")]), "{assignor}");
        assert_eq!(
            assign(assignor, &members[..1], &topics(&[])),
            plan(&[("C0", "")]),
            "{assignor}"
        );
        assert_eq!(assign(assignor, &[], &topics(&[("t", 2)])), plan(&[]), "{assignor}");
    }
}

#[test]
fn round_robin_deals_one_to_each_in_turn_g23() {
    let members = [member("C0", "t"), member("C1", "t"), member("C2", "t")];
    let seven = topics(&[("t", 7)]);
    let first = assign(Assignor::RoundRobin, &members, &seven);
    assert_eq!(first, plan(&[("C0", "tp0 tp3 tp6"), ("C1", "tp1 tp4"), ("C2", "tp2 tp5")]));
    let left = assign(Assignor::RoundRobin, &after(&members[1..], &first), &seven);
    assert_eq!(left, plan(&[("C1", "tp0 tp2 tp4 tp6"), ("C2", "tp1 tp3 tp5")]));
}

#[test]
fn round_robin_keeps_its_place_and_skips_who_does_not_subscribe_g23() {
    let members = [member("C0", "t0"), member("C1", "t0 t1"), member("C2", "t0 t1 t2")];
    let given = assign(Assignor::RoundRobin, &members, &topics(&[("t0", 1), ("t1", 2), ("t2", 3)]));
    assert_eq!(given, plan(&[("C0", "t0p0"), ("C1", "t1p0"), ("C2", "t1p1 t2p0 t2p1 t2p2")]));
    // The ring stands at C1 when t1 begins, not at C0 again.
    let members = [member("C0", "t0 t1"), member("C1", "t0 t1")];
    let given = assign(Assignor::RoundRobin, &members, &topics(&[("t0", 3), ("t1", 3)]));
    assert_eq!(given, plan(&[("C0", "t0p0 t0p2 t1p1"), ("C1", "t0p1 t1p0 t1p2")]));
}

#[test]
fn sticky_keeps_what_it_can_when_a_member_leaves_and_one_joins_g24() {
    let members = [member("C0", "t"), member("C1", "t"), member("C2", "t")];
    let seven = topics(&[("t", 7)]);
    let first = assign(Assignor::Sticky, &members, &seven);
    assert_eq!(first, plan(&[("C0", "tp0 tp3 tp6"), ("C1", "tp1 tp4"), ("C2", "tp2 tp5")]));
    let left = after(&members[1..], &first);
    let second = assign(Assignor::Sticky, &left, &seven);
    assert_eq!(second, plan(&[("C1", "tp1 tp4 tp0 tp6"), ("C2", "tp2 tp5 tp3")]));
    let mut joined = after(&left, &second);
    joined.push(member("C3", "t"));
    let third = assign(Assignor::Sticky, &joined, &seven);
    assert_eq!(third, plan(&[("C1", "tp0 tp1 tp4"), ("C2", "tp2 tp3"), ("C3", "tp5 tp6")]));
}

#[test]
fn sticky_balances_different_subscriptions_g24() {
    let members = [member("C0", "t0"), member("C1", "t0 t1"), member("C2", "t0 t1 t2")];
    let counts = topics(&[("t0", 1), ("t1", 2), ("t2", 3)]);
    let first = assign(Assignor::Sticky, &members, &counts);
    assert_eq!(first, plan(&[("C0", "t0p0"), ("C1", "t1p0 t1p1"), ("C2", "t2p0 t2p1 t2p2")]));
    let second = assign(Assignor::Sticky, &after(&members[1..], &first), &counts);
    assert_eq!(second, plan(&[("C1", "t1p0 t1p1 t0p0"), ("C2", "t2p0 t2p1 t2p2")]));
}

#[test]
fn survivors_keep_everything_with_sticky_but_not_with_round_robin_g24() {
    let all = "t0 t1 t2 t3";
    let members = [member("C0", all), member("C1", all), member("C2", all)];
    let counts = topics(&FOUR_BY_TWO);
    let first = assign(Assignor::Sticky, &members, &counts);
    assert_eq!(
        first,
        plan(&[("C0", "t0p0 t1p1 t3p0"), ("C1", "t0p1 t2p0 t3p1"), ("C2", "t1p0 t2p1")])
    );
    assert_eq!(assign(Assignor::RoundRobin, &members, &counts), first);
    let left = after(&[members[0].clone(), members[2].clone()], &first);
    assert_eq!(
        assign(Assignor::Sticky, &left, &counts),
        plan(&[("C0", "t0p0 t1p1 t3p0 t0p1"), ("C2", "t1p0 t2p1 t2p0 t3p1")])
    );
    assert_eq!(
        assign(Assignor::RoundRobin, &left, &counts),
        plan(&[("C0", "t0p0 t1p0 t2p0 t3p0"), ("C2", "t0p1 t1p1 t2p1 t3p1")])
    );
}

/// A member that reads something else beside makes the subscriptions differ.
fn sticky_both_ways(members: &[AssignorMember], counts: &[(&str, u32)]) -> Vec<Assignment> {
    let mut different = members.to_vec();
    different.push(member("other", "other"));
    let mut with_other = topics(counts);
    with_other.insert("other".into(), 1);
    let mut general = assign(Assignor::Sticky, &different, &with_other);
    general.remove("other");
    vec![assign(Assignor::Sticky, members, &topics(counts)), general]
}

#[test]
fn the_newer_of_two_claims_wins_and_twins_lose_both_g24() {
    // Both claim 0, C1 with the newer epoch.
    let older = [owning("C0", "t", "tp0 tp2", 3), owning("C1", "t", "tp0", 4)];
    for given in sticky_both_ways(&older, &[("t", 4)]) {
        assert_eq!(given, plan(&[("C0", "tp1 tp2"), ("C1", "tp0 tp3")]));
    }
    // Both claim 1 in one epoch: it is dealt anew, as 0 is.
    let claimants = [owning("C0", "t", "tp1 tp2", 4), owning("C1", "t", "tp1 tp3", 4)];
    for given in sticky_both_ways(&claimants, &[("t", 4)]) {
        assert_eq!(given, plan(&[("C0", "tp0 tp2"), ("C1", "tp1 tp3")]));
    }
    // In whatever order a newer and two older claims, or two newer and an older one, come.
    for epochs in [[3, 4, 4], [4, 3, 4], [4, 4, 3]] {
        let claims = ["C0", "C1", "C2"].into_iter().zip(epochs);
        let mut members: Vec<_> = claims.map(|(id, epoch)| owning(id, "t", "tp2", epoch)).collect();
        members[2].owned.insert(partitions("tp1").pop_first().unwrap());
        for given in sticky_both_ways(&members, &[("t", 3)]) {
            assert_eq!(given, plan(&[("C0", "tp0"), ("C1", "tp2"), ("C2", "tp1")]), "{epochs:?}");
        }
    }
}

#[test]
fn what_is_gone_or_not_subscribed_any_more_is_no_claim_g24() {
    // t has shrunk to 3 partitions, gone is gone, and C0 does not read u any more.
    let members = [owning("C0", "t", "tp2 tp7 gonep0 up0", 9), owning("C1", "t u", "tp0 up0", 4)];
    let given = assign(Assignor::Sticky, &members, &topics(&[("t", 3), ("u", 1)]));
    assert_eq!(given, plan(&[("C0", "tp1 tp2"), ("C1", "tp0 up0")]));
    let members = [owning("C0", "t", "tp2 tp7 gonep0 up0", 9), owning("C1", "t", "tp0", 9)];
    let given = assign(Assignor::Sticky, &members, &topics(&[("t", 3), ("u", 1)]));
    assert_eq!(given, plan(&[("C0", "tp1 tp2"), ("C1", "tp0")]));
}

#[test]
fn sticky_takes_from_the_fullest_where_subscriptions_differ_g24() {
    let members = [
        owning("C0", "t", "tp0 tp1 tp2 tp3", 1),
        owning("C1", "t", "tp4 tp5", 1),
        owning("C2", "t", "tp6 tp7 tp8 tp9 tp10 tp11", 1),
        owning("C3", "other", "", 1),
    ];
    let given = assign(Assignor::Sticky, &members, &topics(&[("t", 12)]));
    let expected = [
        ("C0", "tp0 tp1 tp2 tp3"),
        ("C1", "tp4 tp5 tp10 tp11"),
        ("C2", "tp6 tp7 tp8 tp9"),
        ("C3", ""),
    ];
    assert_eq!(given, plan(&expected));
}

#[test]
fn sticky_rather_moves_on_what_is_newly_given_g24() {
    // bp0 goes to C0 first, as C1 has no fewer. Then C0 gets cp6 and cp7, as the others have more. Now C1
    // has two fewer: it gets bp0, and not ap0, which C0 owned before.
    let members = [
        owning("C0", "a b c", "ap0", 1),
        owning("C1", "a b", "ap1", 1),
        owning("C2", "c", "cp0 cp1 cp2", 1),
        owning("C3", "c", "cp3 cp4 cp5", 1),
    ];
    let given = assign(Assignor::Sticky, &members, &topics(&[("a", 2), ("b", 1), ("c", 8)]));
    let expected =
        [("C0", "ap0 cp6 cp7"), ("C1", "ap1 bp0"), ("C2", "cp0 cp1 cp2"), ("C3", "cp3 cp4 cp5")];
    assert_eq!(given, plan(&expected));
}

#[test]
fn sticky_keeps_the_lowest_partitions_of_all_topics_g24() {
    let members = [owning("C0", "t0 t1", "t0p0 t0p1 t1p0 t1p1", 1), member("C1", "t0 t1")];
    let given = assign(Assignor::Sticky, &members, &topics(&[("t0", 2), ("t1", 2)]));
    assert_eq!(given, plan(&[("C0", "t0p0 t1p0"), ("C1", "t0p1 t1p1")]));
}

#[test]
fn sticky_moves_topics_with_fewest_subscribers_first_then_by_name_g24() {
    let members = [
        owning("C0", "b z", "bp0 zp0", 1),
        owning("C1", "b z", "", 1),
        owning("C2", "b", "bp1", 1),
    ];
    let given = assign(Assignor::Sticky, &members, &topics(&[("b", 2), ("z", 1)]));
    assert_eq!(given, plan(&[("C0", "bp0"), ("C1", "zp0"), ("C2", "bp1")]));
    let members =
        [owning("C0", "b z", "bp0 zp0", 1), owning("C1", "b z", "", 1), member("C2", "c")];
    let given = assign(Assignor::Sticky, &members, &topics(&[("b", 1), ("c", 1), ("z", 1)]));
    assert_eq!(given, plan(&[("C0", "zp0"), ("C1", "bp0"), ("C2", "cp0")]));
}

#[test]
fn topics_without_partitions_make_subscriptions_no_different_g24() {
    let members = [
        owning("C1", "t empty", "tp0 tp1 tp4 tp6", 2),
        owning("C2", "t nowhere", "tp2 tp3 tp5", 2),
        member("C3", "t"),
    ];
    let given = assign(Assignor::Sticky, &members, &topics(&[("empty", 0), ("t", 7)]));
    assert_eq!(given, plan(&[("C1", "tp0 tp1 tp4"), ("C2", "tp2 tp3"), ("C3", "tp5 tp6")]));
}

#[test]
fn members_with_an_instance_id_come_first_in_its_order_g22_g23_g24() {
    let fixed = |id: &str, instance: &str| AssignorMember {
        instance_id: Some(instance.into()),
        ..member(id, "t")
    };
    let members = [member("a", "t"), fixed("b", "2"), fixed("c", "1"), member("0", "t")];
    for assignor in Assignor::ALL {
        let given = assign(assignor, &members, &topics(&[("t", 4)]));
        let expected = plan(&[("c", "tp0"), ("b", "tp1"), ("0", "tp2"), ("a", "tp3")]);
        assert_eq!(given, expected, "{assignor}");
    }
}

#[test]
fn cooperative_sticky_gives_what_moves_in_a_second_round_g25() {
    let mut members =
        vec![owning("C1", "t", "tp0 tp1 tp4 tp6", 2), owning("C2", "t", "tp2 tp3 tp5", 2)];
    let mut owned: Assignment =
        members.iter().map(|member| (member.member_id.clone(), member.owned.clone())).collect();
    members.push(member("C3", "t"));
    let seven = topics(&[("t", 7)]);
    let target = assign(Assignor::CooperativeSticky, &members, &seven);
    assert_eq!(target, assign(Assignor::Sticky, &members, &seven));
    let first = cooperative(&target, &owned);
    assert_eq!(first, plan(&[("C1", "tp0 tp1 tp4"), ("C2", "tp2 tp3"), ("C3", "")]));
    // C1 has given up 6 already, C2 not yet 5.
    owned.insert("C1".into(), partitions("tp0 tp1 tp4"));
    let between = cooperative(&target, &owned);
    assert_eq!(between, plan(&[("C1", "tp0 tp1 tp4"), ("C2", "tp2 tp3"), ("C3", "tp6")]));
    let second = cooperative(&target, &first);
    assert_eq!(second, plan(&[("C1", "tp0 tp1 tp4"), ("C2", "tp2 tp3"), ("C3", "tp5 tp6")]));
}

#[test]
fn cooperative_counts_every_other_owner_g25() {
    let target = plan(&[("C0", "tp0 tp1"), ("C1", "tp2")]);
    // 0 has two owners, 2 one that is not in the target.
    let owned = plan(&[("C0", "tp0 tp1"), ("C1", "tp0"), ("gone", "tp2")]);
    assert_eq!(cooperative(&target, &owned), plan(&[("C0", "tp1"), ("C1", "")]));
}

#[test]
fn assignors_go_by_kafkas_names() {
    let names = Assignor::ALL.map(|assignor| assignor.to_string());
    assert_eq!(names, ["range", "roundrobin", "sticky", "cooperative-sticky"]);
    for assignor in Assignor::ALL {
        assert_eq!(assignor.name().parse(), Ok(assignor));
    }
    assert_eq!("Range".parse::<Assignor>(), Err(UnknownAssignor("Range".to_owned())));
}
