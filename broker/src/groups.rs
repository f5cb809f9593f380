//! Consumer groups: how everything on a node asks a group's coordinator.

mod coordinators;
mod handle;
mod route;

#[allow(unused_imports, reason = "the way to a coordinator asks by it")]
pub use coordinators::{Coordinators, OFFSETS_TOPIC};
#[allow(unused_imports, reason = "the way to a coordinator asks by it")]
pub use handle::CoordinatorHandle;
#[allow(unused_imports, reason = "subscriptions ask by it")]
pub use route::is_elsewhere_for_now;
pub use route::{commit_offsets, fetch_offsets, run_member};
