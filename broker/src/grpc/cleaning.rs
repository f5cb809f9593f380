//! How the compaction of a replica's log stands, on the wire.

use super::numbers::int64;
use crate::cleaner::{CleaningPass, CleaningReport, CleaningState};
use troupe_proto::admin::v1 as pb;

pub fn cleaning(report: CleaningReport) -> pb::ReplicaCleaning {
    let (state, reason, percent) = match report.state {
        CleaningState::Idle => (pb::CleaningState::Idle, String::new(), 0),
        CleaningState::Cleaning { percent } => {
            (pb::CleaningState::Cleaning, String::new(), percent)
        }
        CleaningState::Waiting(why) => (pb::CleaningState::Waiting, why, 0),
        CleaningState::Uncleanable(why) => (pb::CleaningState::Uncleanable, why, 0),
    };
    pb::ReplicaCleaning {
        state: state.into(),
        reason,
        progress_percent: percent.into(),
        dirty_ratio: report.dirty_ratio.as_f64(),
        pass_count: int64(report.passes),
        saved_bytes: int64(report.saved_bytes),
        last_pass: report.last_pass.map(pass),
    }
}

fn pass(pass: CleaningPass) -> pb::CleaningPass {
    pb::CleaningPass {
        ended_timestamp_ms: pass.ended.as_timestamp(),
        took_ms: i64::try_from(pass.took.as_millis()).unwrap_or(i64::MAX),
        bytes_before: int64(pass.bytes_before),
        bytes_after: int64(pass.bytes_after),
    }
}
