//! The contract: what travels and what is stored.
//!
//! - [`v1`], [`log::v1`], [`admin::v1`], [`chaos::v1alpha1`], [`internal::v1`]: types generated from the
//!   `.proto` files beside this crate; with feature `grpc` also the tonic stubs.
//! - [`ids`]: ids, offsets and epochs as types of their own.
//! - [`error`]: every reason for which Troupe refuses, and the four answers a caller needs.
//! - [`batch`]: the record-batch codec. A segment file is a serialised [`log::v1::RecordBatches`].
//! - [`health::v1`]: gRPC's own health protocol, with its newest call.
//! - `codec`, with feature `grpc`: what cannot be read is refused as anything else is.
//! - `bulk`, with feature `grpc`: the calls that carry batches, which come as bytes.
//! - [`rope`]: bytes as the network made them, never joined.

pub mod batch;
#[cfg(feature = "grpc")]
pub mod bulk;
#[cfg(feature = "grpc")]
pub mod codec;
pub mod error;
pub mod ids;
pub mod partitioner;
pub mod rope;
pub mod wire;

/// The descriptor set of all packages, for reflection and for tests of the contract.
pub const FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/descriptor_set.bin"));

#[allow(missing_docs, clippy::all)]
mod generated {
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/troupe.v1.rs"));
        #[cfg(feature = "grpc")]
        include!(concat!(env!("OUT_DIR"), "/servers/troupe.v1.rs"));
    }
    pub mod log {
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/troupe.log.v1.rs"));
            #[cfg(feature = "grpc")]
            include!(concat!(env!("OUT_DIR"), "/servers/troupe.log.v1.rs"));
        }
    }
    pub mod admin {
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/troupe.admin.v1.rs"));
            #[cfg(feature = "grpc")]
            include!(concat!(env!("OUT_DIR"), "/servers/troupe.admin.v1.rs"));
        }
    }
    pub mod chaos {
        pub mod v1alpha1 {
            include!(concat!(env!("OUT_DIR"), "/troupe.chaos.v1alpha1.rs"));
            #[cfg(feature = "grpc")]
            include!(concat!(env!("OUT_DIR"), "/servers/troupe.chaos.v1alpha1.rs"));
        }
    }
    pub mod internal {
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/troupe.internal.v1.rs"));
            #[cfg(feature = "grpc")]
            include!(concat!(env!("OUT_DIR"), "/servers/troupe.internal.v1.rs"));
        }
    }
    pub mod health {
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/grpc.health.v1.rs"));
            #[cfg(feature = "grpc")]
            include!(concat!(env!("OUT_DIR"), "/servers/grpc.health.v1.rs"));
        }
    }
}

pub use generated::{admin, chaos, health, internal, log, v1};
