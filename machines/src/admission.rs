//! Which batch may be worked on next, when there are more than the node can carry.
//!
//! A node that takes in whatever comes answers everybody late: what waits for its disks and its followers waits
//! behind everything that came before. So only so many bytes are under way at once; what is over that waits where it
//! came from, and is let in flow by flow.
//!
//! ```text
//!   flow a  ▇▇▇▇▇ ─┐                       ┌─► answered
//!   flow b  ▇▇▇   ─┼─► limit: ▇▇▇▇ ────────┤
//!   flow c  ▁     ─┘   c first: it seldom asks
//! ```
//!
//! - *Whose turn*: weighted fair queueing (Demers, Keshav, Shenker 1989) with equal weights, by bytes. Virtual time goes
//!   on as if all flows that wait were served at once, each at its share; a batch's tag is when it would be through by
//!   then; the lowest goes first. A flow that asks for less than its share is always among the next.
//!   What is little goes beside what is under way, and while the next waits for room, a little ahead of its turn.
//! - *How much*: the limit follows what the node carries. If answers take longer than the target on average, what is under
//!   way waits in a queue, and the limit falls; if flows had to wait although answers came quickly, it grows. What an
//!   answer takes without any queue is tried out now and then, as BBR tries out a round trip (Cardwell et al. 2016): for a
//!   moment, only the least is let in. A disk or a follower that is far away takes that long for whatever it is given.
//!   All nodes try that out at the same time, or each would find the queues of the others, and bear more for it.
//!   After answers that took far too long the limit is halved, and then grows slowly where several flows wait, as TCP's
//!   after a loss: what a disk takes in for a while before it stalls is not tried out every second.
//! - *At least*: a flow that is alone keeps as much under way as it needs not to stand still. Where several wait, all of
//!   them share much less, or each would wait behind what all others need.
//! - What is not answered although what came [`STUCK_MS`] later is, waits for something other than its turn (a follower
//!   that is gone, say) and no longer counts: it must not keep out what would be answered at once. The same if nothing at
//!   all is answered for [`SILENT_MS`].
//!
//! Promises: a flow's batches are let in in their order; each flow gets its share, whatever the others ask for;
//! there is always one under way if one waits.

use crate::time::Time;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The least that a batch counts for among flows: small ones cost more than their bytes.
const LEAST_COST: u64 = 1 << 10;
/// What goes beside the others.
const LITTLE: u64 = 4 << 10;
/// So far ahead of its turn, where the next has no room.
const LITTLE_AHEAD: u64 = 64 << 10;
/// Who is overtaken by so much does not wait for its turn.
pub const STUCK_MS: u64 = 500;
/// After this time without any answer, others are tried.
pub const SILENT_MS: u64 = 2_000;
/// Answers are looked at together for so long.
const WINDOW_MS: u64 = 100;
/// How often it is tried out what an answer takes at least, while somebody waits: when the time is a multiple of this.
const PROBE_EVERY_MS: u64 = 10_000;
/// Twice what an answer takes at least is borne, up to so many times the target.
const FAR: u64 = 16;
/// Flows that are remembered although they do not wait, before it is looked which need not be.
const FLOWS_KEPT: usize = 64;

/// Where the limit may go, and what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The least where several flows wait.
    pub least_bytes: u64,
    /// The least where one does.
    pub least_alone_bytes: u64,
    pub most_bytes: u64,
    /// What answers take on average, at most; longer where they are never quicker than half of it.
    pub target_ms: u64,
}

/// Batches that are to be let in in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowId(pub u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// Among those that wait: by tag.
type Place = (u64, Ticket);

#[derive(Clone, Copy)]
struct Asked {
    flow: FlowId,
    place: Place,
    bytes: u64,
    /// Since when it is under way.
    since: Option<Time>,
    /// Among the bytes under way.
    counts: bool,
}

/// A flow, as long as others have to be served before it may begin anew.
#[derive(Default)]
struct Flow {
    last_tag: u64,
    waiting: usize,
    /// Of those, not little.
    large: usize,
}

