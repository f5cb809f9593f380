//! Consumer groups: how everything on a node asks a group's coordinator.

mod admin;
mod coordinators;
mod create;
mod handle;
mod listing;
mod membership;
mod offsets;
mod reset;
mod route;
mod settings;

pub use admin::{delete, delete_offsets, describe, find_coordinator};
pub use coordinators::Coordinators;
pub use listing::{here as list_here, list};
#[allow(unused_imports, reason = "subscriptions ask by them")]
pub use membership::run_member;
pub use membership::{FORWARDED_FOR, run};
pub use offsets::{commit, fetch};
#[allow(unused_imports, reason = "subscriptions ask by them")]
pub use offsets::{commit_offsets, fetch_offsets};
pub use reset::reset;
pub use route::Call;
#[allow(unused_imports, reason = "subscriptions ask by it")]
pub use route::is_elsewhere_for_now;
#[allow(unused_imports, reason = "coordinators take them")]
pub use settings::settings;
