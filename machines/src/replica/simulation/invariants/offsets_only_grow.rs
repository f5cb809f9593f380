//! I7: high watermark, last stable offset and log start grow for as long as a replica lives, and the log is never truncated below what
//! was visible.

use super::super::chance::Violation;
use super::super::world::Node;
use troupe_proto::ids::Offset;

const NAME: &str = "I7 monotonic offsets";

/// Compares with what was seen of this life before, and remembers.
pub fn offsets_only_grow(node: &mut Node) -> Result<(), Violation> {
    let Some(replica) = &node.replica else { return Ok(()) };
    let (log_start, high_watermark) = (replica.log_start(), replica.high_watermark());
    let last_stable = replica.last_stable_offset();
    let in_order = log_start <= last_stable
        && last_stable <= high_watermark
        && high_watermark <= replica.log_end();
    let as_on_disk = (node.log.start, node.log.end()) == (log_start, replica.log_end());
    let grew =
        node.seen.0 <= log_start && node.seen.1 <= high_watermark && node.stable <= last_stable;
    if !in_order || !as_on_disk || !grew {
        let what = format!(
            "{:?}: log start {log_start}, last stable {last_stable}, high watermark {high_watermark}, end {}; seen {:?} \
             and {}, disk {}..{}",
            node.id,
            replica.log_end(),
            node.seen,
            node.stable,
            node.log.start,
            node.log.end()
        );
        return Err(Violation::new(NAME, what));
    }
    node.seen = (log_start, high_watermark);
    node.stable = last_stable;
    Ok(())
}

pub fn truncation_stays_above(node: &Node, to: Offset) -> Result<(), Violation> {
    if to < node.seen.1 {
        let what = format!("{:?} is cut to {to}, below {}", node.id, node.seen.1);
        return Err(Violation::new(NAME, what));
    }
    Ok(())
}
