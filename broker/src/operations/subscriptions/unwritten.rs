//! What is told of an answer that was not written.

/// Runs, when it is dropped, unless what it goes with was written. The default runs nothing.
#[derive(Default)]
pub struct Unwritten(Option<Box<dyn FnOnce() + Send>>);

impl Unwritten {
    pub fn new(told: impl FnOnce() + Send + 'static) -> Unwritten {
        Unwritten(Some(Box::new(told)))
    }

    pub fn written(&mut self) {
        self.0 = None;
    }
}

impl Drop for Unwritten {
    fn drop(&mut self) {
        if let Some(told) = self.0.take() {
            told();
        }
    }
}
