//! X12: each replica knows the transactions that are open in its log, and readers of committed records stop at the first
//! of them, and at the first whose marker is not committed. What is deleted it may know, or not.

use super::super::chance::Violation;
use super::super::world::Node;
use std::collections::BTreeMap;
use troupe_proto::ids::Offset;

pub fn transactions_are_as_the_log_says(node: &Node) -> Result<(), Violation> {
    let Some(replica) = &node.replica else { return Ok(()) };
    let (mut open, mut stable) = (BTreeMap::new(), replica.high_watermark());
    for batch in &node.log.batches {
        let Some(stamp) = batch.producer.filter(|_| batch.attributes.is_transactional()) else {
            continue;
        };
        match batch.marker() {
            None => drop(open.entry(stamp.id).or_insert(batch.base_offset)),
            Some(_) => {
                let first = open.remove(&stamp.id);
                if batch.last_offset() >= replica.high_watermark() {
                    stable = stable.min(first.unwrap_or(stable));
                }
            }
        }
    }
    stable = open.values().copied().fold(stable, Offset::min);
    let known: BTreeMap<_, _> = replica
        .producers()
        .filter_map(|producer| Some((producer.id, producer.transaction_first_offset?)))
        .collect();
    let start = replica.log_start();
    let is_gone = |offset: &Offset| *offset < start;
    let same =
        |(id, first): (_, &Offset)| known.get(id).is_some_and(|it| it == first || is_gone(it));
    let all_known = open.iter().all(same);
    let none_more = known.iter().all(|(id, first)| open.contains_key(id) || is_gone(first));
    let last_stable = replica.last_stable_offset();
    let stops = last_stable == stable || (last_stable < stable && last_stable == start);
    if all_known && none_more && stops {
        return Ok(());
    }
    let what = format!(
        "{:?}: the log says {open:?} and {stable}, the replica {known:?} and {last_stable}, from {start} to {}",
        node.id,
        replica.high_watermark()
    );
    Err(Violation::new("transactions are as the log says", what))
}
