//! S19: once a deletion was answered, every in-sync replica has deleted so much, and no reader is given any of it again;
//! what cannot be deleted is refused.

use crate::violation::{Checked, Violation, ensure};
use troupe_machines::replica::{DeleteUpTo, DeletionError};
use troupe_proto::ids::{NodeId, Offset};

const S19: &str = "S19 answered deletions are done";

pub fn only_what_is_committed_is_deleted(before: Offset, high_watermark: Offset) -> Checked {
    ensure(before <= high_watermark, "S19 only what is committed is deleted", || {
        format!("below {before} is to go, {high_watermark} is committed")
    })
}

pub fn deletion_is_answered(
    before: Offset,
    low_watermark: Offset,
    log_start: Offset,
    high_watermark: Offset,
) -> Checked {
    let done = before <= low_watermark && low_watermark <= log_start;
    ensure(done && log_start <= high_watermark, S19, || {
        format!(
            "below {before} was to go, {low_watermark} was answered; the leader has {log_start} to {high_watermark}"
        )
    })
}

pub fn impossible_deletion_is_refused(
    up_to: DeleteUpTo,
    result: Result<Offset, DeletionError>,
    high_watermark: Offset,
) -> Checked {
    match (up_to, result) {
        (DeleteUpTo::Offset(offset), Err(DeletionError::OffsetOutOfRange { .. })) => {
            ensure(offset > high_watermark, "S19 what can be deleted is", || format!("{offset}"))
        }
        (_, Err(_)) => Ok(()),
        (_, Ok(low_watermark)) => {
            let what = format!("{up_to:?} was answered with {low_watermark}");
            Err(Violation::new("S19 only what is committed is deleted", what))
        }
    }
}

pub fn in_sync_replica_has_deleted(low_watermark: Offset, node: NodeId, start: Offset) -> Checked {
    ensure(start >= low_watermark, S19, || {
        format!("{low_watermark} was answered, and node {node} is in sync and starts at {start}")
    })
}

/// Whoever leads, and whatever was read from.
pub fn nothing_deleted_is_served(answered: Offset, from: Offset) -> Checked {
    ensure(from >= answered, "S19 what was deleted stays deleted", || {
        format!("served from {from}, and a deletion below {answered} was answered")
    })
}
