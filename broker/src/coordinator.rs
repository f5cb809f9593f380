//! Coordinators: what has to be decided in one place for all brokers, by whoever leads a partition of an internal topic.
//!
//! ```text
//!  a call ─► Route ─┬─► Coordinators ─► CoordinatorHandle ─► CoordinatorActor ─► Machine (decides), log (remembers)
//!                   └─► the same call to the node that leads the key's partition
//! ```
//!
//! - [`Machine`] is all that differs between what is coordinated: what it decides, and what it writes. A kind of
//!   coordinator is a machine, the messages that its actor handles, and the calls of its protocol.
//! - [`reconcile`] keeps one coordinator for each partition that this node leads, for each leader epoch a new one:
//!   loaded from the log, served by an actor, loaded again when that has died.
//! - [`Route`] finds the coordinator of a key wherever it is, and has the topic created when it is first needed.
//!
//! Promises: what is told rests on what is committed; a coordinator knows nothing that is not in its log; one that was
//! replaced answers nothing of its past.
//! Never here: for what anything is coordinated.

mod actor;
mod answer;
mod calls;
mod coordinators;
mod create;
mod everywhere;
mod handle;
mod home;
mod life;
mod loading;
mod machine;
mod message;
mod outbox;
mod reconcile;
mod record;
mod refusal;
mod route;

pub use actor::CoordinatorActor;
pub use coordinators::Coordinators;
pub use create::InternalTopic;
pub use everywhere::{Answered, coordinated, tell_coordinated};
pub use handle::CoordinatorHandle;
pub use home::Node;
pub use machine::{Audience, Decided, Machine, Surroundings};
pub use message::{Reply, RequestTime};
pub use reconcile::reconcile;
pub use record::Record;
pub use refusal::{is_elsewhere_for_now, no_coordinator, not_available, outcome_unknown};
pub use route::{Question, Route, check_meant};
