//! I5: in one leader epoch, one node writes.

use super::super::chance::Violation;
use super::Ledger;
use troupe_proto::batch::BatchHeader;

pub fn one_leader_per_epoch(
    ledger: &mut Ledger,
    node: usize,
    batch: &BatchHeader,
) -> Result<(), Violation> {
    let leader = *ledger.leaders.entry(batch.leader_epoch).or_insert(node);
    if leader != node {
        let what = format!("nodes {leader} and {node} write in epoch {}", batch.leader_epoch);
        return Err(Violation::new("I5 one leader per epoch", what));
    }
    Ok(())
}
