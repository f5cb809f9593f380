//! What faults cost those who use a cluster: gaps, errors, records that are lost, doubled or out of order.
//!
//! ```text
//! load, or what reads along ──┐
//! picture of the cluster ─────┼─ events ─> measure::Felt ─> Report ─> table, JSON, JUnit
//! who injects the faults ─────┘                 │
//!                                          conditions: steady state, abort, expectations
//! ```
//!
//! - [`measure`]: pure. Events with their times go in, a report comes out; no clock, no cluster.
//! - [`condition`], [`scenario`]: what may be said about a run, and a whole run as a file.
//! - [`report`]: the report as JSON and as JUnit has it.
//! - [`Session`]: the driver: a load of its own or a topic and a group to read along, and the cluster's picture.
//!
//! Never here: injecting a fault. Who does says so by [`Session::fault_begins`] and [`Session::fault_ended`].

pub mod condition;
mod load;
pub mod measure;
mod members;
mod observer;
mod reading;
mod recorder;
pub mod report;
pub mod scenario;
mod session;

pub use load::LoadConfig;
pub use reading::WatchConfig;
pub use session::{Ending, Session, SessionError, Source};
