//! Consumer groups: how everything on a node asks a group's coordinator.

mod actor;
mod admin;
mod coordinators;
mod create;
mod follow;
mod handle;
mod lead;
mod listing;
mod loading;
mod member;
mod membership;
mod message;
mod offsets;
mod outbox;
mod requests;
mod reset;
mod route;
mod settings;
mod together;

pub use admin::{delete, delete_offsets, describe, find_coordinator};
pub use coordinators::{Coordinators, OFFSETS_TOPIC};
pub use follow::follow;
pub use handle::CoordinatorHandle;
pub use listing::{here as list_here, list};
pub use membership::{FORWARDED_FOR, run, run_member};
pub use offsets::{commit, commit_of_member, fetch, fetch_offsets};
pub use reset::reset;
pub use route::is_elsewhere_for_now;
pub use together::commit_together;
