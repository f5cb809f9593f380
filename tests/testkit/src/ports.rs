//! Ports for nodes that have to be known before they listen.

use std::net::{TcpListener, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::{Mutex, PoisonError};

/// Ports below those that the kernel gives to outgoing connections: else a connection to the port of a node
/// that is down may meet itself.
const PORTS: RangeInclusive<u16> = 11_000..=31_000;

/// Ports that nobody listens on at the moment, and that are given to nobody else as long as this process lives: a node
/// that is down has its ports still when it is started again.
pub fn free_ports(count: usize) -> Vec<u16> {
    // Whoever asks, here or in another process, claims a port by the socket of datagrams of that number, which no node
    // opens.
    static CLAIMED: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());
    let mut ports = Vec::new();
    while ports.len() < count {
        let port = rand::random_range(PORTS);
        let address = ("127.0.0.1", port);
        let Ok(claim) = UdpSocket::bind(address) else { continue };
        if TcpListener::bind(address).is_ok() {
            CLAIMED.lock().unwrap_or_else(PoisonError::into_inner).push(claim);
            ports.push(port);
        }
    }
    ports
}
