//! The cleaner: threads of their own that compact the logs of topics whose cleanup.policy has compact, this node's
//! replicas each for itself.
//!
//! ```text
//! threads ─► candidates ─► the partitions' actors: how does your log stand?
//!    │  └──► Schedule (decides which is next)
//!    └─────► pass: the actor makes a plan, the thread carries it out at its pace, the actor takes the result
//!                └──► table: what is told of it
//! ```
//!
//! Promises: never on a shard's thread, and after all others where there is too little processor or disk, as long as that
//! keeps up with what comes; at a stop of the node the threads end at once, and what is half done is void. Whether a record may go the log decides, and what
//! becomes of a result the partition's actor.

mod candidates;
mod pacer;
mod pass;
mod table;
mod threads;
mod work;

pub use table::{CleaningPass, CleaningReport, CleaningState, CleaningTable};
pub use threads::{Cleaner, not_looked_at};
