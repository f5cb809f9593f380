//! The workspace as files: its production code, and who names whom in it.

mod arrows;
mod circles;
mod modules;
mod names;
mod sources;

pub use arrows::Arrows;
pub use sources::{Source, files, read, root, says, series_in, sources, without_tests};
