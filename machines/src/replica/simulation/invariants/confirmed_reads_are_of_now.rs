//! A leader that is confirmed knows all that anybody had been acknowledged when it was asked.

use super::super::chance::Violation;
use super::super::world::Node;
use troupe_proto::ids::Offset;

pub fn confirmed_reads_are_of_now(node: &Node, acknowledged: Offset) -> Result<(), Violation> {
    let Some(replica) = &node.replica else { return Ok(()) };
    let end = match replica.knows_what_is_committed() {
        true => replica.high_watermark(),
        false => replica.log_end(),
    };
    if end >= acknowledged {
        return Ok(());
    }
    let what = format!(
        "{:?} was confirmed in {:?} with an end of {end}; {acknowledged} had been acknowledged",
        node.id,
        replica.leader_epoch()
    );
    Err(Violation::new("confirmed reads are of now", what))
}