pub struct Admission {
    bounds: Bounds,
    limit: u64,
    /// Much more was too much, when it was tried last.
    careful_above: u64,
    /// Bytes under way.
    under_way: u64,
    next_ticket: u64,
    tickets: BTreeMap<Ticket, Asked>,
    /// Those under way, as they were let in.
    by_age: VecDeque<(Time, Ticket)>,
    waiting: BTreeSet<Place>,
    /// Of those, little ones with nothing large of their flow before them.
    little: BTreeSet<Place>,
    virtual_time: u64,
    /// Empty when nobody waits.
    flows: BTreeMap<FlowId, Flow>,
    /// Flows that wait.
    backlogged: u64,
    /// When the latest of those was let in that have been answered, and when the last was answered.
    answered_since: Time,
    last_answer: Time,
    /// What an answer takes where nothing waits.
    least_ms: u64,
    window: Window,
    probe: Option<Probe>,
    next_probe: Time,
}

/// What has been seen since the limit was last looked at.
struct Window {
    begin: Time,
    answers: u64,
    took_ms: u64,
    /// As many flows at once.
    waited: u64,
}

/// Since when only the least is let in, and the quickest answer to what was let in since.
struct Probe {
    begin: Time,
    /// The least.
    limit: u64,
    quickest_ms: Option<u64>,
    /// In an earlier window.
    answered: bool,
}

impl Window {
    fn new(begin: Time) -> Window {
        Window { begin, answers: 0, took_ms: 0, waited: 0 }
    }
}

impl Admission {
    /// Of the time it is asked for that that of other nodes is about the same.
    pub fn new(now: Time, bounds: Bounds) -> Admission {
        Admission {
            bounds,
            limit: (bounds.most_bytes / 16).max(bounds.least_alone_bytes),
            careful_above: u64::MAX,
            under_way: 0,
            next_ticket: 0,
            tickets: BTreeMap::new(),
            by_age: VecDeque::new(),
            waiting: BTreeSet::new(),
            little: BTreeSet::new(),
            virtual_time: 0,
            flows: BTreeMap::new(),
            backlogged: 0,
            answered_since: now,
            last_answer: now,
            least_ms: 0,
            window: Window::new(now),
            probe: None,
            next_probe: now,
        }
    }

    pub fn limit(&self) -> u64 {
        self.limit
    }

    pub fn under_way(&self) -> u64 {
        self.under_way
    }

