//! Records to several topics and partitions, and acknowledgements of what a group was delivered, all or nothing: a
//! transaction in one call, of a producer that this node is.
//!
//! ```text
//!  checked ─► a producer: of the pool, or of the key ─► deliveries are pledged ─► partitions and group are part of it
//!                                                                                     │
//!          abort ◄── any failure ── batches and offsets, all at once ◄────────────────┘
//!                                             └─► commit ─► the deliveries are told how it ended
//! ```
//!
//! - `operation`: the order of it. `prepared`: batches and their answers. `acks`: deliveries, and the node that has them.
//! - `coordinator`: what its coordinator is asked, for as long as the call lasts. `begun`: the transaction.
//! - `pool`, `keys`: whose transaction. `ending`: how its end is told.
//!
//! Promises: whatever can be refused beforehand is refused before there is a transaction; nothing of a call is seen by
//! readers of committed records unless all of it is; what is told to be undone can never be committed; a call with a
//! key is carried out once, wherever it comes in; what is acknowledged is settled if and only if it is committed.
//! Never here: what a coordinator decides (`machines::txn`), or where it is.

mod acks;
mod begun;
mod coordinator;
mod ending;
mod keys;
mod operation;
mod pool;
mod prepared;

pub use operation::{AtomicRequest, PublishAtomically, PublishedAtomically};
