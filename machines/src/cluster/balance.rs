//! Which replicas go where so that brokers carry alike, by the fewest moves.
//!
//! A [`Layout`] is what a plan begins with and ends as: sites, which are brokers by index, and partitions with their
//! replicas, the preferred leader first. What is done to it is in the files beside: [`replicas`] fills what is missing,
//! separates racks and levels how many replicas each site has, [`cheapest`] finds the same
//! for fewer moves, [`leaders`] levels who is preferred, [`bytes`] how much
//! there is to keep; [`plan`] makes a plan for a cluster of it.
//!
//! Promises, in this order: a partition never has two replicas at one site; its replicas are in as many racks as they
//! can be, or in no fewer than they were; replicas, then leaderships, are as even over the sites as the racks allow.
//! Where that is so already nothing moves, and a leadership moves before data does.
//! Never here: what is in flight, who is in sync, how fast anything is copied.

mod bytes;
mod cheapest;
mod layout;
mod leaders;
pub(super) mod plan;
mod replicas;
#[cfg(test)]
mod tests;

pub(super) use layout::{Held, Layout, Load, Role, Site};
pub(super) use replicas::Levelling;
