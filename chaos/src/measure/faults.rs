//! One fault: whom it hit, and what it cost.
//!
//! ```text
//!   at            until                        whole
//!   |-- the fault --|                            |
//!   |--- new leader ---|                         |
//!   |------------- whole again ------------------|
//!      gaps that overlap with this are its gaps
//! ```
//! A gap that several faults share is told of each of them.

use super::{ClusterState, Gap, Place, Role, Victim};
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct FaultRecord {
    /// In words of the command line: `pause`.
    pub kind: String,
    /// An address, or what else says whom it hit.
    pub whom: String,
    pub role: Role,
    pub at: Duration,
    /// None: it goes on.
    pub until: Option<Duration>,
    /// Why it was not injected, or why that is not known.
    pub error: Option<String>,
    /// From its beginning until all that the victim led was led again by others, or by itself in a new epoch. None: it led
    /// nothing, or has kept it.
    pub new_leader_after: Option<Duration>,
    /// From its beginning until all were there and in sync, and it was over.
    pub whole_after: Option<Duration>,
    pub ack_gap: Option<(Place, Gap)>,
    pub delivery_gap: Option<(Place, Gap)>,
    /// What the victim led and nobody has taken over yet.
    leads: Vec<(Place, u32)>,
    /// When it was whole again.
    over: Option<Duration>,
}

impl FaultRecord {
    pub fn new(
        at: Duration,
        kind: String,
        whom: String,
        victim: &Victim,
        state: &ClusterState,
    ) -> FaultRecord {
        FaultRecord {
            kind,
            whom,
            role: victim.role(state),
            at,
            until: None,
            error: None,
            new_leader_after: None,
            whole_after: None,
            ack_gap: None,
            delivery_gap: None,
            leads: victim.leads(state),
            over: None,
        }
    }

    pub fn ended(&mut self, at: Duration, error: Option<String>) {
        self.until.get_or_insert(at);
        self.error = error;
    }

    /// What was asked before the fault ended may show the cluster as it was before that.
    pub fn seen(&mut self, asked_at: Duration, told_at: Duration, state: &ClusterState) {
        if asked_at < self.at {
            return;
        }
        if !self.leads.is_empty() {
            self.leads.retain(|(place, epoch)| {
                let led = state.partitions.get(place);
                !led.is_some_and(|led| led.leader.is_some() && led.epoch != *epoch)
            });
            if self.leads.is_empty() {
                self.new_leader_after = Some(told_at.saturating_sub(self.at));
            }
        }
        let ended = self.until.is_some_and(|until| asked_at >= until);
        if ended && self.over.is_none() && state.is_whole() {
            self.over = Some(told_at);
            self.whole_after = Some(told_at.saturating_sub(self.at));
        }
    }

    /// A gap of acknowledgements, or of deliveries.
    pub fn gap(&mut self, is_ack: bool, place: &Place, gap: Gap) {
        if gap.to <= self.at || self.over.is_some_and(|over| gap.from >= over) {
            return;
        }
        let kept = if is_ack { &mut self.ack_gap } else { &mut self.delivery_gap };
        if kept.as_ref().is_none_or(|(_, known)| known.length() < gap.length()) {
            *kept = Some((place.clone(), gap));
        }
    }

    /// No gap that begins from now on is its own.
    pub fn is_over(&self, at: Duration) -> bool {
        self.over.is_some_and(|over| over <= at)
    }
}
