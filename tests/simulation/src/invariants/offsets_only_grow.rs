//! I7: high watermark and log start only grow while a replica lives; log start ≤ high watermark ≤ log end;
//! nothing committed is truncated.

use crate::broker::Host;
use crate::violation::{Checked, ensure};
use troupe_proto::ids::Offset;

pub fn offsets_only_grow(host: &mut Host) -> Checked {
    let (start, high_watermark) = (host.replica.log_start(), host.replica.high_watermark());
    let (log_start, log_end) = (host.log.log_start(), host.log.log_end());
    let before = (host.watched.log_start, host.watched.high_watermark);
    let grow = start >= before.0 && high_watermark >= before.1;
    ensure(grow, "I7 offsets only grow", || {
        format!("log start and high watermark ({start}, {high_watermark}) after {before:?}")
    })?;
    let ordered = start <= high_watermark && high_watermark <= host.replica.log_end();
    ensure(ordered, "I7 offsets are in order", || {
        format!("{start}, {high_watermark}, {}", host.replica.log_end())
    })?;
    let agree = host.offline || (start, host.replica.log_end()) == (log_start, log_end);
    ensure(agree, "the machine knows its log", || {
        format!("{start} to {} is {log_start} to {log_end}", host.replica.log_end())
    })?;
    host.watched.log_start = start;
    host.watched.high_watermark = high_watermark;
    Ok(())
}

pub fn truncation_stays_above(high_watermark: Offset, to: Offset) -> Checked {
    ensure(high_watermark <= to, "I7 nothing committed is truncated", || {
        format!("cut to {to}, high watermark {high_watermark}")
    })
}
