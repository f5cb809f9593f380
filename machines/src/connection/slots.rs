//! Who may have a connection.
//!
//! A listener has so many places, and so many of them for one address. Whoever has not introduced itself yet holds
//! its place by grace: if all are taken, the one that has waited longest without a word makes room for the next, so
//! that those who say nothing keep nobody out who does.
//!
//! Some places are kept for the cluster's own nodes, which replicate and forward over the same listener: without them
//! clients could take partitions out of sync by doing nothing. Who is one of them shows only in what he asks for. So
//! whoever is refused may ask once, on trial: a node's connection gets a place that is kept, any other the refusal.
//!
//! ```text
//!  admit ─► silent ─► introduced                   total - kept, per_address of them for one address
//!    └ refused ─► on trial ─► one of our own       kept
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
/// One place of so many is kept for the cluster's own nodes; but no more than they ever need.
const KEPT_PART: usize = 8;
const MOST_KEPT: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub total: usize,
    pub per_address: usize,
}

impl Limits {
    /// Places of all that only the cluster's own nodes get.
    pub fn kept(&self) -> usize {
        (self.total / KEPT_PART).min(MOST_KEPT)
    }
}

/// One connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlaceId(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Welcome(PlaceId),
    /// In the place of another, which has to be ended.
    Instead(PlaceId, PlaceId),
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

struct Place<A> {
    address: A,
    since: Time,
    standing: Standing,
}

/// What an address has.
#[derive(Default)]
struct House {
    taken: usize,
    silent: BTreeSet<PlaceId>,
}

/// The places of a listener, by addresses of some kind.
pub struct Places<A> {
    limits: Limits,
    next: u64,
    places: BTreeMap<PlaceId, Place<A>>,
    /// The ordinary places, by address. Ids grow with time: the first of a set has waited longest.
    houses: BTreeMap<A, House>,
    silent: BTreeSet<PlaceId>,
    trials: BTreeSet<PlaceId>,
    /// Ordinary places, and kept ones.
    ordinary: usize,
    own: usize,
}

impl<A: Ord + Clone> Places<A> {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            next: 0,
            places: BTreeMap::new(),
            houses: BTreeMap::new(),
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

    /// Whoever is on trial has no place.
    pub fn taken(&self) -> usize {
        self.ordinary + self.own
    }

