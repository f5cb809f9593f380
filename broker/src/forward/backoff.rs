//! Waits that get longer, where nothing says when it may go better.

use std::time::Duration;

/// The first wait before something is tried again, if nothing else says that it may go better now.
const FIRST_BACKOFF: Duration = Duration::from_millis(10);
const MAX_BACKOFF: Duration = Duration::from_millis(250);

pub struct Backoff(Duration);

impl Backoff {
    pub fn new() -> Self {
        Self(FIRST_BACKOFF)
    }

    /// The next wait, a little different each time, so that not all who wait come back together.
    pub fn next(&mut self) -> Duration {
        let wait = self.0.mul_f64(rand::random_range(0.75..1.25));
        self.0 = (self.0 * 2).min(MAX_BACKOFF);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_get_longer_up_to_a_limit() {
        let mut backoff = Backoff::new();
        let waits: Vec<Duration> = (0..20).map(|_| backoff.next()).collect();
        assert!(waits[0] < waits[4] && waits.iter().all(|wait| *wait < MAX_BACKOFF * 2));
    }
}