    /// A batch wants in; [`Admission::admit`] says when.
    pub fn ask(&mut self, flow: FlowId, bytes: u64) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let known = self.flows.entry(flow).or_default();
        known.last_tag = self.virtual_time.max(known.last_tag).saturating_add(cost(bytes));
        known.waiting += 1;
        known.large += usize::from(bytes > LITTLE);
        let overtakes = known.large == 0;
        self.backlogged += u64::from(known.waiting == 1);
        let place = (known.last_tag, ticket);
        self.tickets.insert(ticket, Asked { flow, place, bytes, since: None, counts: false });
        self.waiting.insert(place);
        if overtakes {
            self.little.insert(place);
        }
        ticket
    }

    /// It has been answered, or nobody wants it any more.
    pub fn leave(&mut self, now: Time, ticket: Ticket) {
        let Some(asked) = self.tickets.remove(&ticket) else { return };
        match asked.since {
            None => {
                self.waits_no_more(&asked);
                self.forget_flows();
            }
            Some(since) => {
                if asked.counts {
                    self.under_way -= asked.bytes;
                }
                self.last_answer = now;
                self.answered_since = self.answered_since.max(since);
                let took = now.0.saturating_sub(since.0);
                self.window.answers += 1;
                self.window.took_ms += took;
                if let Some(probe) = self.probe.as_mut().filter(|probe| since >= probe.begin) {
                    probe.quickest_ms = Some(probe.quickest_ms.unwrap_or(took).min(took));
                }
            }
        }
        let waits = |(_, ticket): &(Time, Ticket)| !self.tickets.contains_key(ticket);
        while self.by_age.front().is_some_and(waits) {
            self.by_age.pop_front();
        }
        self.adjust(now);
    }

    /// Those that may go on now.
    pub fn admit(&mut self, now: Time) -> Vec<Ticket> {
        self.give_up_stuck(now);
        let limit = self.probe.as_ref().map_or(self.limit, |probe| probe.limit);
        let mut admitted = Vec::new();
        while let Some(ticket) = self.next_within(limit) {
            let Some(asked) = self.tickets.get_mut(&ticket) else { break };
            asked.since = Some(now);
            asked.counts = true;
            let asked = *asked;
            if self.under_way == 0 {
                self.last_answer = now;
            }
            self.under_way += asked.bytes;
            self.by_age.push_back((now, ticket));
            self.virtual_time += cost(asked.bytes) / self.backlogged.max(1);
            self.waits_no_more(&asked);
            admitted.push(ticket);
        }
        self.forget_flows();
        admitted
    }

    /// Whose turn it is, if there is room; else one for which there is, and which takes nothing from anybody.
    fn next_within(&mut self, limit: u64) -> Option<Ticket> {
        let fits = |ticket: &Ticket| {
            let bytes = self.tickets.get(ticket).map_or(0, |asked| asked.bytes);
            self.under_way == 0 || self.under_way + bytes <= room_for(bytes, limit)
        };
        let (_, next) = self.waiting.first().copied()?;
        if fits(&next) {
            return Some(next);
        }
        let little = self.little.first().copied();
        let little = little.filter(|(tag, _)| *tag <= self.virtual_time + LITTLE_AHEAD);
        let little = little.map(|(_, ticket)| ticket).filter(fits);
        self.window.waited = self.window.waited.max(self.backlogged);
        little
    }

    /// One of its flow's batches less.
    fn waits_no_more(&mut self, asked: &Asked) {
        self.waiting.remove(&asked.place);
        self.little.remove(&asked.place);
        if let Some(flow) = self.flows.get_mut(&asked.flow) {
            flow.waiting -= 1;
            flow.large -= usize::from(asked.bytes > LITTLE);
            self.backlogged -= u64::from(flow.waiting == 0);
        }
    }

    /// Without anybody who waits, nobody has had more than his share.
    fn forget_flows(&mut self) {
        if self.waiting.is_empty() {
            self.flows.clear();
            self.virtual_time = 0;
        } else if self.flows.len() > 2 * self.waiting.len() + FLOWS_KEPT {
            let now = self.virtual_time;
            self.flows.retain(|_, flow| flow.waiting > 0 || flow.last_tag > now);
        }
    }

    fn give_up_stuck(&mut self, now: Time) {
        while let Some((since, ticket)) = self.by_age.front().copied() {
            let overtaken = self.answered_since >= since.plus(STUCK_MS);
            let silent = now >= since.max(self.last_answer).plus(SILENT_MS);
            if !(overtaken || silent) {
                return;
            }
            self.by_age.pop_front();
            if let Some(asked) = self.tickets.get_mut(&ticket).filter(|asked| asked.counts) {
                asked.counts = false;
                self.under_way -= asked.bytes;
            }
        }
    }

    fn adjust(&mut self, now: Time) {
        if now < self.window.begin.plus(WINDOW_MS) {
            return;
        }
        let Window { answers, took_ms, waited, .. } = self.window;
        self.window = Window::new(now);
        if self.probe.is_some() {
            self.end_probe(now);
            return;
        }
        if waited > 0 && now >= self.next_probe {
            let limit = self.least_among(waited);
            self.probe = Some(Probe { begin: now, limit, quickest_ms: None, answered: false });
            return;
        }
        let Some(mean) = took_ms.checked_div(answers) else { return };
        let target = self.bounds.target_ms;
        let target = (2 * self.least_ms).clamp(target, target * FAR);
        if mean > 4 * target {
            self.limit /= 2;
            self.careful_above = self.limit;
        } else if mean > target {
            self.limit -= self.limit / 8;
        } else if waited > 1 && self.limit >= self.careful_above {
            self.limit += self.limit / 64;
        } else if waited > 0 {
            self.limit += self.limit / 8;
        }
        self.limit = self.limit.clamp(self.least_among(waited), self.bounds.most_bytes);
    }

    /// Where so many flows had to wait.
    fn least_among(&self, waited: u64) -> u64 {
        if waited > 1 { self.bounds.least_bytes } else { self.bounds.least_alone_bytes }
    }

    /// A window after something has been answered that was let in since: other nodes may need that long to have done
    /// with their queues.
    fn end_probe(&mut self, now: Time) {
        let Some(probe) = &mut self.probe else { return };
        if let Some(quickest) = probe.quickest_ms
            && std::mem::replace(&mut probe.answered, true)
        {
            self.least_ms = quickest;
            self.probe = None;
            self.next_probe = Time((now.0 / PROBE_EVERY_MS + 1) * PROBE_EVERY_MS);
        }
    }
}

