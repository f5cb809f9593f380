//! Transactions, through any node: who has a transactional id, what is part of its transaction, how that ends; and what
//! operators do about them.
//!
//! Never here: what a coordinator decides, and where it is.

mod administration;
mod coordination;
mod hanging;

pub use coordination::Transactions;
pub use hanging::{HangingQuery, LookedAt};
