//! Consumer groups: what differs for them among coordinators.
//!
//! ```text
//!  a member ─► membership ─► GroupHandle ─► member_session ─► GroupActor (joining) ─► Groups (decides)
//!                  └─► the same membership, on another node             └─► Members ─► the members' streams
//!  a commit ─► CommitBatches ─┬─► GroupHandle ─► GroupActor (requests)
//!                             └─► one call to another node
//!  a commit in a transaction, a marker ─► transactions
//! ```
//!
//! - `machine`: [`Groups`](troupe_machines::group::Groups) as a machine of [`crate::coordinator`]; `members`: those who are told their assignments.
//! - `message`, and who handles them: `joining` (members), `transactions`, `requests` (all others).
//! - `membership` and `questions`: how a group is asked through any node.
//!
//! Promise: a member's stream ends, or it is told what its group has committed.
//! Never here: a rule of groups; what is checked before a group is asked.

mod aliases;
mod batching;
mod commit;
mod handle;
mod joining;
mod listed;
mod machine;
mod member_session;
mod member_stream;
mod members;
mod membership;
mod message;
mod questions;
mod requests;
mod settings;
mod transactions;

pub use aliases::{GroupCoordinators, GroupHandle, GroupRoute};
pub use batching::CommitBatches;
pub use commit::{check_partition, commit_here};
pub use listed::{list_here, list_there};
pub use machine::catalog_of;
pub use membership::{Answers, FORWARDED_FOR, Requests, run_member};
pub use message::OffsetsMarker;
pub use settings::{group_route, settings};
