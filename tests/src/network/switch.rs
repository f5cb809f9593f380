//! What goes between the namespaces goes through here.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Larger than any packet.
const PACKET: usize = 64 << 10;
/// What a slow link holds; the rest is lost, as on a real one.
const QUEUE: usize = 1 << 20;

/// How things go from one place to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// At once.
    Open,
    /// Not at all, and nobody is told.
    Cut,
    /// So much later, and so many bytes a second.
    Slow { delay: Duration, bytes_per_second: u32 },
}

#[derive(Debug)]
pub struct Switch {
    devices: Vec<File>,
    addresses: Vec<Ipv4Addr>,
    state: Mutex<State>,
    /// Something is due earlier than what was waited for.
    sooner: Condvar,
}

#[derive(Debug)]
struct State {
    /// By from and to.
    links: Vec<Vec<Line>>,
    late: BinaryHeap<Reverse<Late>>,
    number: u64,
    /// Packets lost or held up.
    harmed: u64,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    link: Link,
    /// Until then it carries what came before.
    busy_until: Instant,
    held: usize,
    /// Packets lost or held up, since the beginning.
    harmed: u64,
}

/// Ordered by when it is due; what is due together, by when it came.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Late {
    due: Instant,
    number: u64,
    from: usize,
    to: usize,
    packet: Vec<u8>,
}

impl Switch {
    pub fn start(devices: Vec<File>, addresses: Vec<Ipv4Addr>) -> Arc<Switch> {
        let open = Line { link: Link::Open, busy_until: Instant::now(), held: 0, harmed: 0 };
        let links = vec![vec![open; devices.len()]; devices.len()];
        let state = State { links, late: BinaryHeap::new(), number: 0, harmed: 0 };
        let (state, sooner) = (Mutex::new(state), Condvar::new());
        let switch = Arc::new(Switch { devices, addresses, state, sooner });
        for from in 0..switch.devices.len() {
            let switch = Arc::clone(&switch);
            thread::spawn(move || switch.take_from(from));
        }
        let late = Arc::clone(&switch);
        thread::spawn(move || late.send_late());
        switch
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set(&self, from: usize, to: usize, link: Link) {
        self.state().links[from][to].link = link;
    }

    pub fn restore(&self) -> u64 {
        let mut state = self.state();
        state.links.iter_mut().flatten().for_each(|line| line.link = Link::Open);
        std::mem::take(&mut state.harmed)
    }

    /// Packets of one link, lost or held up since the beginning.
    pub fn harmed_on(&self, from: usize, to: usize) -> u64 {
        self.state().links[from][to].harmed
    }

    #[cfg(test)]
    pub fn harmed(&self) -> u64 {
        self.state().harmed
    }

    fn take_from(&self, from: usize) {
        let mut buffer = vec![0; PACKET];
        while let Ok(length) = (&self.devices[from]).read(&mut buffer) {
            let packet = &buffer[..length];
            // IPv4's header: the destination stands at 16. What else there is (IPv6's own talk) goes nowhere.
            let Some(Ok(to)) = packet.get(16..20).map(<[u8; 4]>::try_from) else { continue };
            let to = Ipv4Addr::from(to);
            if let Some(to) = self.addresses.iter().position(|address| *address == to) {
                self.forward(from, to, packet);
            }
        }
    }

    fn forward(&self, from: usize, to: usize, packet: &[u8]) {
        {
            let mut guard = self.state();
            let state = &mut *guard;
            let line = &mut state.links[from][to];
            match line.link {
                Link::Cut => {
                    state.harmed += 1;
                    line.harmed += 1;
                    return;
                }
                // What was held up goes first.
                Link::Open if line.held == 0 => {}
                Link::Open | Link::Slow { .. } => {
                    state.harmed += 1;
                    line.harmed += 1;
                    if line.held + packet.len() <= QUEUE {
                        let due = line.due(packet.len());
                        line.held += packet.len();
                        state.number += 1;
                        let (number, packet) = (state.number, packet.to_vec());
                        state.late.push(Reverse(Late { due, number, from, to, packet }));
                        self.sooner.notify_one();
                    }
                    return;
                }
            }
        }
        self.put(to, packet);
    }

    fn put(&self, to: usize, packet: &[u8]) {
        // A device takes a packet or has no room for it: then it is lost, as on any network.
        let _ = (&self.devices[to]).write(packet);
    }

    fn send_late(&self) {
        let mut state = self.state();
        loop {
            let now = Instant::now();
            match state.late.peek().map(|Reverse(late)| late.due) {
                Some(due) if due <= now => {
                    let Some(Reverse(late)) = state.late.pop() else { continue };
                    let line = &mut state.links[late.from][late.to];
                    line.held -= late.packet.len();
                    let lost = line.link == Link::Cut;
                    drop(state);
                    if !lost {
                        self.put(late.to, &late.packet);
                    }
                    state = self.state();
                }
                due => {
                    let wait = due.map_or(Duration::from_secs(60), |due| due - now);
                    let waited = self.sooner.wait_timeout(state, wait);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }
}

impl Line {
    fn due(&mut self, length: usize) -> Instant {
        let now = Instant::now();
        let (delay, rate) = match self.link {
            Link::Slow { delay, bytes_per_second } => (delay, bytes_per_second),
            Link::Open | Link::Cut => (Duration::ZERO, u32::MAX),
        };
        let takes = Duration::from_secs_f64(length as f64 / f64::from(rate.max(1)));
        self.busy_until = self.busy_until.max(now) + takes;
        // Behind what was held up longer before the link was opened again.
        self.busy_until + delay
    }
}
