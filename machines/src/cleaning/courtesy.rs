//! How much of the disk the cleaner leaves to those who wait for it: records are acknowledged when they are flushed, and
//! what is read and written beside a flush makes it longer, by how much depends on the disk.
//!
//! Owns how long flushes took alone and beside the cleaner, and the rate that follows from that. The cleaner works for a
//! moment and rests for a moment, as long as somebody flushes; flushes during the rests are what the disk does alone. When
//! the slowest beside it take longer than that, it goes slower, and when they do not, faster.
//! Promises: it never stands still, however slow the flushes are; where nobody flushes there is no limit.
//! Never here: a clock, a disk.

use std::time::Duration;

/// Of both, so much at a time.
const WORK: Duration = Duration::from_millis(200);
const REST: Duration = Duration::from_millis(50);
/// What the cleaner has left to the disk is done by then.
const SETTLED: Duration = Duration::from_millis(5);
/// Bytes in a second.
const LEAST: u64 = 8 << 20;
const FIRST: u64 = 32 << 20;
const MOST: u64 = 4 << 30;
/// By fewer flushes nothing is judged.
const ENOUGH: u32 = 300;
/// After so long without a flush nobody waits for the disk.
const QUIET: Duration = Duration::from_secs(1);
/// Of flushes that were seen before the last so many, nothing is left after a while.
const REMEMBERED: u32 = 4_000;
/// The slowest so many of a hundred are not looked at: of them there are too few to go by.
const SLOWEST_PERCENT: u32 = 1;

/// Time is counted from any moment on, the same for all calls.
#[derive(Clone, Debug)]
pub struct Courtesy {
    alone: Durations,
    beside: Durations,
    phase: Phase,
    /// Under way.
    passes: usize,
    rate: u64,
    /// When all that was moved has had its time.
    paid: Duration,
    /// When the last flush ended.
    flushed: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Nobody cleans, from here on.
    Idle(Duration),
    /// The same, until then.
    Rest(Duration),
    /// From here on.
    Work(Duration),
}

impl Default for Courtesy {
    fn default() -> Self {
        Courtesy {
            alone: Durations::default(),
            beside: Durations::default(),
            phase: Phase::Idle(Duration::ZERO),
            passes: 0,
            rate: FIRST,
            paid: Duration::ZERO,
            flushed: None,
        }
    }
}

impl Courtesy {
    /// A flush took from here to there.
    pub fn flushed(&mut self, began: Duration, ended: Duration) {
        let took = ended.saturating_sub(began);
        self.flushed = Some(ended);
        match self.phase {
            Phase::Idle(since) if began >= since + SETTLED => self.alone.add(took, REMEMBERED),
            Phase::Rest(until) if began + REST >= until + SETTLED => {
                self.alone.add(took, REMEMBERED);
            }
            Phase::Work(since) if ended >= since + SETTLED => self.beside.add(took, u32::MAX),
            Phase::Idle(_) | Phase::Rest(_) | Phase::Work(_) => {}
        }
    }

    /// A pass begins.
    pub fn begins(&mut self, now: Duration) {
        self.passes += 1;
        if matches!(self.phase, Phase::Idle(_)) {
            self.phase = Phase::Work(now);
        }
    }

    /// A pass has read or written so much. Returns how long it rests now.
    pub fn take(&mut self, now: Duration, bytes: u64) -> Duration {
        if self.flushed.is_none_or(|flushed| flushed + QUIET < now) {
            return Duration::ZERO;
        }
        match self.phase {
            Phase::Rest(until) if now < until => return until - now,
            Phase::Work(since) if now < since + WORK => {
                return self.pay(now, bytes).min(WORK);
            }
            Phase::Work(_) => {}
            Phase::Idle(_) | Phase::Rest(_) => {
                self.phase = Phase::Work(now);
                return Duration::ZERO;
            }
        }
        self.judge();
        self.phase = Phase::Rest(now + REST);
        REST
    }

    /// A pass is over.
    pub fn ended(&mut self, now: Duration) {
        self.passes = self.passes.saturating_sub(1);
        if self.passes == 0 {
            self.phase = Phase::Idle(now);
        }
    }

    /// Bytes in a second, for as long as somebody flushes.
    pub fn rate(&self) -> u64 {
        self.rate
    }

    /// Until that much may have been moved.
    fn pay(&mut self, now: Duration, bytes: u64) -> Duration {
        let cost = Duration::from_secs_f64(bytes as f64 / self.rate as f64);
        self.paid = self.paid.max(now.saturating_sub(SETTLED)) + cost;
        self.paid.saturating_sub(now)
    }

