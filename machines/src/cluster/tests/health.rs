//! What is wrong with a cluster is found, counted and named.

use super::partitions::{fence, placed};
use super::*;

fn found(image: &ClusterImage) -> Vec<(Problem, usize)> {
    image.findings().iter().map(|finding| (finding.problem, finding.count)).collect()
}

#[test]
fn every_ailment_is_found_and_counted_and_a_whole_cluster_has_none() {
    let lists: [&[i32]; 7] = [&[0, 1], &[0, 1], &[0, 1], &[0, 1], &[0, 1], &[0, 1], &[2, 1]];
    let (mut image, _) = placed(&lists, &[("min.insync.replicas", "2")]);
    assert_eq!(found(&image), []);
    fence(&mut image, 1);
    let short = [(Problem::UnderMinIsr, 7), (Problem::UnderReplicated, 7)];
    assert_eq!(found(&image), [&short[..], &[(Problem::FencedNodes, 1)]].concat());
    let named = &image.findings()[0].examples;
    assert_eq!(named, &["orders:0", "orders:1", "orders:2", "orders:3", "orders:4"]);
    fence(&mut image, 2);
    let offline = image.findings().remove(0);
    assert_eq!((offline.problem, offline.count), (Problem::OfflinePartitions, 1));
    assert_eq!(offline.examples, ["orders:6"]);
    let fenced = image.findings().pop().unwrap();
    assert_eq!(fenced.nodes, [NodeId(1), NodeId(2)]);
}
