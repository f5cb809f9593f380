//! Where the nodes of one process listen.

use crate::failure::{Context, Failure};
use std::net::{SocketAddr, TcpListener};

/// From one node's ports to the next one's.
const STEP: u16 = 10;

/// The listeners of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    pub grpc: SocketAddr,
    pub http: SocketAddr,
    pub controller: SocketAddr,
}

/// The address some ports further; 0 stays 0.
pub fn above(address: SocketAddr, ports: u16) -> SocketAddr {
    let port = if address.port() == 0 { 0 } else { address.port().saturating_add(ports) };
    SocketAddr::new(address.ip(), port)
}

/// For each node a set, beginning at `grpc` and `http`. None of them is 0: a list of voters has to name them.
pub fn plan(nodes: u16, grpc: SocketAddr, http: Option<SocketAddr>) -> Result<Vec<Ports>, Failure> {
    let last = u32::from(grpc.port()) + u32::from(STEP) * u32::from(nodes);
    if last > u32::from(u16::MAX) {
        return Err(Failure::usage(format!(
            "there are no {nodes} times {STEP} ports above {grpc}"
        )));
    }
    let http = http.unwrap_or_else(|| above(grpc, 1));
    let wanted = (0..nodes).map(|node| Ports {
        grpc: above(grpc, node * STEP),
        http: above(http, node * STEP),
        controller: above(grpc, node * STEP + 2),
    });
    // All are held until all are found, so that none is found twice.
    let mut held = Vec::new();
    let mut find = |address: SocketAddr| -> Result<SocketAddr, Failure> {
        if address.port() != 0 {
            return Ok(address);
        }
        let what = || "cannot find a free port".to_owned();
        let listener = TcpListener::bind(address).with_context(what)?;
        let found = listener.local_addr().with_context(what)?;
        held.push(listener);
        Ok(found)
    };
    wanted
        .map(|ports| {
            Ok(Ports {
                grpc: find(ports.grpc)?,
                http: find(ports.http)?,
                controller: find(ports.controller)?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_node_has_its_ports_ten_above_the_one_before() {
        let ports = plan(3, address("127.0.0.1:7070"), None).unwrap();
        assert_eq!(ports[0].http, address("127.0.0.1:7071"));
        assert_eq!(ports[0].controller, address("127.0.0.1:7072"));
        assert_eq!(ports[2].grpc, address("127.0.0.1:7090"));
        assert!(plan(3, address("127.0.0.1:65530"), None).is_err());
    }

    #[test]
    fn port_0_takes_free_ones_and_none_twice() {
        let ports = plan(3, address("127.0.0.1:0"), None).unwrap();
        let all: BTreeSet<u16> = ports
            .iter()
            .flat_map(|ports| [ports.grpc, ports.http, ports.controller])
            .map(|address| address.port())
            .collect();
        assert_eq!(all.len(), 9);
        assert!(!all.contains(&0));
    }
}