    /// Somebody wants to come in.
    pub fn admit(&mut self, now: Time, address: &A) -> Admission {
        let house = self.houses.get(address);
        let leaves = if house.map_or(0, |house| house.taken) >= self.limits.per_address {
            match house.and_then(|house| self.may_go(now, &house.silent)) {
                Some(silent) => Some(silent),
                None => return Admission::Refused(Full::Address),
            }
        } else if self.ordinary >= self.limits.total - self.limits.kept() {
            match self.may_go(now, &self.silent) {
                Some(silent) => Some(silent),
                None => return Admission::Refused(Full::Total),
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
        let house = self.houses.entry(address.clone()).or_default();
        house.taken += 1;
        house.silent.insert(id);
        match leaves {
            Some(silent) => Admission::Instead(id, silent),
            None => Admission::Welcome(id),
        }
    }

    /// Whoever was refused may show that it is one of the cluster's own; perhaps in the stead of another, whose trial
    /// is over. `None`: there are too many of them.
    pub fn try_out(&mut self, now: Time, address: &A) -> Option<(PlaceId, Option<PlaceId>)> {
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

    fn seat(&mut self, now: Time, address: &A, standing: Standing) -> PlaceId {
        let id = PlaceId(self.next);
        self.next += 1;
        self.places.insert(id, Place { address: address.clone(), since: now, standing });
        id
    }

    /// The one of them that has waited longest, if that was long enough.
    fn may_go(&self, now: Time, waiting: &BTreeSet<PlaceId>) -> Option<PlaceId> {
        let id = *waiting.first()?;
        let since = self.places.get(&id)?.since;
        (now >= since.plus(GRACE_MS)).then_some(id)
    }

    /// It speaks our language: its place is its own. False: it has none, it is on trial.
    pub fn introduce(&mut self, id: PlaceId) -> bool {
        let Some(place) = self.places.get_mut(&id) else { return false };
        if place.standing == Standing::Silent {
            place.standing = Standing::Introduced;
            self.silent.remove(&id);
            if let Some(house) = self.houses.get_mut(&place.address) {
                house.silent.remove(&id);
            }
        }
        matches!(place.standing, Standing::Introduced | Standing::Own)
    }

    /// It has asked for what only the cluster's own nodes ask for. False: no place is left for them either.
    pub fn vouch(&mut self, id: PlaceId) -> bool {
        let Some(place) = self.places.get_mut(&id) else { return false };
        if place.standing != Standing::OnTrial {
            return true;
        }
        if self.own >= self.limits.kept() {
            return false;
        }
        place.standing = Standing::Own;
        self.own += 1;
        self.trials.remove(&id)
    }

    /// It is gone. Said twice, it changes nothing.
    pub fn leave(&mut self, id: PlaceId) {
        let Some(place) = self.places.remove(&id) else { return };
        match place.standing {
            Standing::OnTrial => drop(self.trials.remove(&id)),
            Standing::Own => self.own -= 1,
            Standing::Silent | Standing::Introduced => {
                self.ordinary -= 1;
                self.silent.remove(&id);
                if let Some(house) = self.houses.get_mut(&place.address) {
                    house.taken -= 1;
                    house.silent.remove(&id);
                    if house.taken == 0 {
                        self.houses.remove(&place.address);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(total: usize, per_address: usize) -> Places<&'static str> {
        Places::new(Limits { total, per_address })
    }

    fn welcome(places: &mut Places<&'static str>, now: u64, address: &'static str) -> PlaceId {
        match places.admit(Time(now), &address) {
            Admission::Welcome(id) => {
                places.introduce(id);
                id
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_address_does_not_take_the_places_of_another() {
        let mut places = places(3, 2);
        let first = welcome(&mut places, 0, "a");
        welcome(&mut places, 0, "a");
        assert_eq!(places.admit(Time(999), &"a"), Admission::Refused(Full::Address));
        welcome(&mut places, 0, "b");
        assert_eq!(places.admit(Time(999), &"c"), Admission::Refused(Full::Total));
        places.leave(first);
        places.leave(first);
        assert_eq!(places.taken(), 2);
        welcome(&mut places, 0, "c");
        assert_eq!(places.admit(Time(999), &"a"), Admission::Refused(Full::Total));
    }

    #[test]
    fn lower_limits_turn_nobody_out_and_let_nobody_in() {
        let mut places = places(3, 3);
        let first = welcome(&mut places, 0, "a");
        let second = welcome(&mut places, 0, "b");
        places.set_limits(Limits { total: 1, per_address: 1 });
        assert_eq!(places.admit(Time(999), &"c"), Admission::Refused(Full::Total));
        assert_eq!(places.taken(), 2);
        places.leave(first);
        assert_eq!(places.admit(Time(999), &"c"), Admission::Refused(Full::Total));
        places.leave(second);
        welcome(&mut places, 999, "c");
    }

    #[test]
    fn those_who_say_nothing_make_room_for_the_next() {
        let mut places = places(2, 2);
        let Admission::Welcome(silent) = places.admit(Time(0), &"a") else {
            panic!("there is room")
        };
        let speaks = welcome(&mut places, 0, "a");
        // It has just come and may be about to speak.
        assert_eq!(places.admit(Time(1), &"a"), Admission::Refused(Full::Address));
        let Admission::Instead(next, gone) = places.admit(Time(GRACE_MS), &"a") else {
            panic!("there is one to go")
        };
        assert_eq!((gone, places.taken()), (silent, 2));
        places.introduce(next);
        assert_eq!(places.admit(Time(9_999), &"a"), Admission::Refused(Full::Address));
        places.leave(speaks);
        assert_eq!(places.taken(), 1);
    }

    /// Clients that do nothing hold all that they can get.
    #[test]
    fn the_clusters_own_nodes_come_in_however_many_clients_there_are() {
        let mut places = places(24, 20);
        let kept = 3;
        for _ in 0..20 {
            welcome(&mut places, 0, "client");
        }
        welcome(&mut places, 0, "other");
        assert_eq!(places.admit(Time(999), &"node"), Admission::Refused(Full::Total));
        assert_eq!(places.admit(Time(999), &"client"), Admission::Refused(Full::Address));
        let try_out =
            |places: &mut Places<_>, address| places.try_out(Time(999), &address).unwrap();
        // One that is refused has no place, and says nothing for others.
        let (client, _) = try_out(&mut places, "other");
        assert!(!places.introduce(client));
        assert_eq!(places.taken(), 21);
        places.leave(client);
        // Also from the address of the clients.
        let own: Vec<_> = ["node", "node", "client"]
            .into_iter()
            .map(|address| {
                let (id, _) = try_out(&mut places, address);
                assert!(places.vouch(id) && places.vouch(id) && places.introduce(id));
                id
            })
            .collect();
        assert_eq!((own.len(), places.taken()), (kept, 24));
        let (late, _) = try_out(&mut places, "node");
        assert!(!places.vouch(late), "and no more than are kept");
        places.leave(own[0]);
        assert!(places.vouch(late));
        assert_eq!(places.admit(Time(9_999), &"other"), Admission::Refused(Full::Total));
    }

    #[test]
    fn few_are_on_trial_at_once_and_none_of_them_for_long() {
        let mut places = places(1, 1);
        welcome(&mut places, 0, "a");
        let first = places.try_out(Time(0), &"a").unwrap().0;
        (1..TRIALS).for_each(|_| assert!(places.try_out(Time(1), &"a").unwrap().1.is_none()));
        assert_eq!(places.try_out(Time(2), &"a"), None);
        let (_, gone) = places.try_out(Time(GRACE_MS), &"a").unwrap();
        assert_eq!((gone, places.taken()), (Some(first), 1));
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
        let mut places = Places::new(Limits { total: 20_000, per_address: 10_000 });
        let admit =
            |places: &mut Places<Counted>, address| places.admit(Time(9_999), &Counted(address));
        for _ in 0..10_000 {
            let Admission::Welcome(id) = admit(&mut places, 0) else { panic!("there is room") };
            assert!(places.introduce(id));
        }
        COMPARED.set(0);
        assert_eq!(admit(&mut places, 0), Admission::Refused(Full::Address));
        assert!(COMPARED.get() <= 10, "{}", COMPARED.get());
    }
}
