//! How much of the disk the cleaner leaves to those who wait for it: records are acknowledged when they are flushed, and
//! what is read and written beside a flush makes it longer, by how much depends on the disk.
//!
//! Owns how long flushes took alone and beside the cleaner, and the rate that follows from that. The cleaner works for a
//! moment and rests for a moment, as long as somebody flushes; flushes during the rests are what the disk does alone. When
//! the slowest beside it take longer than that, it goes slower, and when they do not, faster. On some disks flushes beside
//! it are slower however slow it is: when going slower has not helped, it takes that back and leaves it so for a while.
//! Promises: it never crawls, however slow the flushes are; where nobody flushes there is no limit.
//! Never here: a clock, a disk.

use std::time::Duration;

/// Of both, so much at a time.
const WORK: Duration = Duration::from_millis(200);
const REST: Duration = Duration::from_millis(50);
/// What the cleaner has left to the disk is done by then.
const SETTLED: Duration = Duration::from_millis(5);
/// Whoever rests may be woken late; so much of that it makes up for.
const CREDIT: Duration = Duration::from_millis(20);
/// Bytes in a second.
const LEAST: u64 = 32 << 20;
const FIRST: u64 = 64 << 20;
const MOST: u64 = 4 << 30;
/// By fewer flushes nothing is judged: of so many, ten were slower than what is compared.
const ENOUGH: u32 = 1_000;
/// So often it is not tried again to go slower where that has not helped.
const STUBBORN: u32 = 8;
/// What has helped has made them shorter by that at least.
const HELPED: f64 = 0.95;
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
    /// It has gone slower; how much longer flushes beside it had been, as a share of those alone.
    slowed: Option<f64>,
    /// For so many judgements more it goes no slower.
    stubborn: u32,
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
            slowed: None,
            stubborn: 0,
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
        self.paid = self.paid.max(now.saturating_sub(CREDIT)) + cost;
        self.paid.saturating_sub(now)
    }

    fn judge(&mut self) {
        if self.beside.count < ENOUGH || self.alone.count < ENOUGH {
            return;
        }
        let longer = self.beside.slow().as_secs_f64() / self.alone.slow().as_secs_f64();
        self.beside = Durations::default();
        self.stubborn = self.stubborn.saturating_sub(1);
        let slowed = self.slowed.take();
        let rate = if longer <= 1.1 {
            self.rate / 4 * 5
        } else if slowed.is_some_and(|before| longer > before * HELPED) {
            self.stubborn = STUBBORN;
            self.rate / 4 * 5
        } else if longer <= 1.2 || self.stubborn > 0 || self.rate == LEAST {
            self.rate
        } else {
            self.slowed = Some(longer);
            self.rate / 5 * 4
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

    /// A disk on which a flush beside the cleaner takes `longer` than `alone` by what the rate makes of it. Returns the
    /// rate after so many seconds, and what was moved in each of them.
    fn cleaned(
        courtesy: &mut Courtesy,
        alone: Duration,
        longer: impl Fn(u64) -> Duration,
        flushes: bool,
    ) -> (u64, u64) {
        const STEP: u64 = 256 << 10;
        const DISK: f64 = 2e9;
        const SECONDS: u64 = 120;
        let begin = Duration::from_secs(1_000);
        let (mut now, mut moved, mut flush) = (begin, 0, begin);
        // The same ones each time. Nineteen of twenty take what is to be expected, one up to three times as long.
        let mut chance = 7u64;
        courtesy.begins(begin);
        while now < begin + Duration::from_secs(SECONDS) {
            let rest = courtesy.take(now, STEP);
            let step = Duration::from_secs_f64(STEP as f64 / DISK);
            moved += STEP;
            while flushes && flush < now + step + rest {
                let at_rest = !matches!(courtesy.phase, Phase::Work(_));
                let takes = if at_rest { alone } else { alone + longer(courtesy.rate()) };
                chance = chance * 48_271 % 0x7fff_ffff;
                let slower = chance.is_multiple_of(20).then_some(1 + chance / 20 % 128);
                let ended = flush + takes.mul_f64(1.0 + slower.unwrap_or(0) as f64 / 64.0);
                courtesy.flushed(flush, ended);
                flush = ended;
            }
            now += step + rest;
        }
        courtesy.ended(now);
        (courtesy.rate(), moved / SECONDS)
    }

    /// Nanoseconds for each byte in a second.
    fn by(cost: f64) -> impl Fn(u64) -> Duration {
        move |rate| Duration::from_secs_f64(rate as f64 * cost / 1e9)
    }

    const ALONE: Duration = Duration::from_millis(1);

    #[test]
    fn a_cleaner_goes_as_fast_as_flushes_beside_it_bear() {
        // Beside 100 MB/s a flush takes a quarter of a millisecond more.
        let mut courtesy = Courtesy::default();
        let (rate, moved) = cleaned(&mut courtesy, ALONE, by(0.0025), true);
        assert!((LEAST..150_000_000).contains(&rate), "{rate}");
        assert!(moved > 25_000_000, "{moved}");
        // Now the disk bears more.
        let (rate, _) = cleaned(&mut courtesy, ALONE, by(0.000_25), true);
        assert!((300_000_000..1_500_000_000).contains(&rate), "{rate}");
    }

    #[test]
    fn a_cleaner_never_crawls() {
        let mut courtesy = Courtesy::default();
        let (rate, moved) = cleaned(&mut courtesy, ALONE, by(0.1), true);
        assert!(rate < LEAST * 2, "{rate}");
        assert!(moved > LEAST / 2, "{moved}");
    }

    #[test]
    fn a_cleaner_goes_no_slower_where_that_helps_nobody() {
        let mut courtesy = Courtesy::default();
        let (rate, moved) = cleaned(&mut courtesy, ALONE, |_| ALONE, true);
        assert!(rate > FIRST / 2, "{rate}");
        assert!(moved > FIRST / 2, "{moved}");
    }

    #[test]
    fn what_happens_now_and_then_slows_no_cleaner() {
        let mut courtesy = Courtesy::default();
        let (rate, _) = cleaned(&mut courtesy, ALONE, |_| Duration::ZERO, true);
        assert!(rate > FIRST * 4, "{rate}");
    }

    #[test]
    fn where_nobody_flushes_there_is_no_limit() {
        let mut courtesy = Courtesy::default();
        let (_, moved) = cleaned(&mut courtesy, ALONE, by(1.0), false);
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
