//! A crash after every single I/O of a trace, in several ways each, and at every I/O of the recovery from it.
//!
//! Never here: what the trace does, and what has to be found afterwards; see `crash_sweep`, `cleaning_crash` and
//! `aborted_crash`.

use crate::batches::memory;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use troupe_log::disk::{FaultDisk, Loss, MemDisk};

/// Who runs traces, and says what is right. `S`: a step of one; `M`: what may be found.
pub struct Crashes<S, M> {
    /// As far as the disk lets it.
    pub run: fn(&FaultDisk, &[S]) -> M,
    /// Opens what a crash left and holds it against the model.
    pub check: fn(&MemDisk, &M, Loss),
    /// The same of a recovery that is itself cut short; with the seed of its losses.
    pub check_interrupted: fn(&MemDisk, &M, u64),
    /// How many bytes of what is being written arrive all the same.
    pub torn: &'static [usize],
    /// With which of these recoveries are cut short as well.
    pub interrupted: usize,
}

impl<S: Debug, M> Crashes<S, M> {
    /// Crashes at every change that the trace makes. Of each that many losses are drawn, beside all that can be lost and
    /// nothing.
    pub fn sweep(&self, trace: &[S], seeds: u64) {
        let whole = FaultDisk::new(memory());
        (self.run)(&whole, trace);
        for change in 0..whole.changes() {
            for &torn in self.torn {
                let disk = FaultDisk::new(memory());
                disk.crash_at(change, torn);
                let model = (self.run)(&disk, trace);
                let seeded = (0..seeds).map(|seed| Loss::Seeded(seed * 7919 + change));
                for loss in [Loss::Nothing, Loss::Unsynced].into_iter().chain(seeded) {
                    let found = || disk.memory().crash(loss);
                    let caught = catch_unwind(AssertUnwindSafe(|| {
                        (self.check)(&found(), &model, loss);
                        if torn == self.interrupted && loss == Loss::Seeded(change) {
                            (self.check_interrupted)(&found(), &model, change);
                        }
                    }));
                    if let Err(panic) = caught {
                        eprintln!(
                            "trace {trace:?}\ncrash at change {change}, torn {torn}, {loss:?}"
                        );
                        eprintln!("{:?}", found().files().into_keys());
                        resume_unwind(panic);
                    }
                }
            }
        }
    }
}

/// What recoveries leave that are cut short at any of their changes. `open`: one, on a disk that crashes.
pub fn interrupted(
    found: &MemDisk,
    seed: u64,
    open: impl Fn(&FaultDisk),
    mut check: impl FnMut(&MemDisk, Loss),
) {
    let whole = FaultDisk::new(found.snapshot());
    open(&whole);
    for change in 0..whole.changes() {
        let disk = FaultDisk::new(found.snapshot());
        disk.crash_at(change, 50);
        open(&disk);
        assert!(disk.has_crashed(), "at {change}");
        for loss in [Loss::Nothing, Loss::Unsynced, Loss::Seeded(seed + change)] {
            check(&disk.memory().crash(loss), loss);
        }
    }
}
