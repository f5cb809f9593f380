//! Where the time of an append went: until its actor had taken it, until it was written, until it was flushed, until enough
//! followers had it. Added up it is the whole.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What an append waits for, one after the other.
pub const STAGES: [&str; 4] = ["queue", "append", "flush", "replicate"];

/// When each stage was over, in nanoseconds from the beginning; 0: it is not.
#[derive(Debug)]
pub struct Stages {
    began: Instant,
    taken: AtomicU64,
    written: AtomicU64,
    flushed: AtomicU64,
}

impl Stages {
    pub fn begin() -> Self {
        let nothing = || AtomicU64::new(0);
        Self { began: Instant::now(), taken: nothing(), written: nothing(), flushed: nothing() }
    }

    pub fn began(&self) -> Instant {
        self.began
    }

    /// Its actor looks at it.
    pub fn take(&self) {
        self.mark(&self.taken);
    }

    /// It is in the log.
    pub fn write(&self) {
        self.mark(&self.written);
    }

    /// It is on the disk.
    pub fn flush(&self) {
        self.mark(&self.flushed);
    }

    fn mark(&self, stage: &AtomicU64) {
        stage.store(nanos(self.began.elapsed()).max(1), Ordering::Relaxed);
    }

    /// Each stage of an append that took so long until its answer. None: it never came to be written.
    pub fn split(&self, total: Duration) -> Option<[Duration; STAGES.len()]> {
        let total = nanos(total);
        let read = |mark: &AtomicU64| mark.load(Ordering::Relaxed).min(total);
        let (taken, written) = (read(&self.taken), read(&self.written));
        if taken == 0 || written == 0 {
            return None;
        }
        // Where nobody waited for the disk, the answer came first.
        let flushed = Some(read(&self.flushed)).filter(|flushed| *flushed > 0).unwrap_or(written);
        let ends = [taken, written.max(taken), flushed.max(written), total];
        let mut before = 0;
        Some(ends.map(|end| {
            let took = end.saturating_sub(before);
            before = end;
            Duration::from_nanos(took)
        }))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(marks: [u64; 3]) -> Stages {
        let stages = Stages::begin();
        for (stage, at) in [&stages.taken, &stages.written, &stages.flushed].into_iter().zip(marks)
        {
            stage.store(at, Ordering::Relaxed);
        }
        stages
    }

    #[test]
    fn the_stages_of_an_append_add_up_to_the_whole() {
        let cases = [
            ([10, 30, 100], Some([10, 20, 70, 400])),
            // Not flushed before the answer.
            ([10, 30, 0], Some([10, 20, 0, 470])),
            // Flushed behind the answer, which did not wait for it.
            ([10, 30, 900], Some([10, 20, 470, 0])),
            ([10, 0, 0], None),
        ];
        for (marks, expected) in cases {
            let split = of(marks).split(Duration::from_nanos(500));
            assert_eq!(split, expected.map(|it| it.map(Duration::from_nanos)), "{marks:?}");
            if let Some(split) = split {
                assert_eq!(split.iter().sum::<Duration>(), Duration::from_nanos(500));
            }
        }
    }
}
