//! Records as clients get them who read no batches.
//!
//! ```text
//!  slice ─ SliceCursor ─ record ─► Deliveries ─► answer ─► Reader, when the client takes it
//!              │ ▲
//!       packed ▼ │ records
//!             Unpacker: for all readers of the node
//! ```
//!
//! Promises: for a stream that does not read, nothing is read, unpacked or encoded; what it costs is the message that
//! it has not taken.

mod cursor;
mod deliveries;
mod lost;
mod notice;
mod pace;
mod pool;
mod takes;

#[cfg(test)]
pub use cursor::tests as cursors;
pub use cursor::{Choice, Found, SliceCursor, Step};
pub use deliveries::{At, Beside, Deliveries, Gone, Reader};
pub use lost::Lost;
pub use notice::{Notice, NoticeKind};
pub use pace::{MOST_BYTES, Pace};
pub use pool::{DeliveryPool, OpenStream};
pub use takes::{REST_BYTES, Space, Takes, too_large};
