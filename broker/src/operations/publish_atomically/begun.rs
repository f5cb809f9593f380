//! A transaction that a call has begun.

use std::sync::Arc;
use troupe_machines::txn::Producer;

pub struct Begun {
    pub id: Arc<str>,
    pub producer: Producer,
}
