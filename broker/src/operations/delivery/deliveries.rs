//! What a door has to do for records to go out through it: it encodes them straight into its answer, when the client
//! takes one.

use super::cursor::Found;
use std::fmt;
use std::future::Future;
use troupe_proto::batch::RecordRef;

/// Where a record stands.
#[derive(Clone, Copy)]
pub struct At<'a> {
    pub topic: &'a str,
    pub partition: i32,
}

/// The records of an answer that is being filled.
pub trait Deliveries: Default + Send + 'static {
    /// Bytes of them so far.
    fn bytes(&self) -> usize;

    fn count(&self) -> usize;

    /// Adds one. Without an id nobody acknowledges it.
    fn push(
        &mut self,
        at: At<'_>,
        found: &Found<'_>,
        ack_id: Option<&dyn fmt::Display>,
        attempt: u32,
    );

    /// Bytes by which a record makes them longer, at most.
    fn bytes_of(at: At<'_>, record: &RecordRef<'_>) -> usize;
}

/// Knows how long its answer becomes by an `R` that it has beside its records.
pub trait Beside<R>: Deliveries {
    fn bytes_beside(rest: &R) -> usize;
}

/// Nobody reads any more.
#[derive(Debug, PartialEq, Eq)]
pub struct Gone;

/// The client's end of a stream of answers of which each has an `R` beside its records: for one that does not read,
/// nothing is made.
pub trait Reader<R>: Send + Sync {
    type Deliveries: Beside<R>;

    /// Returns when the client takes an answer. May be dropped and asked again: the demand stands until it is met.
    ///
    /// # Errors
    /// [`Gone`].
    fn wanted(&self) -> impl Future<Output = Result<(), Gone>> + Send;

    /// Meets the demand with one answer.
    fn send(&self, deliveries: Self::Deliveries, rest: R);

    /// Returns when nobody reads any more.
    fn closed(&self) -> impl Future<Output = ()> + Send;
}
