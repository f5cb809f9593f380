//! When an actor has died too often.

use std::time::{Duration, Instant};

/// Deaths that are further back do not count.
const WINDOW: Duration = Duration::from_secs(60);

/// The deaths of one actor in the last minute.
pub struct RestartWindow {
    limit: usize,
    deaths: Vec<Instant>,
}

impl RestartWindow {
    /// `limit` deaths in a minute are too many.
    pub fn new(limit: usize) -> Self {
        Self { limit, deaths: Vec::new() }
    }

    /// It has died once more. True: too often.
    pub fn note(&mut self, now: Instant) -> bool {
        self.deaths.retain(|death| now.duration_since(*death) < WINDOW);
        self.deaths.push(now);
        self.deaths.len() >= self.limit
    }

    /// Somebody has looked at it.
    pub fn clear(&mut self) {
        self.deaths.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_deaths_in_a_minute_are_too_many_and_older_ones_do_not_count() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut window = RestartWindow::new(3);
        assert!(!window.note(at(0)) && !window.note(at(30)));
        assert!(!window.note(at(60)), "the first is a minute ago");
        assert!(window.note(at(61)));
        window.clear();
        assert!(!window.note(at(62)));
    }
}
