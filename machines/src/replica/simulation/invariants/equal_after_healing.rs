//! I8, R20: when all is well again, the replicas are equal, byte for byte, and everything is committed.

use super::super::chance::Violation;
use super::super::world::Node;

/// `None` if the replicas have not come so far yet.
pub fn equal_after_healing(nodes: &[Node]) -> Option<Result<(), Violation>> {
    let end = nodes[0].log.end();
    for node in nodes {
        let replica = node.replica.as_ref()?;
        if (replica.log_end(), replica.high_watermark()) != (end, end) {
            return None;
        }
    }
    let hangs = |node: &&Node| {
        node.replica.as_ref().is_some_and(|replica| replica.last_stable_offset() != end)
    };
    if let Some(node) = nodes.iter().find(hangs) {
        let what = format!("{:?} has a transaction that never ends", node.id);
        return Some(Err(Violation::new("X4 completion", what)));
    }
    let unequal = nodes.iter().find(|node| {
        let from = node.log.start.max(nodes[0].log.start);
        let of = |node: &Node| {
            let visible = node.log.batches.iter().filter(|batch| batch.base_offset >= from);
            visible.copied().collect::<Vec<_>>()
        };
        of(node) != of(&nodes[0])
    });
    let violation = unequal.map(|node| {
        Violation::new("I8 convergence", format!("{:?} differs after healing", node.id))
    });
    Some(violation.map_or(Ok(()), Err))
}
