//! Who may have a connection.
//!
//! A listener has so many slots, and so many of them for one address. Whoever has not introduced itself yet holds
//! its slot by grace: if all are taken, the one that has waited longest without a word makes room for the next, so
//! that those who say nothing keep nobody out who does.
//!
//! Some slots are reserved for the cluster's own nodes, which replicate and forward over the same listener: without
//! them clients could take partitions out of sync by doing nothing. Who is one of them shows only in what he asks for.
//! So whoever is refused may ask once, on trial: a node's connection gets a reserved slot, any other the refusal.
//!
//! ```text
//!  admit ─► silent ─► introduced                   total - reserved, per_address of them for one address
//!    └ refused ─► on trial ─► one of our own       reserved
//!                     └─────► refused
//! ```
//!
//! Promise: there are never more than the limits, and [`TRIALS`] who are being refused; nobody who has introduced
//! himself is turned out; whatever is asked costs no more the more there are.

use crate::time::Time;
use std::collections::{BTreeMap, BTreeSet};

/// This long a newcomer has before it may have to make room.
pub const GRACE_MS: u64 = 250;
/// So many may be on trial at once.
pub const TRIALS: usize = 64;
/// One slot of so many is reserved for the cluster's own nodes; but no more than they ever need.
const RESERVED_PART: usize = 8;
const MOST_RESERVED: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub total: usize,
    pub per_address: usize,
}

impl Limits {
    /// Those of all that only the cluster's own nodes get.
    pub fn reserved(&self) -> usize {
        (self.total / RESERVED_PART).min(MOST_RESERVED)
    }
}

/// One connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SlotId(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotDecision {
    Welcome(SlotId),
    /// In the slot of another, which has to be ended.
    Instead(SlotId, SlotId),
    Refused(Full),
}

/// Which limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    Total,
    Address,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It has not introduced itself.
    Silent,
    Introduced,
    /// It is refused, unless it turns out to be one of the cluster's own.
    OnTrial,
    Own,
}

struct Slot<A> {
    address: A,
    since: Time,
    standing: Standing,
}

/// What an address has.
#[derive(Default)]
struct AddressSlots {
    taken: usize,
    silent: BTreeSet<SlotId>,
}

/// The slots of a listener, by addresses of some kind.
pub struct Slots<A> {
    limits: Limits,
    next: u64,
    slots: BTreeMap<SlotId, Slot<A>>,
    /// The ordinary slots, by address. Ids grow with time: the first of a set has waited longest.
    addresses: BTreeMap<A, AddressSlots>,
    silent: BTreeSet<SlotId>,
    trials: BTreeSet<SlotId>,
    /// Ordinary slots, and reserved ones.
    ordinary: usize,
    own: usize,
}

