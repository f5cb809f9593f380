//! Where a node listens, and what others are told of it: checked before anything starts. An address that nobody can
//! reach would be found out by those who are sent there, later and elsewhere.

use super::NodeConfig;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest name that DNS knows.
const LONGEST_NAME: usize = 253;

pub(super) fn check(config: &NodeConfig, faults: &mut Vec<String>) {
    if !config.advertised_listener.is_empty()
        && let Err(fault) = check_endpoint(&config.advertised_listener)
    {
        faults.push(format!("advertised.listener: {fault}"));
    }
    check_clashes(config, faults);
    check_voters(config, faults);
}

/// Whether clients and other nodes can use this as host:port.
fn check_endpoint(text: &str) -> Result<(), String> {
    if let Some((scheme, rest)) = text.split_once("://") {
        return Err(format!("`{text}` has a scheme; write it without `{scheme}://`: `{rest}`"));
    }
    if text.contains(',') {
        return Err(format!("`{text}` is more than one address; one is told to clients"));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(format!("`{text}` has no port; write host:port"));
    };
    match port.parse::<u16>() {
        Ok(0) => return Err(format!("`{text}`: nobody can connect to port 0")),
        Ok(_) if port.bytes().all(|digit| digit.is_ascii_digit()) => {}
        _ => return Err(format!("`{text}`: `{port}` is no port; write host:port")),
    }
    check_host(host).map_err(|fault| format!("`{text}`: {fault}"))
}

fn check_host(host: &str) -> Result<(), String> {
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let address = match (bracketed, host) {
        (_, "") => return Err("the host is missing; write host:port".to_owned()),
        (_, "*") => Some(IpAddr::from(Ipv4Addr::UNSPECIFIED)),
        (Some(inside), _) => match inside.parse::<Ipv6Addr>() {
            Ok(address) => Some(address.into()),
            Err(_) => return Err(format!("`{inside}` is no IPv6 address")),
        },
        (None, _) if host.parse::<Ipv6Addr>().is_ok() => {
            return Err(format!("an IPv6 address stands in brackets: `[{host}]`"));
        }
        (None, _) => host.parse::<Ipv4Addr>().ok().map(IpAddr::from),
    };
    if address.is_some_and(|address| address.is_unspecified()) {
        return Err(format!(
            "`{host}` stands for all addresses of this machine and for none that others could connect to; \
             write a name or an address of it"
        ));
    }
    if address.is_some() {
        return Ok(());
    }
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let is_number = host.chars().all(|c| c.is_ascii_digit() || c == '.');
    if is_number || host.len() > LONGEST_NAME || !host.chars().all(is_allowed) {
        return Err(format!("`{host}` is neither a name nor an address"));
    }
    Ok(())
}

/// Listeners share their addresses between shards, so that the system would let two of them have the same.
fn check_clashes(config: &NodeConfig, faults: &mut Vec<String>) {
    let mut listeners = vec![("http.listener", config.http_listener)];
    if config.is_broker() {
        listeners.push(("listener", config.listener));
    }
    if config.is_controller() && !config.controller_voters.trim().is_empty() {
        listeners.push(("controller.listener", config.controller_listener));
    }
    for (index, (key, address)) in listeners.iter().enumerate() {
        let clash = listeners[index + 1..].iter().find(|(_, other)| overlap(*address, *other));
        if let Some((other, theirs)) = clash {
            faults.push(format!(
                "{key}: {address} is taken by {other} of {theirs}; choose another port"
            ));
        }
    }
}

fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let same_host =
        one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.port() != 0 && same_host
}

/// What is wrong with the list itself is told elsewhere.
fn check_voters(config: &NodeConfig, faults: &mut Vec<String>) {
    let voters = config.voters().unwrap_or_default();
    for voter in &voters {
        if let Err(fault) = check_endpoint(&voter.address) {
            faults.push(format!("controller.quorum.voters: {fault}"));
        }
    }
    if config.is_controller() && !voters.is_empty() && config.controller_listener.port() == 0 {
        let cause = "port 0 takes a free one, which controller.quorum.voters cannot name";
        faults.push(format!("controller.listener: {cause}"));
    }
}

