//! The harness of the tests that see Troupe as a whole.
//!
//! - [`workspace`]: the source tree, for the tests that keep it tidy.

pub mod workspace;