    fn judge(&mut self) {
        if self.beside.count < ENOUGH || self.alone.count < ENOUGH {
            return;
        }
        let (beside, alone) = (self.beside.slow(), self.alone.slow());
        self.beside = Durations::default();
        let rate = if beside > alone * 6 / 5 {
            self.rate / 3 * 2
        } else if beside > alone * 11 / 10 {
            self.rate
        } else {
            self.rate / 4 * 5
        };
        self.rate = rate.clamp(LEAST, MOST);
    }
}

/// How often it took how long, to a twentieth.
#[derive(Clone, Debug)]
struct Durations {
    counts: [u32; Durations::STEPS],
    count: u32,
}

impl Default for Durations {
    fn default() -> Self {
        Durations { counts: [0; Self::STEPS], count: 0 }
    }
}

impl Durations {
    const IN_A_DOUBLING: usize = 16;
    /// From a microsecond on to minutes.
    const STEPS: usize = Self::IN_A_DOUBLING * 28;

    fn add(&mut self, took: Duration, remembered: u32) {
        let step = (took.as_secs_f64() * 1e6).max(1.0).log2() * Self::IN_A_DOUBLING as f64;
        self.counts[(step as usize).min(Self::STEPS - 1)] += 1;
        self.count += 1;
        if self.count >= remembered {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.count = self.counts.iter().sum();
        }
    }

    /// What the slowest, but for a few, took.
    fn slow(&self) -> Duration {
        let mut faster = self.count - self.count * SLOWEST_PERCENT / 100;
        let step = self.counts.iter().position(|count| {
            faster = faster.saturating_sub(*count);
            faster == 0
        });
        let step = step.unwrap_or(Self::STEPS) as f64;
        Duration::from_secs_f64(2f64.powf((step + 1.0) / Self::IN_A_DOUBLING as f64) / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk whose flushes take `alone`, and longer by what the cleaner does meanwhile, in nanoseconds for each byte in
    /// a second. Returns the rate after so many seconds, and what was moved in each of them.
    fn cleaned(courtesy: &mut Courtesy, alone: Duration, cost: f64, flushes: bool) -> (u64, u64) {
        const STEP: u64 = 256 << 10;
        const DISK: f64 = 2e9;
        let begin = Duration::from_secs(1_000);
        let (mut now, mut moved, mut flush) = (begin, 0, begin);
        courtesy.begins(begin);
        while now < begin + Duration::from_secs(60) {
            let rest = courtesy.take(now, STEP);
            let step = Duration::from_secs_f64(STEP as f64 / DISK);
            let takes = alone + Duration::from_secs_f64(courtesy.rate() as f64 * cost / 1e9);
            moved += STEP;
            while flushes && flush < now + step + rest {
                let at_rest = !matches!(courtesy.phase, Phase::Work(_));
                let ended = flush + if at_rest { alone } else { takes };
                courtesy.flushed(flush, ended);
                flush = ended;
            }
            now += step + rest;
        }
        courtesy.ended(now);
        (courtesy.rate(), moved / 60)
    }

    #[test]
    fn a_cleaner_goes_as_fast_as_flushes_beside_it_bear() {
        let alone = Duration::from_millis(1);
        // Beside 100 MB/s a flush takes a quarter of a millisecond more.
        let mut courtesy = Courtesy::default();
        let (rate, moved) = cleaned(&mut courtesy, alone, 0.0025, true);
        assert!((30_000_000..150_000_000).contains(&rate), "{rate}");
        assert!(moved > 30_000_000, "{moved}");
        // Now the disk bears more.
        let (rate, _) = cleaned(&mut courtesy, alone, 0.000_25, true);
        assert!((300_000_000..1_500_000_000).contains(&rate), "{rate}");
    }

    #[test]
    fn a_cleaner_never_stands_still() {
        let mut courtesy = Courtesy::default();
        let (rate, moved) = cleaned(&mut courtesy, Duration::from_millis(1), 1.0, true);
        assert_eq!(rate, LEAST);
        assert!(moved > LEAST / 2, "{moved}");
    }

    #[test]
    fn where_nobody_flushes_there_is_no_limit() {
        let mut courtesy = Courtesy::default();
        let (_, moved) = cleaned(&mut courtesy, Duration::from_millis(1), 1.0, false);
        assert!(moved > 1_900_000_000, "as fast as the disk is: {moved}");
    }

    #[test]
    fn the_slowest_but_one_of_a_hundred_is_told_to_a_twentieth() {
        let mut durations = Durations::default();
        for micros in 1..=1_000 {
            durations.add(Duration::from_micros(micros), u32::MAX);
        }
        let slow = durations.slow();
        assert!((990..1_040).contains(&slow.as_micros()), "{slow:?}");
    }
}
