//! `--rate`: records to a schedule, so that something is under way while a cluster is looked at.

use std::time::{Duration, Instant};

/// A shorter pause is not worth waking up for; the records of it go out together.
const SHORTEST_PAUSE: Duration = Duration::from_millis(2);

pub struct Pace {
    rate: f64,
    since: Instant,
    sent: u64,
}

impl Pace {
    pub fn new(records_per_second: u64) -> Pace {
        Pace { rate: records_per_second as f64, since: Instant::now(), sent: 0 }
    }

    /// How long the next record has to wait, if it is worth it.
    pub fn next(&mut self) -> Option<Duration> {
        let due = self.since + Duration::from_secs_f64(self.sent as f64 / self.rate);
        self.sent += 1;
        let early = due.saturating_duration_since(Instant::now());
        (early >= SHORTEST_PAUSE).then_some(early)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_waits_until_it_is_due() {
        let mut pace = Pace::new(10);
        assert_eq!(pace.next(), None);
        let second = pace.next().unwrap();
        assert!(second <= Duration::from_millis(100));
        let third = pace.next().unwrap();
        assert!(third > second);
    }
}