impl NodeConfig {
    /// What is allowed, and most likely not meant.
    pub(crate) fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        if self.is_broker()
            && self.advertised_listener.is_empty()
            && self.listener.ip().is_unspecified()
        {
            doubts.push(format!(
                "listener is {}, and advertised.listener is not set: clients and other nodes are told to use \
                 127.0.0.1, which no other machine reaches; set it to a name or an address of this one",
                self.listener
            ));
        }
        let voters = self.voters().unwrap_or_default();
        let own = voters.iter().find(|voter| voter.node_id.0 == self.node_id);
        let port = |address: &str| address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        if let Some(own) = own
            && port(&own.address) != Some(self.controller_listener.port())
        {
            doubts.push(format!(
                "controller.quorum.voters names {} for this node, and controller.listener is {}: unless the one is \
                 forwarded to the other, no controller reaches this one",
                own.address, self.controller_listener
            ));
        }
        doubts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(set: &[&str]) -> Vec<String> {
        let set: Vec<String> = set.iter().map(|pair| (*pair).to_owned()).collect();
        NodeConfig::load(None, [], &set).map_or_else(|faults| faults.0, |_| Vec::new())
    }

    #[test]
    fn an_address_that_nobody_could_use_is_not_advertised() {
        for (address, reason) in [
            ("0.0.0.0:7070", "for none that others could connect to"),
            ("[::]:7070", "for none that others could connect to"),
            ("*:7070", "for none that others could connect to"),
            ("http://node-1:7070", "write it without `http://`: `node-1:7070`"),
            ("node-1", "has no port"),
            ("node-1:", "is no port"),
            ("node-1:0", "port 0"),
            ("node-1:70700", "is no port"),
            ("node-1:+80", "is no port"),
            (":7070", "the host is missing"),
            ("::1:7070", "in brackets"),
            ("[node]:7070", "is no IPv6 address"),
            ("256.1.1.1:7070", "neither a name nor an address"),
            ("node 1:7070", "neither a name nor an address"),
            ("node-1:7070/", "is no port"),
            ("node-1:7070,node-2:7070", "more than one"),
        ] {
            let found = faults(&[&format!("advertised.listener={address}")]);
            assert_eq!(found.len(), 1, "{address}: {found:?}");
            assert!(found[0].starts_with("advertised.listener: "), "{found:?}");
            assert!(found[0].contains(reason), "{address}: {found:?}");
        }
        for address in ["node-1:7070", "10.0.0.1:7070", "[::1]:7070", "a.b_c:1"] {
            let found = faults(&[&format!("advertised.listener={address}")]);
            assert!(found.is_empty(), "{address}: {found:?}");
        }
    }

    #[test]
    fn listeners_of_one_node_are_apart() {
        let found = faults(&["listener=127.0.0.1:7", "http.listener=0.0.0.0:7"]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].contains("http.listener: ") && found[0].contains("127.0.0.1:7"),
            "{found:?}"
        );
        let cluster = "controller.quorum.voters=1@127.0.0.1:9";
        assert_eq!(faults(&["listener=127.0.0.1:9", "controller.listener=127.0.0.1:9"]).len(), 0);
        assert_eq!(
            faults(&["listener=127.0.0.1:9", "controller.listener=127.0.0.1:9", cluster]).len(),
            1
        );
        assert!(faults(&["listener=127.0.0.1:0", "http.listener=127.0.0.1:0"]).is_empty());
        assert!(faults(&["listener=127.0.0.1:7", "http.listener=127.0.0.2:7"]).is_empty());
    }

    #[test]
    fn voters_are_where_they_can_be_reached() {
        let found = faults(&["controller.quorum.voters=1@0.0.0.0:9,2@b:9"]);
        assert!(found.len() == 1 && found[0].contains("0.0.0.0"), "{found:?}");
        let found = faults(&["controller.quorum.voters=1@a:9", "controller.listener=127.0.0.1:0"]);
        assert!(found.len() == 1 && found[0].contains("port 0"), "{found:?}");
    }

    #[test]
    fn what_is_most_likely_not_meant_is_told() {
        let doubts = |set: &[&str]| {
            let set: Vec<String> = set.iter().map(|pair| (*pair).to_owned()).collect();
            NodeConfig::load(None, [], &set).unwrap().doubts()
        };
        assert!(doubts(&[]).is_empty());
        assert_eq!(doubts(&["listener=0.0.0.0:7070"]).len(), 1);
        assert!(doubts(&["listener=0.0.0.0:7070", "advertised.listener=a:7070"]).is_empty());
        assert_eq!(doubts(&["controller.quorum.voters=1@a:9"]).len(), 1);
        assert!(doubts(&["controller.quorum.voters=1@a:7072"]).is_empty());
    }
}
