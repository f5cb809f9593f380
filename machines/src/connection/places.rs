//! Who may have a connection.
//!
//! A listener has so many places, and so many of them for one address. Whoever has not introduced itself yet holds
//! its place by grace: if all are taken, the one that has waited longest without a word makes room for the next, so
//! that those who say nothing keep nobody out who does.
//! Promise: nobody comes in beyond the limits; nobody who has introduced himself is turned out.

use crate::time::Time;
use std::collections::BTreeMap;

/// This long a newcomer has before it may have to make room.
pub const GRACE_MS: u64 = 250;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub total: usize,
    pub per_address: usize,
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

struct Place<A> {
    address: A,
    since: Time,
    introduced: bool,
}

/// The places of a listener, by addresses of some kind.
pub struct Places<A> {
    limits: Limits,
    next: u64,
    taken: BTreeMap<PlaceId, Place<A>>,
    per_address: BTreeMap<A, usize>,
}

impl<A: Ord + Clone> Places<A> {
    pub fn new(limits: Limits) -> Self {
        Self { limits, next: 0, taken: BTreeMap::new(), per_address: BTreeMap::new() }
    }

    /// From now on. Nobody has to go for it.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    pub fn limits(&self) -> Limits {
        self.limits
    }

    pub fn taken(&self) -> usize {
        self.taken.len()
    }

    /// Somebody wants to come in.
    pub fn admit(&mut self, now: Time, address: &A) -> Admission {
        let of_address = self.per_address.get(address).copied().unwrap_or_default();
        let leaves = if of_address >= self.limits.per_address {
            match self.silent(now, |place| place.address == *address) {
                Some(silent) => Some(silent),
                None => return Admission::Refused(Full::Address),
            }
        } else if self.taken.len() >= self.limits.total {
            match self.silent(now, |_| true) {
                Some(silent) => Some(silent),
                None => return Admission::Refused(Full::Total),
            }
        } else {
            None
        };
        if let Some(silent) = leaves {
            self.leave(silent);
        }
        let id = PlaceId(self.next);
        self.next += 1;
        let place = Place { address: address.clone(), since: now, introduced: false };
        self.taken.insert(id, place);
        *self.per_address.entry(address.clone()).or_default() += 1;
        match leaves {
            Some(silent) => Admission::Instead(id, silent),
            None => Admission::Welcome(id),
        }
    }

    /// The first of those that may have to make room.
    fn silent(&self, now: Time, may: impl Fn(&Place<A>) -> bool) -> Option<PlaceId> {
        let past_grace = |place: &Place<A>| now >= place.since.plus(GRACE_MS);
        let mut by_age = self.taken.iter().take_while(|(_, place)| past_grace(place));
        by_age.find(|(_, place)| !place.introduced && may(place)).map(|(id, _)| *id)
    }

    /// It speaks our language: its place is its own.
    pub fn introduce(&mut self, id: PlaceId) {
        if let Some(place) = self.taken.get_mut(&id) {
            place.introduced = true;
        }
    }

    /// It is gone. Said twice, it changes nothing.
    pub fn leave(&mut self, id: PlaceId) {
        let Some(place) = self.taken.remove(&id) else { return };
        if let Some(count) = self.per_address.get_mut(&place.address) {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&place.address);
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
}
