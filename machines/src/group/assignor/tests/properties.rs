//! What holds of every group, whatever its members subscribe to and own.

use super::super::*;
use super::after;
use proptest::prelude::*;
use troupe_proto::ids::PartitionId;

type Counts = BTreeMap<Arc<str>, u32>;

/// Up to 6 topics with up to 8 partitions each, one of them perhaps none.
fn counts() -> impl Strategy<Value = Counts> {
    let named = |counts: Vec<u32>| {
        let named = counts.into_iter().enumerate();
        named.map(|(topic, count)| (Arc::from(format!("t{topic}")), count)).collect()
    };
    prop::collection::vec(0..=8u32, 1..=6).prop_map(named)
}

/// Topics that it subscribes to, partitions that it owns, epoch, instance.
type Drawn = (Vec<bool>, BTreeSet<(usize, u32)>, u32, Option<u32>);

/// Claims are any, also of what does not exist or is claimed by others; t6 never exists.
fn members(equal: bool) -> impl Strategy<Value = Vec<AssignorMember>> {
    let topics = prop::collection::vec(any::<bool>(), 7);
    let owned = prop::collection::btree_set((0..7usize, 0..9u32), 0..20);
    let one = (topics.clone(), owned, 0..3u32, prop::option::of(0..100u32));
    (prop::collection::vec(one, 0..=8), topics).prop_map(move |(members, shared)| {
        let members = members.into_iter().enumerate();
        let build = |(at, (topics, owned, epoch, instance)): (usize, Drawn)| {
            let topics = if equal { &shared } else { &topics };
            let named = topics.iter().enumerate().filter(|(_, is_in)| **is_in);
            AssignorMember {
                member_id: format!("member-{at}").into(),
                instance_id: instance.map(|number| Arc::from(format!("{number}-{at}"))),
                topics: named.map(|(topic, _)| format!("t{topic}").into()).collect(),
                owned: owned.into_iter().map(|(topic, number)| partition(topic, number)).collect(),
                epoch,
            }
        };
        members.map(build).collect()
    })
}

fn partition(topic: usize, number: u32) -> GroupPartition {
    GroupPartition { topic: format!("t{topic}").into(), partition: PartitionId(number) }
}

fn any_members() -> impl Strategy<Value = Vec<AssignorMember>> {
    prop_oneof![members(true), members(false)]
}

/// What a member owns and nobody else may claim, as written: the newest claim, if it is the only one.
fn valid_claims(
    members: &[AssignorMember],
    counts: &Counts,
    at: usize,
) -> BTreeSet<GroupPartition> {
    let is_claim = |member: &AssignorMember, partition: &GroupPartition| {
        member.owned.contains(partition)
            && member.topics.contains(&partition.topic)
            && counts.get(&partition.topic).is_some_and(|count| partition.partition.0 < *count)
    };
    let mine = members[at].owned.iter().filter(|partition| {
        let others = members.iter().enumerate().filter(|(other, _)| *other != at);
        is_claim(&members[at], partition)
            && others
                .filter(|(_, other)| is_claim(other, partition))
                .all(|(_, other)| other.epoch < members[at].epoch)
    });
    mine.cloned().collect()
}

/// Partitions that stay with the member that has a claim to them.
fn kept(members: &[AssignorMember], counts: &Counts, given: &Assignment) -> usize {
    let stay = members.iter().enumerate().map(|(at, member)| {
        valid_claims(members, counts, at).intersection(&given[&member.member_id]).count()
    });
    stay.sum()
}