impl<A: Ord + Clone> Slots<A> {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            next: 0,
            slots: BTreeMap::new(),
            addresses: BTreeMap::new(),
            silent: BTreeSet::new(),
            trials: BTreeSet::new(),
            ordinary: 0,
            own: 0,
        }
    }

    /// From now on. Nobody has to go for it.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Whoever is on trial has no slot.
    pub fn taken(&self) -> usize {
        self.ordinary + self.own
    }

    /// Somebody wants to come in.
    pub fn admit(&mut self, now: Time, address: &A) -> SlotDecision {
        let of_address = self.addresses.get(address);
        let leaves =
            if of_address.map_or(0, |of_address| of_address.taken) >= self.limits.per_address {
                match of_address.and_then(|of_address| self.may_go(now, &of_address.silent)) {
                    Some(silent) => Some(silent),
                    None => return SlotDecision::Refused(Full::Address),
                }
            } else if self.ordinary >= self.limits.total - self.limits.reserved() {
                match self.may_go(now, &self.silent) {
                    Some(silent) => Some(silent),
                    None => return SlotDecision::Refused(Full::Total),
                }
            } else {
                None
            };
        if let Some(silent) = leaves {
            self.leave(silent);
        }
        let id = self.seat(now, address, Standing::Silent);
        self.ordinary += 1;
        self.silent.insert(id);
        let of_address = self.addresses.entry(address.clone()).or_default();
        of_address.taken += 1;
        of_address.silent.insert(id);
        match leaves {
            Some(silent) => SlotDecision::Instead(id, silent),
            None => SlotDecision::Welcome(id),
        }
    }

    /// Whoever was refused may show that it is one of the cluster's own; perhaps in the stead of another, whose trial
    /// is over. `None`: there are too many of them.
    pub fn try_out(&mut self, now: Time, address: &A) -> Option<(SlotId, Option<SlotId>)> {
        let leaves = match self.trials.len() >= TRIALS {
            true => Some(self.may_go(now, &self.trials)?),
            false => None,
        };
        if let Some(other) = leaves {
            self.leave(other);
        }
        let id = self.seat(now, address, Standing::OnTrial);
        self.trials.insert(id);
        Some((id, leaves))
    }

    fn seat(&mut self, now: Time, address: &A, standing: Standing) -> SlotId {
        let id = SlotId(self.next);
        self.next += 1;
        self.slots.insert(id, Slot { address: address.clone(), since: now, standing });
        id
    }

    /// The one of them that has waited longest, if that was long enough.
    fn may_go(&self, now: Time, waiting: &BTreeSet<SlotId>) -> Option<SlotId> {
        let id = *waiting.first()?;
        let since = self.slots.get(&id)?.since;
        (now >= since.plus(GRACE_MS)).then_some(id)
    }

    /// It speaks our language: its slot is its own. False: it has none, it is on trial.
    pub fn introduce(&mut self, id: SlotId) -> bool {
        let Some(slot) = self.slots.get_mut(&id) else { return false };
        if slot.standing == Standing::Silent {
            slot.standing = Standing::Introduced;
            self.silent.remove(&id);
            if let Some(of_address) = self.addresses.get_mut(&slot.address) {
                of_address.silent.remove(&id);
            }
        }
        matches!(slot.standing, Standing::Introduced | Standing::Own)
    }

    /// It has asked for what only the cluster's own nodes ask for. False: no slot is left for them either.
    pub fn vouch(&mut self, id: SlotId) -> bool {
        let Some(slot) = self.slots.get_mut(&id) else { return false };
        if slot.standing != Standing::OnTrial {
            return true;
        }
        if self.own >= self.limits.reserved() {
            return false;
        }
        slot.standing = Standing::Own;
        self.own += 1;
        self.trials.remove(&id)
    }

    /// It is gone. Said twice, it changes nothing.
    pub fn leave(&mut self, id: SlotId) {
        let Some(slot) = self.slots.remove(&id) else { return };
        match slot.standing {
            Standing::OnTrial => drop(self.trials.remove(&id)),
            Standing::Own => self.own -= 1,
            Standing::Silent | Standing::Introduced => {
                self.ordinary -= 1;
                self.silent.remove(&id);
                if let Some(of_address) = self.addresses.get_mut(&slot.address) {
                    of_address.taken -= 1;
                    of_address.silent.remove(&id);
                    if of_address.taken == 0 {
                        self.addresses.remove(&slot.address);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(total: usize, per_address: usize) -> Slots<&'static str> {
        Slots::new(Limits { total, per_address })
    }

    fn welcome(slots: &mut Slots<&'static str>, now: u64, address: &'static str) -> SlotId {
        match slots.admit(Time(now), &address) {
            SlotDecision::Welcome(id) => {
                slots.introduce(id);
                id
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_address_does_not_take_the_slots_of_another() {
        let mut slots = slots(3, 2);
        let first = welcome(&mut slots, 0, "a");
        welcome(&mut slots, 0, "a");
        assert_eq!(slots.admit(Time(999), &"a"), SlotDecision::Refused(Full::Address));
        welcome(&mut slots, 0, "b");
        assert_eq!(slots.admit(Time(999), &"c"), SlotDecision::Refused(Full::Total));
        slots.leave(first);
        slots.leave(first);
        assert_eq!(slots.taken(), 2);
        welcome(&mut slots, 0, "c");
        assert_eq!(slots.admit(Time(999), &"a"), SlotDecision::Refused(Full::Total));
    }

    #[test]
    fn lower_limits_turn_nobody_out_and_let_nobody_in() {
        let mut slots = slots(3, 3);
        let first = welcome(&mut slots, 0, "a");
        let second = welcome(&mut slots, 0, "b");
        slots.set_limits(Limits { total: 1, per_address: 1 });
        assert_eq!(slots.admit(Time(999), &"c"), SlotDecision::Refused(Full::Total));
        assert_eq!(slots.taken(), 2);
        slots.leave(first);
        assert_eq!(slots.admit(Time(999), &"c"), SlotDecision::Refused(Full::Total));
        slots.leave(second);
        welcome(&mut slots, 999, "c");
    }

    #[test]
    fn those_who_say_nothing_make_room_for_the_next() {
        let mut slots = slots(2, 2);
        let SlotDecision::Welcome(silent) = slots.admit(Time(0), &"a") else {
            panic!("there is room")
        };
        let speaks = welcome(&mut slots, 0, "a");
        // It has just come and may be about to speak.
        assert_eq!(slots.admit(Time(1), &"a"), SlotDecision::Refused(Full::Address));
        let SlotDecision::Instead(next, gone) = slots.admit(Time(GRACE_MS), &"a") else {
            panic!("there is one to go")
        };
        assert_eq!((gone, slots.taken()), (silent, 2));
        slots.introduce(next);
        assert_eq!(slots.admit(Time(9_999), &"a"), SlotDecision::Refused(Full::Address));
        slots.leave(speaks);
        assert_eq!(slots.taken(), 1);
    }

    /// Clients that do nothing hold all that they can get.
    #[test]
    fn the_clusters_own_nodes_come_in_however_many_clients_there_are() {
        let mut slots = slots(24, 20);
        let reserved = 3;
        for _ in 0..20 {
            welcome(&mut slots, 0, "client");
        }
        welcome(&mut slots, 0, "other");
        assert_eq!(slots.admit(Time(999), &"node"), SlotDecision::Refused(Full::Total));
        assert_eq!(slots.admit(Time(999), &"client"), SlotDecision::Refused(Full::Address));
        let try_out = |slots: &mut Slots<_>, address| slots.try_out(Time(999), &address).unwrap();
        // One that is refused has no slot, and says nothing for others.
        let (client, _) = try_out(&mut slots, "other");
        assert!(!slots.introduce(client));
        assert_eq!(slots.taken(), 21);
        slots.leave(client);
        // Also from the address of the clients.
        let own: Vec<_> = ["node", "node", "client"]
            .into_iter()
            .map(|address| {
                let (id, _) = try_out(&mut slots, address);
                assert!(slots.vouch(id) && slots.vouch(id) && slots.introduce(id));
                id
            })
            .collect();
        assert_eq!((own.len(), slots.taken()), (reserved, 24));
        let (late, _) = try_out(&mut slots, "node");
        assert!(!slots.vouch(late), "and no more than are reserved");
        slots.leave(own[0]);
        assert!(slots.vouch(late));
        assert_eq!(slots.admit(Time(9_999), &"other"), SlotDecision::Refused(Full::Total));
    }

    #[test]
    fn few_are_on_trial_at_once_and_none_of_them_for_long() {
        let mut slots = slots(1, 1);
        welcome(&mut slots, 0, "a");
        let first = slots.try_out(Time(0), &"a").unwrap().0;
        (1..TRIALS).for_each(|_| assert!(slots.try_out(Time(1), &"a").unwrap().1.is_none()));
        assert_eq!(slots.try_out(Time(2), &"a"), None);
        let (_, gone) = slots.try_out(Time(GRACE_MS), &"a").unwrap();
        assert_eq!((gone, slots.taken()), (Some(first), 1));
    }

    thread_local! {
        static COMPARED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
    }

    /// Counts how often one is compared.
    #[derive(Clone)]
    struct Counted(usize);

    impl Ord for Counted {
        fn cmp(&self, other: &Self) -> std::cmp::Ordering {
            COMPARED.set(COMPARED.get() + 1);
            self.0.cmp(&other.0)
        }
    }

    impl PartialOrd for Counted {
        fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
            Some(self.cmp(other))
        }
    }

    impl PartialEq for Counted {
        fn eq(&self, other: &Self) -> bool {
            self.cmp(other).is_eq()
        }
    }

    impl Eq for Counted {}

    /// All shards wait for who decides it.
    #[test]
    fn a_refusal_costs_no_more_the_more_there_are() {
        let mut slots = Slots::new(Limits { total: 20_000, per_address: 10_000 });
        let admit =
            |slots: &mut Slots<Counted>, address| slots.admit(Time(9_999), &Counted(address));
        for _ in 0..10_000 {
            let SlotDecision::Welcome(id) = admit(&mut slots, 0) else { panic!("there is room") };
            assert!(slots.introduce(id));
        }
        COMPARED.set(0);
        assert_eq!(admit(&mut slots, 0), SlotDecision::Refused(Full::Address));
        assert!(COMPARED.get() <= 10, "{}", COMPARED.get());
    }
}
