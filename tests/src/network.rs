//! A network of its own for a cluster: each node in a network namespace, and between them a switch in this process
//! that can lose, hold up or slow down what goes from one to the other, each direction for itself.
//!
//! ```text
//!   tests 10.77.0.1 ── tun ─┐                ┌─ tun ── node 1  10.77.0.11
//!                           ├─ this process ─┼─ tun ── node 2  10.77.0.12
//!                           └────────────────┴─ tun ── node 3  10.77.0.13
//! ```
//!
//! No tool of the system is needed, nothing outside the namespaces is touched, and all of it goes with the process.
//! Making namespaces takes a right that not every system gives: [`in_a_namespace`] runs a test again in a process
//! that has it, or says why it cannot.

mod device;
mod switch;

pub use switch::Link;

use std::ffi::OsStr;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use switch::Switch;

/// Set in the process that runs a test in a namespace.
const INSIDE: &str = "TROUPE_TEST_INSIDE";

/// A place in the network: 0 is the tests' own, the others are nodes.
pub type Place = usize;

/// See the module.
#[derive(Clone, Debug)]
pub struct Network {
    switch: Arc<Switch>,
    /// Of nodes 1, 2, …
    namespaces: Vec<Arc<OwnedFd>>,
}

impl Network {
    /// A network for as many nodes; everything passes. Lasts as long as the process.
    ///
    /// # Errors
    /// What the system refused.
    pub fn new(nodes: usize) -> io::Result<Network> {
        let mut devices = vec![device::here(address(0))?];
        let mut namespaces = Vec::new();
        for node in 1..=nodes {
            let (device, namespace) = device::in_new_namespace(address(node))?;
            devices.push(device);
            namespaces.push(Arc::new(namespace));
        }
        let addresses = (0..=nodes).map(address).collect();
        Ok(Network { switch: Switch::start(devices, addresses), namespaces })
    }

    pub(crate) fn namespace(&self, node: i32) -> Arc<OwnedFd> {
        Arc::clone(&self.namespaces[node as usize - 1])
    }

    /// Changes how things go from one place to another.
    pub fn set(&self, from: Place, to: Place, link: Link) {
        self.switch.set(from, to, link);
    }

    /// How many packets from one place to another were lost or held up, since the beginning.
    pub fn harmed(&self, from: Place, to: Place) -> u64 {
        self.switch.harmed_on(from, to)
    }

    /// Everything passes again; how many packets were lost or held up since the last time.
    pub fn restore(&self) -> u64 {
        self.switch.restore()
    }

    /// Places of the network, the tests' own included.
    pub fn places(&self) -> std::ops::RangeInclusive<Place> {
        0..=self.namespaces.len()
    }
}

/// The address of a place.
pub(crate) fn address(place: Place) -> Ipv4Addr {
    let last = if place == 0 { 1 } else { 10 + place };
    Ipv4Addr::new(10, 77, 0, u8::try_from(last).expect("few nodes"))
}

/// True in a process with namespaces of its own: the test goes on. Else the test `name` (with the path of its module)
/// is run in such a process, to its end, and the answer is false.
///
/// # Errors
/// Why there is no such process to be had.
///
/// # Panics
/// If the test failed there.
pub fn in_a_namespace(name: &str) -> Result<bool, String> {
    if std::env::var_os(INSIDE).is_some_and(|value| value == OsStr::new(name)) {
        return Ok(true);
    }
    let executable = std::env::current_exe().expect("a test executable has a path");
    device::check().map_err(|error| format!("no tunnel device: {error}"))?;
    let mut command = Command::new(executable);
    command.args([name, "--exact", "--include-ignored", "--nocapture"]).env(INSIDE, name);
    // SAFETY: between fork and exec only system calls that are safe there.
    unsafe {
        command.pre_exec(device::leave_namespaces);
    }
    let status = command.status().map_err(|error| format!("no namespace: {error}"))?;
    assert!(status.success(), "{name} failed in its namespace: {status}");
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd;
    use std::thread;
    use std::time::Duration;

    /// A socket of a node.
    fn socket_at(network: &Network, node: i32) -> UdpSocket {
        let namespace = network.namespace(node);
        let made = thread::spawn(move || {
            // SAFETY: a system call without pointers; a namespace is a thread's own.
            assert_eq!(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }, 0);
            UdpSocket::bind((address(node as usize), 0)).unwrap()
        });
        made.join().unwrap()
    }

    /// What is sent on a cut link is lost; the other direction, and other links, are not touched.
    #[test]
    fn a_cut_link_loses_what_is_sent_and_a_restored_one_nothing() {
        const NAME: &str =
            "network::tests::a_cut_link_loses_what_is_sent_and_a_restored_one_nothing";
        match in_a_namespace(NAME) {
            Ok(true) => {}
            Ok(false) => return,
            Err(why) => return crate::skip(NAME, &why),
        }
        let network = Network::new(2).unwrap();
        let (one, two) = (socket_at(&network, 1), socket_at(&network, 2));
        let send = |from: &UdpSocket, to: &UdpSocket, what: &[u8]| {
            assert_eq!(from.send_to(what, to.local_addr().unwrap()).unwrap(), what.len());
        };
        let next = |at: &UdpSocket| {
            let mut buffer = [0; 16];
            let length = at.recv(&mut buffer).unwrap();
            buffer[..length].to_vec()
        };
        network.set(1, 2, Link::Cut);
        send(&one, &two, b"lost");
        send(&two, &one, b"back");
        assert_eq!(next(&one), b"back");
        while network.switch.harmed() == 0 {
            thread::yield_now();
        }
        let slow = Link::Slow { delay: Duration::from_millis(1), bytes_per_second: 1_000_000 };
        network.set(1, 2, slow);
        send(&one, &two, b"late");
        assert_eq!(next(&two), b"late");
        assert_eq!(network.restore(), 2);
        send(&one, &two, b"open");
        assert_eq!(next(&two), b"open");
        assert_eq!(network.restore(), 0);
    }
}