proptest! {
    #[test]
    fn every_subscribed_partition_goes_to_one_subscriber_g22_g23_g24(
        members in any_members(),
        counts in counts(),
    ) {
        let mut expected = BTreeSet::new();
        for (topic, count) in &counts {
            if members.iter().any(|member| member.topics.contains(topic)) {
                let all = (0..*count).map(PartitionId);
                expected.extend(all.map(|partition| GroupPartition { topic: topic.clone(), partition }));
            }
        }
        for assignor in Assignor::ALL {
            let given = assign(assignor, &members, &counts);
            prop_assert_eq!(given.len(), members.len());
            for member in &members {
                let mine = &given[&member.member_id];
                prop_assert!(mine.iter().all(|partition| member.topics.contains(&partition.topic)));
            }
            let all: Vec<&GroupPartition> = given.values().flatten().collect();
            prop_assert_eq!(all.len(), expected.len(), "{}", assignor);
            prop_assert_eq!(all.into_iter().cloned().collect::<BTreeSet<_>>(), expected.clone());
        }
    }

    #[test]
    fn the_order_of_the_members_makes_no_difference(
        (members, shuffled) in any_members().prop_flat_map(|members| {
            (Just(members.clone()), Just(members).prop_shuffle())
        }),
        counts in counts(),
    ) {
        for assignor in Assignor::ALL {
            let given = assign(assignor, &members, &counts);
            prop_assert_eq!(&given, &assign(assignor, &members, &counts));
            prop_assert_eq!(&given, &assign(assignor, &shuffled, &counts));
        }
    }

    #[test]
    fn a_range_is_contiguous_and_ranges_of_a_topic_differ_by_one_at_most_g22(
        members in any_members(),
        counts in counts(),
    ) {
        let given = assign(Assignor::Range, &members, &counts);
        for topic in counts.keys() {
            let mut lengths = Vec::new();
            for member in members.iter().filter(|member| member.topics.contains(topic)) {
                let mine = given[&member.member_id].iter().filter(|mine| mine.topic == *topic);
                let numbers: Vec<u32> = mine.map(|mine| mine.partition.0).collect();
                prop_assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]));
                lengths.push(numbers.len());
            }
            let (least, most) = (lengths.iter().min(), lengths.iter().max());
            prop_assert!(most.zip(least).is_none_or(|(most, least)| most - least <= 1));
        }
    }

    #[test]
    fn equal_subscriptions_are_shared_out_evenly_g23_g24(
        members in members(true),
        counts in counts(),
    ) {
        for assignor in [Assignor::RoundRobin, Assignor::Sticky, Assignor::CooperativeSticky] {
            let given = assign(assignor, &members, &counts);
            let lengths = || given.values().map(BTreeSet::len);
            let (least, most) = (lengths().min(), lengths().max());
            prop_assert!(most.zip(least).is_none_or(|(most, least)| most - least <= 1));
        }
    }

    #[test]
    fn sticky_leaves_no_partition_that_could_go_to_one_with_two_fewer_g24(
        members in members(false),
        counts in counts(),
    ) {
        let given = assign(Assignor::Sticky, &members, &counts);
        for from in given.values() {
            for to in &members {
                let could_go = from.iter().any(|partition| to.topics.contains(&partition.topic));
                let fewer = given[&to.member_id].len() + 2 <= from.len();
                prop_assert!(!(could_go && fewer), "{given:?}");
            }
        }
    }

    /// No even assignment keeps more: of what a member owns it can keep the least that all get, and as
    /// many as there are places with one more can keep one more.
    #[test]
    fn sticky_moves_as_few_as_can_be_with_equal_subscriptions_g24(
        members in members(true),
        counts in counts(),
    ) {
        let given = assign(Assignor::Sticky, &members, &counts);
        let total: usize = given.values().map(BTreeSet::len).sum();
        let least = total.checked_div(members.len()).unwrap_or(0);
        let places = total.checked_rem(members.len()).unwrap_or(0);
        let claims: Vec<usize> =
            (0..members.len()).map(|at| valid_claims(&members, &counts, at).len()).collect();
        let more = claims.iter().filter(|claims| **claims > least).count();
        let bound = claims.iter().map(|claims| least.min(*claims)).sum::<usize>() + places.min(more);
        prop_assert_eq!(kept(&members, &counts, &given), bound);
    }

    #[test]
    fn sticky_never_swaps_partitions_of_a_topic_g24(members in any_members(), counts in counts()) {
        let given = assign(Assignor::Sticky, &members, &counts);
        for (at, member) in members.iter().enumerate() {
            let (claims, mine) = (valid_claims(&members, &counts, at), &given[&member.member_id]);
            let lost: BTreeSet<_> = claims.difference(mine).map(|lost| &lost.topic).collect();
            let got: BTreeSet<_> = mine.difference(&claims).map(|got| &got.topic).collect();
            prop_assert!(lost.is_disjoint(&got), "lost {lost:?}, got {got:?}");
        }
    }

    #[test]
    fn sticky_changes_nothing_when_nothing_has_changed_g24(
        members in any_members(),
        counts in counts(),
    ) {
        let given = assign(Assignor::Sticky, &members, &counts);
        prop_assert_eq!(&assign(Assignor::Sticky, &after(&members, &given), &counts), &given);
    }

    /// As with the simplest rule, which only hands on what the one that left had.
    #[test]
    fn nobody_loses_a_partition_when_a_member_leaves_an_even_group_g24(
        members in members(true),
        counts in counts(),
        leaves in any::<prop::sample::Index>(),
    ) {
        prop_assume!(!members.is_empty());
        let given = assign(Assignor::Sticky, &members, &counts);
        let mut left = after(&members, &given);
        left.remove(leaves.index(members.len()));
        let later = assign(Assignor::Sticky, &left, &counts);
        for member in &left {
            prop_assert!(later[&member.member_id].is_superset(&member.owned));
        }
    }

    #[test]
    fn two_rounds_reach_the_target_and_nothing_has_two_readers_g25(
        members in any_members(),
        counts in counts(),
    ) {
        let owned: Assignment = members
            .iter()
            .enumerate()
            .map(|(at, member)| (member.member_id.clone(), valid_claims(&members, &counts, at)))
            .collect();
        let target = assign(Assignor::CooperativeSticky, &members, &counts);
        prop_assert_eq!(&target, &assign(Assignor::Sticky, &members, &counts));
        let first = cooperative(&target, &owned);
        for (member, given) in &first {
            prop_assert!(given.is_subset(&target[member]));
            prop_assert!(target[member].intersection(&owned[member]).all(|kept| given.contains(kept)));
            let mut others = owned.iter().filter(|(other, _)| *other != member);
            prop_assert!(others.all(|(_, theirs)| theirs.is_disjoint(given)));
        }
        prop_assert_eq!(cooperative(&target, &first), target);
    }
}
