//! Circles in a graph.

use std::collections::{BTreeMap, BTreeSet};

/// Sets of two nodes or more that all reach each other.
pub fn circles<N: Ord + Copy>(edges: &BTreeSet<(N, N)>) -> Vec<BTreeSet<N>> {
    let mut next: BTreeMap<N, Vec<N>> = BTreeMap::new();
    for &(from, to) in edges {
        next.entry(from).or_default().push(to);
    }
    let reached_from = |start: N| {
        let mut reached = BTreeSet::new();
        let mut open = vec![start];
        while let Some(node) = open.pop() {
            let unseen = next.get(&node).into_iter().flatten().filter(|to| reached.insert(**to));
            open.extend(unseen);
        }
        reached
    };
    let reached: BTreeMap<N, BTreeSet<N>> =
        next.keys().map(|&node| (node, reached_from(node))).collect();
    let circles: BTreeSet<BTreeSet<N>> = reached
        .iter()
        .map(|(node, reaches)| {
            let back = |to: &N| reached.get(to).is_some_and(|reached| reached.contains(node));
            reaches.iter().copied().filter(back).collect()
        })
        .filter(|circle: &BTreeSet<N>| circle.len() > 1)
        .collect();
    circles.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reaches_each_other_is_in_a_circle() {
        let edges = [(1, 2), (2, 3), (3, 2), (3, 4), (4, 5), (5, 6), (6, 4), (7, 7)];
        let expected = [BTreeSet::from([2, 3]), BTreeSet::from([4, 5, 6])];
        assert_eq!(circles(&edges.into_iter().collect()), expected);
    }

    #[test]
    fn what_only_goes_down_has_none() {
        assert!(circles(&BTreeSet::from([(1, 2), (1, 3), (2, 4), (3, 4)])).is_empty());
    }
}
