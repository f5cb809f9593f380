//! I18: recovery yields a beginning of what was written that has all that was flushed, all of it durable;
//! recovering again changes nothing.

use crate::compaction::is_left_of;
use crate::storage::{PLACE, Remains, headers_of};
use crate::violation::{Checked, Violation, ensure};
use std::path::PathBuf;
use troupe_log::disk::{FaultDisk, Loss, MemDisk};
use troupe_log::{Log, LogConfig};
use troupe_proto::batch::BatchHeader;

pub fn recovery_is_a_prefix(remains: &Remains, headers: &[BatchHeader]) -> Checked {
    let mut written = remains.written.iter().peekable();
    for header in headers {
        while written.next_if(|known| known.base_offset < header.base_offset).is_some() {}
        let known = written.peek().filter(|known| known.base_offset == header.base_offset);
        // what cleaning has left of it is what was written too
        let same = known.is_some_and(|known| *known == header || is_left_of(known, header))
            || header.base_offset >= remains.durable && remains.attempted.contains(header)
            || remains.stand_ins.contains(header);
        ensure(same, "I18 a beginning of what was written", || {
            format!("{header:?} was {known:?}")
        })?;
    }
    Ok(())
}

/// `before` is the disk as recovery found it; of what recovery has left, nothing may need another sync.
pub fn recovery_is_idempotent(
    before: &MemDisk,
    log: &Log<FaultDisk>,
    headers: &[BatchHeader],
    config: &LogConfig,
    now_ms: i64,
) -> Checked {
    let open = |memory: MemDisk| {
        let disk = FaultDisk::new(memory);
        let opened = Log::open(disk.clone(), PathBuf::from(PLACE), log.key(), *config, now_ms);
        opened
            .map(|(log, _)| (log, disk))
            .map_err(|error| Violation::new("I18 recovery is idempotent", error.to_string()))
    };
    let (first, disk) = open(before.clone())?;
    let (second, _) = open(disk.memory().crash(Loss::Unsynced))?;
    for again in [&first, &second] {
        if let Some(known) = log.damage() {
            // the machine may have lost once more what says that all behind was flushed: that goes, and is told
            let is_told = again.damage().is_some();
            ensure(is_told, "S6 damage is told each time", || format!("{known:?}"))?;
            continue;
        }
        // that old segments were removed need not survive; they go again
        let (start, found) = (log.log_start(), headers_of(again)?);
        let old = found.partition_point(|header| header.end_offset() <= start);
        let same = found[old..] == *headers && again.log_end() == log.log_end();
        ensure(same && again.log_start() <= start, "I18 recovery is idempotent", || {
            let (again, end) = (again.log_start(), again.log_end());
            format!("{again} to {end} again, after {start} to {}", log.log_end())
        })?;
    }
    Ok(())
}
