//! What a node suffers, in words.

use crate::quantity::show_duration;
use std::time::Duration;
use troupe_proto::chaos::v1alpha1::node_fault::Kind;
use troupe_proto::chaos::v1alpha1::{Direction, NodeFault};

/// As one reads it: `node 1 neither hears node 2 nor is heard by it`.
pub fn describe(node: i32, fault: &NodeFault) -> String {
    let ms = |ms: u32| show_duration(Duration::from_millis(ms.into()));
    let at = |dir: &str| if dir.is_empty() { String::new() } else { format!(" in {dir}") };
    match &fault.kind {
        Some(Kind::Cut(cut)) => {
            let whom = nodes(&cut.node_ids);
            match cut.direction() {
                Direction::To => format!("node {node} is not heard by {whom}"),
                Direction::From => format!("node {node} does not hear {whom}"),
                Direction::Both | Direction::Unspecified => {
                    format!("node {node} is cut off from {whom}")
                }
            }
        }
        Some(Kind::Slow(slow)) => {
            let (whom, delay) = (nodes(&slow.node_ids), ms(slow.delay_ms));
            let more = match slow.jitter_ms {
                0 => String::new(),
                jitter => format!(" (up to {} more)", ms(jitter)),
            };
            let which = match slow.direction() {
                Direction::To => format!("what node {node} sends {whom}"),
                Direction::From => format!("what {whom} sends node {node}"),
                Direction::Both | Direction::Unspecified => {
                    format!("what node {node} and {whom} send each other")
                }
            };
            format!("{which} takes {delay} longer{more}")
        }
        Some(Kind::SlowDisk(slow)) => {
            format!("flushes of node {node}{} take {} longer", at(&slow.log_dir), ms(slow.delay_ms))
        }
        Some(Kind::FullDisk(full)) => format!("node {node} has no room{}", at(&full.log_dir)),
        Some(Kind::FsyncError(error)) => {
            format!("flushes of node {node}{} fail", at(&error.log_dir))
        }
        Some(Kind::Pause(_)) => format!("node {node} stands still"),
        Some(Kind::ClockOffset(clock)) => {
            let by = show_duration(Duration::from_millis(clock.offset_ms.unsigned_abs()));
            let how = if clock.offset_ms < 0 { "slow" } else { "fast" };
            format!("the clock of node {node} is {by} {how}")
        }
        None => format!("node {node} suffers what this version does not know"),
    }
}

/// Short names for a table.
pub fn name(fault: &NodeFault) -> &'static str {
    match fault.kind {
        Some(Kind::Cut(_)) => "cut",
        Some(Kind::Slow(_)) => "slow",
        Some(Kind::SlowDisk(_)) => "slow-disk",
        Some(Kind::FullDisk(_)) => "full-disk",
        Some(Kind::FsyncError(_)) => "fsync-error",
        Some(Kind::Pause(_)) => "pause",
        Some(Kind::ClockOffset(_)) => "clock",
        None => "unknown",
    }
}

fn nodes(ids: &[i32]) -> String {
    match ids {
        [] => "all others".to_owned(),
        [node] => format!("node {node}"),
        ids => {
            let ids: Vec<_> = ids.iter().map(i32::to_string).collect();
            format!("nodes {}", ids.join(", "))
        }
    }
}