/// What is little goes beside what is under way: nobody waits longer for that.
fn room_for(bytes: u64, limit: u64) -> u64 {
    if bytes <= LITTLE.max(limit / 64) { limit + limit / 8 } else { limit }
}

fn cost(bytes: u64) -> u64 {
    bytes.max(LEAST_COST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1 << 10;
    const BOUNDS: Bounds = Bounds {
        least_bytes: 256 * KIB,
        least_alone_bytes: 512 * KIB,
        most_bytes: 4096 * KIB,
        target_ms: 50,
    };

    fn admission() -> Admission {
        Admission::new(Time(0), BOUNDS)
    }

    /// A node that carries so much, first come, first served, and flows that want more. Returns the bytes that each
    /// got, and the longest wait of the last one, which asks for little.
    fn overload(greedy: u64, batch: u64, millis: u64) -> (Vec<u64>, u64) {
        let (mut admission, carries) = (admission(), 100 * KIB);
        let (mut served, mut disk) = (vec![0; greedy as usize], VecDeque::new());
        let mut waiting = vec![0; greedy as usize];
        let mut asked = BTreeMap::new();
        let (mut worst, mut budget) = (0, 0);
        for now in (0..millis).map(Time) {
            for flow in (0..greedy).map(FlowId) {
                let mine = &mut waiting[flow.0 as usize];
                for _ in *mine..5 {
                    asked.insert(admission.ask(flow, batch), (flow, now));
                    *mine += 1;
                }
            }
            if now.0 % 20 == 0 {
                asked.insert(admission.ask(FlowId(greedy), 100), (FlowId(greedy), now));
            }
            for ticket in admission.admit(now) {
                let (flow, _) = asked[&ticket];
                disk.push_back((ticket, if flow.0 < greedy { batch } else { 100 }));
            }
            budget += carries;
            while disk.front().is_some_and(|(_, bytes)| *bytes <= budget) {
                let Some((ticket, bytes)) = disk.pop_front() else { break };
                budget -= bytes;
                let (flow, since) = asked.remove(&ticket).unwrap();
                if flow.0 < greedy {
                    served[flow.0 as usize] += bytes;
                    waiting[flow.0 as usize] -= 1;
                } else if now.0 > millis / 2 {
                    worst = worst.max(now.0 - since.0);
                }
                admission.leave(now, ticket);
            }
            if disk.is_empty() {
                budget = 0;
            }
        }
        (served, worst)
    }

    #[test]
    fn a_flow_that_asks_for_little_is_answered_soon_however_many_ask_for_much() {
        for greedy in [1, 4, 24, 200] {
            let (served, worst) = overload(greedy, 256 * KIB, 4_000);
            assert!(worst <= 100, "{greedy} greedy flows: {worst} ms");
            let all: u64 = served.iter().sum();
            // What the node carries is used.
            assert!(all >= 4_000 * 90 * KIB, "{all}");
        }
    }

    #[test]
    fn greedy_flows_get_the_same_share() {
        let (served, _) = overload(10, 256 * KIB, 10_000);
        let (least, most) = (served.iter().min().unwrap(), served.iter().max().unwrap());
        assert!(most - least <= 2 * 256 * KIB, "{served:?}");
    }

    #[test]
    fn a_flow_of_large_batches_gets_no_more_than_one_of_small_ones() {
        let mut admission = admission();
        let mut sizes = BTreeMap::new();
        for _ in 0..2_000 {
            sizes.insert(admission.ask(FlowId(1), 256 * KIB), 0);
        }
        for _ in 0..40_000 {
            sizes.insert(admission.ask(FlowId(2), 8 * KIB), 1);
        }
        let mut got = [0, 0];
        for _ in 0..100 {
            for ticket in admission.admit(Time(1)) {
                let flow = sizes[&ticket];
                got[flow] += [256 * KIB, 8 * KIB][flow];
                admission.leave(Time(1), ticket);
            }
        }
        assert!(got[0].abs_diff(got[1]) <= 600 * KIB, "{got:?}");
    }

    #[test]
    fn a_batch_larger_than_the_limit_goes_alone() {
        let mut admission = admission();
        let large = admission.ask(FlowId(1), 1 << 30);
        assert_eq!(admission.admit(Time(0)), [large]);
        let next = admission.ask(FlowId(2), 1);
        assert!(admission.admit(Time(0)).is_empty());
        admission.leave(Time(0), large);
        assert_eq!(admission.admit(Time(0)), [next]);
    }

    #[test]
    fn a_little_batch_does_not_wait_for_room() {
        let mut admission = admission();
        let limit = admission.limit();
        let all = admission.ask(FlowId(1), limit);
        assert_eq!(admission.admit(Time(0)), [all]);
        let little = admission.ask(FlowId(2), 100);
        assert_eq!(admission.admit(Time(0)), [little]);
        let large = admission.ask(FlowId(3), limit / 2);
        assert!(admission.admit(Time(0)).is_empty());
        // nor do many of them take more than a part of it
        let many = (0..1_000).map(|_| admission.ask(FlowId(2), limit / 64)).collect::<Vec<_>>();
        let admitted = admission.admit(Time(0)).len();
        assert!(admitted <= 8 && many.len() > admitted, "{admitted}");
        admission.leave(Time(0), all);
        assert!(admission.admit(Time(0)).contains(&large));
    }

    /// Or it would wait for the slowest answer before its own.
    #[test]
    fn a_little_batch_does_not_wait_behind_one_that_waits_for_room_unless_its_own_flow_sent_it() {
        let mut admission = admission();
        let limit = admission.limit();
        let all = admission.ask(FlowId(1), limit);
        let large = admission.ask(FlowId(1), 1_000 * LEAST_COST);
        assert_eq!(admission.admit(Time(0)), [all]);
        let [own, other, next] = [1, 2, 2].map(|flow| admission.ask(FlowId(flow), 100));
        assert_eq!(admission.admit(Time(0)), [other, next]);
        let mut ahead = 0;
        loop {
            let ticket = admission.ask(FlowId(3), 1);
            if admission.admit(Time(0)) != [ticket] {
                break;
            }
            admission.leave(Time(0), ticket);
            ahead += 1;
        }
        // Then as much has been let in of flow 3 as the large one is.
        assert!((900..1_100).contains(&ahead), "{ahead}");
        for answered in [all, other, next] {
            admission.leave(Time(0), answered);
        }
        assert_eq!(admission.admit(Time(0)), [large]);
        admission.leave(Time(0), large);
        assert!(admission.admit(Time(0)).contains(&own));
    }

    #[test]
    fn what_is_never_answered_keeps_nobody_out_for_long() {
        let mut admission = admission();
        let stuck = admission.ask(FlowId(1), 1 << 30);
        assert_eq!(admission.admit(Time(0)), [stuck]);
        let next = admission.ask(FlowId(2), 1);
        assert!(admission.admit(Time(SILENT_MS - 1)).is_empty());
        assert_eq!(admission.admit(Time(SILENT_MS)), [next]);
        admission.leave(Time(SILENT_MS), stuck);
        assert_eq!(admission.under_way(), 1);
    }

    #[test]
    fn who_is_overtaken_by_far_does_not_count_and_who_waits_in_a_long_queue_does() {
        let mut admission = admission();
        let limit = admission.limit();
        let [stuck, queued] = [1, 2].map(|flow| admission.ask(FlowId(flow), limit / 2));
        assert_eq!(admission.admit(Time(0)), [stuck, queued]);
        admission.leave(Time(STUCK_MS), queued);
        let late = admission.ask(FlowId(2), 1);
        assert_eq!(admission.admit(Time(STUCK_MS)), [late]);
        assert_eq!(admission.under_way(), limit / 2 + 1, "slow, but in its turn");
        admission.leave(Time(STUCK_MS + 1), late);
        admission.admit(Time(STUCK_MS + 1));
        assert_eq!(admission.under_way(), 0);
    }

    /// On a disk that is too slow for any limit.
    #[test]
    fn who_is_alone_may_have_more_under_way_than_several_together() {
        let least_limit = |flows| {
            let mut least = u64::MAX;
            let mut admission = admission();
            let (mut under_way, mut disk_free) = (VecDeque::new(), 0);
            for now in (0..30_000).map(Time) {
                while under_way.front().is_some_and(|(due, _)| *due <= now.0) {
                    let Some((_, ticket)) = under_way.pop_front() else { break };
                    admission.leave(now, ticket);
                }
                while admission.waiting.len() < 8 {
                    for flow in 0..flows {
                        admission.ask(FlowId(flow), 64 * KIB);
                    }
                }
                for ticket in admission.admit(now) {
                    disk_free = now.0.max(disk_free) + 20;
                    under_way.push_back((disk_free, ticket));
                }
                least = least.min(admission.limit());
            }
            least
        };
        assert_eq!(least_limit(1), BOUNDS.least_alone_bytes);
        assert!(least_limit(2) < BOUNDS.least_alone_bytes);
    }

    /// Where a disk takes its time for whatever it is given, less of it does not come back sooner.
    #[test]
    fn a_slow_disk_is_no_queue() {
        let mut admission = admission();
        let mut under_way = VecDeque::new();
        for now in (0..60_000).step_by(5).map(Time) {
            while under_way.front().is_some_and(|(due, _)| *due <= now) {
                let Some((_, ticket)) = under_way.pop_front() else { break };
                admission.leave(now, ticket);
            }
            while under_way.len() + admission.waiting.len() < 64 {
                admission.ask(FlowId(1), 64 * KIB);
                let admitted = admission.admit(now);
                if admitted.is_empty() {
                    break;
                }
                under_way.extend(admitted.into_iter().map(|ticket| (now.plus(55), ticket)));
            }
        }
        assert!(admission.limit() > 3_000 * KIB, "{}", admission.limit());
    }

    /// Or the longer a queue lasts, the longer a queue is borne.
    #[test]
    fn a_queue_that_lasts_is_not_taken_for_a_slow_disk() {
        let (_, soon) = overload(24, 64 * KIB, 4_000);
        let (_, late) = overload(24, 64 * KIB, 120_000);
        assert!(late <= soon + 20, "{soon} ms at first, {late} ms in the end");
    }

    /// Each would bear twice what the queues of the others take, and they what its own takes then.
    #[test]
    fn nodes_that_share_a_disk_do_not_take_the_queues_of_each_other_for_a_slow_disk() {
        let (carries, batch) = (100 * KIB, 64 * KIB);
        let bounds = Bounds { most_bytes: 64 << 20, ..BOUNDS };
        let mut nodes: Vec<_> = (0..3).map(|_| (Admission::new(Time(0), bounds), 0)).collect();
        let (mut disk, mut budget) = (VecDeque::new(), 0);
        let (mut answers, mut took) = (0, 0);
        for now in (0..120_000).map(Time) {
            for (number, (admission, asked)) in nodes.iter_mut().enumerate() {
                let begins = 3_300 * number as u64;
                while now.0 >= begins && *asked < 400 {
                    admission.ask(FlowId(*asked % 8), batch);
                    *asked += 1;
                }
                let admitted = admission.admit(now).into_iter();
                disk.extend(admitted.map(|ticket| (number, ticket, now)));
            }
            budget += carries;
            while budget >= batch {
                let Some((number, ticket, since)) = disk.pop_front() else { break };
                budget -= batch;
                let (admission, asked) = &mut nodes[number];
                *asked -= 1;
                admission.leave(now, ticket);
                if now.0 > 60_000 {
                    answers += 1;
                    took += now.0 - since.0;
                }
            }
            budget = if disk.is_empty() { 0 } else { budget };
        }
        let mean = took / answers;
        assert!(mean <= BOUNDS.target_ms, "{mean} ms");
    }

    #[test]
    fn nothing_is_left_of_flows_that_have_ended() {
        let mut admission = admission();
        for flow in 0..100 {
            let tickets: Vec<_> = (0..3).map(|_| admission.ask(FlowId(flow), 1_000)).collect();
            admission.leave(Time(0), tickets[1]);
            assert_eq!(admission.admit(Time(0)), [tickets[0], tickets[2]]);
            admission.leave(Time(0), tickets[0]);
            admission.leave(Time(0), tickets[2]);
        }
        assert!(admission.admit(Time(0)).is_empty());
        assert_eq!(admission.under_way(), 0);
        let left = (admission.tickets.len(), admission.by_age.len(), admission.flows.len());
        assert_eq!(left, (0, 0, 0));
        assert!(admission.waiting.is_empty() && admission.backlogged == 0);
    }
}
