//! Coordinators, of groups.

use crate::coordinator::{CoordinatorActor, CoordinatorHandle, Coordinators, Route};
use troupe_machines::group::Groups;

pub type GroupActor = CoordinatorActor<Groups>;
pub type GroupHandle = CoordinatorHandle<Groups>;
pub type GroupCoordinators = Coordinators<Groups>;
pub type GroupRoute = Route<Groups>;
