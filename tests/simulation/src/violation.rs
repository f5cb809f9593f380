//! A promise that was broken.

use std::fmt;

#[derive(Clone, Debug)]
pub struct Violation {
    invariant: &'static str,
    what: String,
}

/// How anything ends that may find a violation.
pub type Checked<T = ()> = Result<T, Violation>;

impl Violation {
    pub fn new(invariant: &'static str, what: impl Into<String>) -> Violation {
        Violation { invariant, what: what.into() }
    }
}

/// Broken if `held` is not.
pub fn ensure(held: bool, invariant: &'static str, what: impl FnOnce() -> String) -> Checked {
    if held { Ok(()) } else { Err(Violation::new(invariant, what())) }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}
