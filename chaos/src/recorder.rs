//! Where everybody who feels something says so, with the time.

use crate::measure::{Event, Felt, Figures, Place};
use crate::report::Report;
use parking_lot::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub struct Recorder {
    felt: Mutex<Felt>,
    began: Instant,
    began_ms: u64,
    /// Somebody reads.
    delivers: bool,
}

impl Recorder {
    pub fn new(felt: Felt, delivers: bool) -> Recorder {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let began_ms = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
        Recorder { felt: Mutex::new(felt), began: Instant::now(), began_ms, delivers }
    }

    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    pub fn began_ms(&self) -> u64 {
        self.began_ms
    }

    pub fn note(&self, event: Event) {
        let mut felt = self.felt.lock();
        // Within the lock, so that times are in the order of events.
        felt.note(self.began.elapsed(), event);
    }

    /// Many at once, which happened together.
    pub fn note_all(&self, events: impl IntoIterator<Item = Event>) {
        let mut felt = self.felt.lock();
        let now = self.began.elapsed();
        events.into_iter().for_each(|event| felt.note(now, event));
    }

    pub fn sending(&self, place: &Place) -> u64 {
        self.felt.lock().sending(place)
    }

    pub fn figures(&self) -> Figures {
        let felt = self.felt.lock();
        felt.figures(self.began.elapsed(), self.delivers)
    }

    pub fn flows(&self) -> bool {
        self.felt.lock().flows(self.delivers)
    }

    pub fn acknowledged(&self) -> Vec<(Place, u64)> {
        let felt = self.felt.lock();
        felt.acknowledged().map(|(place, sequence)| (place.clone(), sequence)).collect()
    }

    pub fn is_whole(&self) -> bool {
        self.felt.lock().state().is_whole()
    }

    pub fn report(&self, read_back: bool) -> Report {
        let felt = self.felt.lock();
        felt.report(self.began.elapsed(), self.began_ms, read_back, self.delivers)
    }
}
