//! Kafka's older placement (R29, R30): predictable on paper, and what `reassign --generate` proposes.

use std::collections::{BTreeMap, BTreeSet};
use troupe_proto::ids::NodeId;

/// A broker that may get replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub node_id: NodeId,
    pub rack: Option<String>,
}

/// The replicas of `partitions` partitions, the preferred leader first. Partition 0 starts at `start` in the
/// (alternated) list, and followers `shift` further on; both are drawn by the caller. Racks count only if
/// every broker has one: `None` if only some have, or there are too few brokers.
pub fn assign_classic(
    brokers: &[Candidate],
    partitions: u32,
    replicas: u32,
    start: usize,
    shift: usize,
) -> Option<Vec<Vec<NodeId>>> {
    let (count, replicas) = (brokers.len(), replicas as usize);
    if replicas == 0 || replicas > count {
        return None;
    }
    let racks: BTreeMap<NodeId, Option<&str>> =
        brokers.iter().map(|broker| (broker.node_id, broker.rack.as_deref())).collect();
    let with_rack = racks.values().filter(|rack| rack.is_some()).count();
    if with_rack != 0 && with_rack != racks.len() {
        return None;
    }
    let list: Vec<NodeId> =
        if with_rack == 0 { racks.keys().copied().collect() } else { alternated(&racks) };
    let rack_count = racks.values().collect::<BTreeSet<_>>().len();
    let mut shift = shift;
    let mut assigned = Vec::with_capacity(partitions as usize);
    for partition in 0..partitions as usize {
        if partition > 0 && partition % count == 0 {
            shift += 1;
        }
        let first = (partition + start) % count;
        assigned.push(if with_rack == 0 {
            spread(&list, first, shift, replicas)
        } else {
            spread_over_racks(&list, &racks, rack_count, (first, shift), replicas)
        });
    }
    Some(assigned)
}

/// Racks in turn, brokers of a rack in order.
fn alternated(racks: &BTreeMap<NodeId, Option<&str>>) -> Vec<NodeId> {
    let mut by_rack: BTreeMap<&Option<&str>, Vec<NodeId>> = BTreeMap::new();
    for (node, rack) in racks {
        by_rack.entry(rack).or_default().push(*node);
    }
    let longest = by_rack.values().map(Vec::len).max().unwrap_or(0);
    let turns = (0..longest).flat_map(|turn| by_rack.values().map(move |nodes| nodes.get(turn)));
    turns.flatten().copied().collect()
}

/// R29.
fn spread(list: &[NodeId], first: usize, shift: usize, replicas: usize) -> Vec<NodeId> {
    let count = list.len();
    let follower = |j: usize| list[(first + 1 + (shift + j) % (count - 1)) % count];
    std::iter::once(list[first]).chain((0..replicas - 1).map(follower)).collect()
}

/// R30: whoever would put a second replica into a rack, or onto a broker, before each has its first, is
/// passed over.
fn spread_over_racks(
    list: &[NodeId],
    racks: &BTreeMap<NodeId, Option<&str>>,
    rack_count: usize,
    (first, shift): (usize, usize),
    replicas: usize,
) -> Vec<NodeId> {
    let count = list.len();
    let mut chosen = vec![list[first]];
    let mut used = BTreeSet::from([racks[&list[first]]]);
    let mut step = 0;
    while chosen.len() < replicas {
        let at = (first + 1 + (shift * rack_count + step) % (count - 1)) % count;
        step += 1;
        let (node, rack) = (list[at], racks[&list[at]]);
        let rack_is_due = !used.contains(&rack) || used.len() == rack_count;
        if rack_is_due && !chosen.contains(&node) {
            used.insert(rack);
            chosen.push(node);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn brokers(racks: &[Option<&str>]) -> Vec<Candidate> {
        let candidate = |(id, rack): (i32, &Option<&str>)| Candidate {
            node_id: NodeId(id),
            rack: rack.map(str::to_owned),
        };
        (0..).zip(racks).map(candidate).collect()
    }

    fn lists(text: &str) -> Vec<Vec<NodeId>> {
        let list =
            |list: &str| list.split(',').map(|n| NodeId(n.trim().parse().unwrap())).collect();
        text.split('·').map(list).collect()
    }

    /// R29, both worked examples.
    #[test]
    fn the_worked_examples_come_out() {
        let mut expected = lists(
            "0,1,2 · 1,2,3 · 2,3,0 · 3,0,1 · 0,2,3 · 1,3,0 · 2,0,1 · 3,1,2 · \
             0,3,1 · 1,0,2 · 2,1,3 · 3,2,0",
        );
        expected.extend_from_within(..4);
        assert_eq!(assign_classic(&brokers(&[None; 4]), 16, 3, 0, 0), Some(expected));
        let expected =
            lists("0,1,2 · 1,2,3 · 2,3,4 · 3,4,0 · 4,0,1 · 0,2,3 · 1,3,4 · 2,4,0 · 3,0,1 · 4,1,2");
        assert_eq!(assign_classic(&brokers(&[None; 5]), 10, 3, 0, 0), Some(expected));
    }

    const RACKS: [Option<&str>; 6] =
        [Some("r1"), Some("r3"), Some("r3"), Some("r2"), Some("r2"), Some("r1")];

    /// R30.
    #[test]
    fn racks_alternate_as_in_the_worked_example() {
        let expected = lists("0,3,1 · 3,1,5 · 1,5,4 · 5,4,2 · 4,2,0 · 2,0,3 · 0,4,2");
        assert_eq!(assign_classic(&brokers(&RACKS), 7, 3, 0, 0), Some(expected));
    }

    /// R30.
    #[test]
    fn racks_for_some_brokers_only_and_too_few_brokers_are_refused() {
        assert_eq!(assign_classic(&brokers(&[Some("r1"), None]), 1, 1, 0, 0), None);
        assert_eq!(assign_classic(&brokers(&[None; 2]), 1, 3, 0, 0), None);
        assert!(assign_classic(&brokers(&[None]), 3, 1, 0, 0).is_some());
    }

    proptest! {
        #[test]
        fn every_rack_gets_its_share_and_nobody_two(
            partitions in 1..40u32, replicas in 1..7u32, start in 0..6usize, shift in 0..6usize
        ) {
            let placed = assign_classic(&brokers(&RACKS), partitions, replicas, start, shift);
            for list in placed.unwrap() {
                let different: BTreeSet<_> = list.iter().collect();
                prop_assert_eq!(different.len(), replicas as usize);
                let racks: BTreeSet<_> = list.iter().map(|node| RACKS[node.0 as usize]).collect();
                prop_assert_eq!(racks.len(), (replicas as usize).min(3));
            }
        }
    }
}
