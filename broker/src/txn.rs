//! Transactions: what differs for them among coordinators, and how partitions hear of what was decided.
//!
//! ```text
//!  a call ──► TxnRoute ─► TxnHandle ─► TxnActor (requests) ─► Transactions (decides)
//!  a partition ─► Gate ──┘                 │ Markers: decided, and committed
//!                                          ▼
//!                            Outbound ─► MarkerSender ─┬─► MarkerReceiver ─► partitions, coordinators of groups
//!                                          ▲           └─► the same, on another node
//!                                          └── the word that it is written
//! ```
//!
//! - `machine`: [`Transactions`](troupe_machines::txn::Transactions) as a machine of [`crate::coordinator`]; `markers`:
//!   what is told of its decisions.
//! - `message`, and who handles them: `requests`; `waiting`: what comes before its turn. `handle` and `questions`: how a
//!   coordinator is asked through any node.
//! - `outbound`, `sender`, `ways`, `receiver`: markers on their way. `partitions`, `groups`: whom they are for.
//! - `gate`: the leader of a partition makes it part of a transaction. `producers`: what a leader knows of them.
//!
//! Promises: a partition is told only what is committed in `__transaction_state`; a word that a marker is written
//! reaches the life of the coordinator that sent it, or none.
//! Never here: a rule of transactions.

mod aliases;
mod gate;
mod groups;
mod handle;
mod listed;
mod machine;
mod markers;
mod message;
mod outbound;
mod partitions;
mod producers;
mod questions;
mod receiver;
mod requests;
mod sender;
mod settings;
mod waiting;
mod ways;
mod wire;

pub use aliases::{TxnCoordinators, TxnHandle, TxnRoute};
pub use gate::Gate;
pub use listed::{Filter, ListedTxn, list_here, list_there};
pub use message::{AddTo, Described, Initialise, OF_NODES};
pub use partitions::producers_here;
pub use producers::{abort_at, producers_at};
pub use questions::Ids;
pub use receiver::MarkerReceiver;
pub use sender::MarkerSender;
pub use settings::{settings, txn_route};
pub use wire::{producer, state_from_wire, state_to_wire};
