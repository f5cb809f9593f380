//! Coordinators, of transactions.

use crate::coordinator::{CoordinatorActor, CoordinatorHandle, Coordinators, Route};
use troupe_machines::txn::Transactions;

pub type TxnActor = CoordinatorActor<Transactions>;
pub type TxnHandle = CoordinatorHandle<Transactions>;
pub type TxnCoordinators = Coordinators<Transactions>;
pub type TxnRoute = Route<Transactions>;
