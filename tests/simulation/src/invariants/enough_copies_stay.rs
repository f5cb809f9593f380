//! R34: whoever has what is committed is no replica any more only once that is on enough of the others.

use crate::violation::{Checked, ensure};
use troupe_machines::cluster::{Partition, Topic};

pub fn enough_copies_stay(before: &Partition, topic: &Topic, after: &Partition) -> Checked {
    let mut had_all = before.isr.iter().chain(&before.elr);
    let drops_one = had_all.any(|node| !after.replicas.contains(node));
    let enough = (topic.config.min_insync_replicas as usize).min(after.replicas.len());
    ensure(!drops_one || after.isr.len() >= enough, "R34 enough copies stay", || {
        format!("of {:?} with {:?} in sync {:?} are left", before.replicas, before.isr, after.isr)
    })
}
