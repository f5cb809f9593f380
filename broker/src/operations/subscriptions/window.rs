//! What may be delivered and not acknowledged.

use super::request::WindowBounds;
use troupe_proto::error::{Error, ErrorCode};

const DEFAULT_RECORDS: usize = 100;
const DEFAULT_BYTES: usize = 1 << 20;

/// Room for deliveries, and how much of it is taken.
#[derive(Clone, Debug)]
pub struct Window {
    max_records: usize,
    max_bytes: usize,
    records: usize,
    bytes: usize,
}

impl Window {
    /// # Errors
    /// `INVALID_REQUEST` for negative bounds.
    pub fn new(asked: Option<WindowBounds>) -> Result<Window, Error> {
        let mut window = Window { max_records: 0, max_bytes: 0, records: 0, bytes: 0 };
        window.resize(asked.unwrap_or_default())?;
        Ok(window)
    }

    /// Other bounds from now on; what is out stays out.
    ///
    /// # Errors
    /// `INVALID_REQUEST` for negative bounds.
    pub fn resize(&mut self, asked: WindowBounds) -> Result<(), Error> {
        let bound = |name: &str, asked: Option<i64>, default: usize| match asked {
            None => Ok(default),
            Some(bound) => usize::try_from(bound).map_err(|_| {
                let message = format!("{name} {bound} is negative; 0 records is a pause");
                Error::new(ErrorCode::InvalidRequest, message)
            }),
        };
        let max_records =
            bound("window.max_records", asked.max_records.map(i64::from), DEFAULT_RECORDS)?;
        self.max_bytes = bound("window.max_bytes", asked.max_bytes, DEFAULT_BYTES)?;
        self.max_records = max_records;
        Ok(())
    }

    /// Whether a record of that size may go out. One may always, unless the window is a pause.
    pub fn has_room(&self, bytes: usize) -> bool {
        let fits =
            self.records < self.max_records && self.bytes.saturating_add(bytes) <= self.max_bytes;
        self.max_records > 0 && (fits || self.records == 0)
    }

    pub fn take(&mut self, bytes: usize) {
        self.records += 1;
        self.bytes += bytes;
    }

    pub fn give_back(&mut self, bytes: usize) {
        debug_assert!(self.records > 0 && self.bytes >= bytes, "more came back than went out");
        self.records = self.records.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Records that are out.
    pub fn records(&self) -> usize {
        self.records
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(max_records: i32, max_bytes: i64) -> Window {
        let asked = WindowBounds { max_records: Some(max_records), max_bytes: Some(max_bytes) };
        Window::new(Some(asked)).unwrap()
    }

    #[test]
    fn records_and_bytes_are_bounded() {
        let mut window = window(2, 100);
        window.take(60);
        assert!(window.has_room(40) && !window.has_room(41));
        window.take(1);
        assert!(!window.has_room(0));
        window.give_back(60);
        assert!(window.has_room(99));
    }

    #[test]
    fn one_record_is_always_allowed_but_for_a_pause() {
        assert!(window(1, 0).has_room(1 << 30));
        let mut window = window(10, 10);
        window.take(1);
        assert!(!window.has_room(1 << 30));
        window.give_back(1);
        window.resize(WindowBounds { max_records: Some(0), max_bytes: None }).unwrap();
        assert!(!window.has_room(0));
    }

    #[test]
    fn what_is_unset_is_the_default() {
        let mut window = Window::new(None).unwrap();
        assert!(window.has_room(1 << 20));
        (0..100).for_each(|_| window.take(1));
        assert!(!window.has_room(1));
        let negative = WindowBounds { max_records: Some(-1), max_bytes: None };
        assert_eq!(Window::new(Some(negative)).unwrap_err().code, ErrorCode::InvalidRequest);
    }
}
