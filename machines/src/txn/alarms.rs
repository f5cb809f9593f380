//! When something is due, by transactional id: one time each.

use crate::time::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Clone, Debug, Default)]
pub(super) struct Alarms {
    at: BTreeMap<Arc<str>, Time>,
    in_order: BTreeSet<(Time, Arc<str>)>,
}

impl Alarms {
    pub fn set(&mut self, id: &Arc<str>, at: Time) {
        if let Some(before) = self.at.insert(Arc::clone(id), at) {
            self.in_order.remove(&(before, Arc::clone(id)));
        }
        self.in_order.insert((at, Arc::clone(id)));
    }

    pub fn clear(&mut self, id: &Arc<str>) {
        if let Some(before) = self.at.remove(id) {
            self.in_order.remove(&(before, Arc::clone(id)));
        }
    }

    pub fn next(&self) -> Option<Time> {
        self.in_order.first().map(|(at, _)| *at)
    }

    pub fn due(&self, now: Time) -> Vec<Arc<str>> {
        let due = self.in_order.iter().take_while(|(at, _)| *at <= now);
        due.map(|(_, id)| Arc::clone(id)).collect()
    }
}
