//! Tests that cannot run here say so where everybody sees it.

use std::io::Write;

/// Whether a test that cannot run is a failure: on a machine whose only purpose is to run them.
pub fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}

/// Says on standard error, past the test runner's capture, that something was not tried, and why.
pub fn skip(test: &str, why: &str) {
    // Nobody to tell if standard error is closed.
    let _ = writeln!(std::io::stderr(), "\nSKIPPED {test}: {why}");
}
