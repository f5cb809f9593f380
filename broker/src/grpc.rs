//! gRPC frames by hand, for the calls that carry batches: a request is read as a rope that is never
//! joined, a response's payload goes out as it lies in memory. Everything else uses tonic's codec.

mod acks;
mod answer_writer;
mod answers;
mod arrival;
mod as_of;
mod body;
mod chaos_service;
mod cleaning;
mod cluster_service;
mod commit_service;
mod config_service;
mod counted;
mod delivery_service;
mod demand;
mod event_bus_messages;
mod event_bus_service;
mod group_service;
mod handover;
mod health_service;
mod intake;
mod log_dirs;
mod log_service;
mod message;
mod metadata_service;
mod node_faults;
mod numbers;
mod placement_service;
mod reassignment_service;
mod receipt;
mod redirects;
mod replication_service;
mod routes;
mod topic_service;
mod transaction_admin;
mod transaction_markers;
mod transaction_service;
mod while_paused;

pub use counted::Counted;
pub use intake::{Intake, IntakeLayer};
pub use redirects::Redirects;
pub use routes::{AdminServices, BrokerServices, ControllerServices};
pub use while_paused::serve_while_paused;
