//! Where a node listens, and what others are told of it: checked before anything starts. An address that nobody can
//! reach would be found out by those who are sent there, later and elsewhere.
//!
//! ```text
//! listeners                      PLAINTEXT://:9092,CONTROLLER://:9093     what each of them is called, and where it is
//! listener.security.protocol.map PLAINTEXT:PLAINTEXT,…                    what it speaks: gRPC or HTTP
//! controller.listener.names      CONTROLLER                               which is not for clients
//! inter.broker.listener.name     PLAINTEXT                                by which nodes reach each other
//! advertised.listeners           PLAINTEXT://node-1:9092                  what those are told who come by it
//! ```
//!
//! Promise: the short forms (`listener`, `http.listener`, `controller.listener`, `advertised.listener`) say the same
//! in another way; nobody else asks for either.

use super::addresses::{check_endpoint, parse_listen};
use super::{ConfigFaults, NodeConfig};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

/// What is spoken on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerProtocol {
    Grpc,
    Http,
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub name: String,
    pub protocol: ListenerProtocol,
    /// Empty: all addresses of this machine.
    pub host: String,
    /// 0: a free one.
    pub port: u16,
    /// host:port that those are told who come by it; None: where it listens.
    pub advertised: Option<String>,
    /// The key that says it.
    pub key: &'static str,
}

/// All of them, by what they are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listeners {
    /// For clients and brokers; none if the node is no broker.
    pub grpc: Vec<Listener>,
    /// By which of these nodes reach each other.
    pub inter_broker: usize,
    /// For controllers, and for brokers that turn to them; None if there is nobody who could.
    pub controller: Option<Listener>,
    pub http: Listener,
}

impl Listener {
    /// The address to listen on.
    ///
    /// # Errors
    /// Nobody knows the host's name.
    pub fn resolve(&self) -> io::Result<SocketAddr> {
        if self.host.is_empty() {
            return Ok((Ipv4Addr::UNSPECIFIED, self.port).into());
        }
        if let Some(address) = self.literal() {
            return Ok(SocketAddr::new(address, self.port));
        }
        let addresses: Vec<_> = (self.host.as_str(), self.port).to_socket_addrs()?.collect();
        let first = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
        first
            .copied()
            .ok_or_else(|| io::Error::other(format!("no address of {} is known", self.host)))
    }

    /// The host, if it is an address and no name; of this machine's own name too.
    fn literal(&self) -> Option<IpAddr> {
        match self.host.as_str() {
            "" => Some(Ipv4Addr::UNSPECIFIED.into()),
            "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
            host => host.trim_start_matches('[').trim_end_matches(']').parse().ok(),
        }
    }

    fn of(key: &'static str, name: &str, address: SocketAddr) -> Listener {
        let host = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => String::new(),
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let protocol = match name {
            "HTTP" => ListenerProtocol::Http,
            _ => ListenerProtocol::Grpc,
        };
        let port = address.port();
        Listener { name: name.to_owned(), protocol, host, port, advertised: None, key }
    }

    fn shown(&self) -> String {
        let host = if self.host.is_empty() { "0.0.0.0" } else { &self.host };
        format!("{host}:{}", self.port)
    }

    fn overlaps(&self, other: &Listener) -> bool {
        let same_host = match (self.literal(), other.literal()) {
            (Some(one), Some(two)) => one == two || one.is_unspecified() || two.is_unspecified(),
            _ => self.host == other.host || self.host.is_empty() || other.host.is_empty(),
        };
        self.port == other.port && self.port != 0 && same_host
    }
}

impl NodeConfig {
    /// Where this node listens.
    ///
    /// # Errors
    /// All that is wrong with what is said of that.
    pub fn listeners(&self) -> Result<Listeners, ConfigFaults> {
        let mut faults = Vec::new();
        let named = match self.listeners.trim() {
            "" => self.short_forms(),
            _ => self.named(&mut faults),
        };
        let listeners = self.by_use(named, &mut faults);
        if let Some(listeners) = &listeners {
            check_clashes(listeners, &mut faults);
        }
        match listeners {
            Some(listeners) if faults.is_empty() => Ok(listeners),
            _ => Err(ConfigFaults(faults)),
        }
    }

    fn short_forms(&self) -> Vec<Listener> {
        let mut named = Vec::new();
        if self.is_broker() {
            let advertised = Some(self.advertised_listener.clone()).filter(|it| !it.is_empty());
            named.push(Listener { advertised, ..Listener::of("listener", "GRPC", self.listener) });
        }
        if self.is_controller() && !self.controller_voters.trim().is_empty() {
            let name = self.controller_names().next().unwrap_or("CONTROLLER").to_owned();
            let address = self.controller_listener;
            named.push(Listener { name, ..Listener::of("controller.listener", "GRPC", address) });
        }
        named
    }

    fn controller_names(&self) -> impl Iterator<Item = &str> {
        entries(&self.controller_listener_names)
    }

    /// Those that `listeners` names.
    fn named(&self, faults: &mut Vec<String>) -> Vec<Listener> {
        let mut named: Vec<Listener> = Vec::new();
        for entry in entries(&self.listeners) {
            let Some((name, address)) = entry.split_once("://") else {
                faults.push(format!("listeners: `{entry}` is not of the form NAME://host:port"));
                continue;
            };
            let name = name.to_ascii_uppercase();
            if named.iter().any(|other| other.name == name) {
                faults
                    .push(format!("listeners: {name} is there twice; each has a name of its own"));
                continue;
            }
            match (parse_listen(address), self.protocol_of(&name)) {
                (Ok((host, port)), Ok(protocol)) => {
                    let advertised = None;
                    named.push(Listener {
                        name,
                        protocol,
                        host,
                        port,
                        advertised,
                        key: "listeners",
                    });
                }
                (address, protocol) => {
                    let wrong = address.err().map(|fault| format!("listeners: {fault}"));
                    faults.extend(wrong.into_iter().chain(protocol.err()));
                }
            }
        }
        named
    }

    /// What is spoken on the listener of this name.
    fn protocol_of(&self, name: &str) -> Result<ListenerProtocol, String> {
        let mapped = entries(&self.listener_protocols)
            .filter_map(|entry| entry.split_once(':'))
            .find(|(listener, _)| listener.trim().eq_ignore_ascii_case(name))
            .map(|(_, protocol)| protocol.trim().to_ascii_uppercase());
        let is_controllers = self.controller_names().any(|other| other.eq_ignore_ascii_case(name));
        let protocol = match mapped {
            Some(protocol) => protocol,
            None if is_controllers => "GRPC".to_owned(),
            None => name.to_owned(),
        };
        match protocol.as_str() {
            "GRPC" | "PLAINTEXT" => Ok(ListenerProtocol::Grpc),
            "HTTP" => Ok(ListenerProtocol::Http),
            "SSL" | "SASL_PLAINTEXT" | "SASL_SSL" => Err(format!(
                "listeners: {name} has the protocol {protocol}, and connections are neither encrypted nor \
                 authenticated yet; use GRPC, and let only who may come reach it"
            )),
            _ => Err(format!(
                "listeners: nothing says what {name} speaks; add {name}:GRPC (or HTTP) to listener.security.protocol.map"
            )),
        }
    }

    fn by_use(&self, named: Vec<Listener>, faults: &mut Vec<String>) -> Option<Listeners> {
        let from_list = !self.listeners.trim().is_empty();
        let mut found = (Vec::new(), Vec::new(), Vec::new());
        for listener in named {
            let name = listener.name.as_str();
            let of_controllers = self.controller_names().any(|it| it.eq_ignore_ascii_case(name));
            match (listener.protocol, of_controllers && self.is_controller()) {
                (ListenerProtocol::Http, _) => found.2.push(listener),
                (ListenerProtocol::Grpc, true) => found.1.push(listener),
                (ListenerProtocol::Grpc, false) if of_controllers => faults.push(format!(
                    "listeners: {name} is for controllers (controller.listener.names), and process.roles are `{}`",
                    self.process_roles
                )),
                (ListenerProtocol::Grpc, false) if self.is_broker() => found.0.push(listener),
                (ListenerProtocol::Grpc, false) => faults.push(format!(
                    "listeners: {name} is for clients, and process.roles are `{}`; leave it out, or name it in \
                     controller.listener.names",
                    self.process_roles
                )),
            }
        }
        let (mut grpc, mut controllers, https) = found;
        if from_list && faults.is_empty() {
            self.check_uses(&grpc, &controllers, &https, faults);
        }
        self.advertise(&mut grpc, &controllers, faults);
        let inter_broker = self.inter_broker(&grpc, faults);
        let http = https.into_iter().next();
        let http =
            http.unwrap_or_else(|| Listener::of("http.listener", "HTTP", self.http_listener));
        // Nobody would come: a node alone decides for itself.
        let clustered = !self.controller_voters.trim().is_empty();
        let controller = controllers.drain(..).next().filter(|_| clustered);
        faults.is_empty().then_some(Listeners { grpc, inter_broker, controller, http })
    }

    fn check_uses(
        &self,
        grpc: &[Listener],
        controllers: &[Listener],
        https: &[Listener],
        faults: &mut Vec<String>,
    ) {
        if self.is_broker() && grpc.is_empty() {
            faults.push(
                "listeners: none of them is for clients; add one, as PLAINTEXT://:9092".to_owned(),
            );
        }
        let is_voter = self.is_controller() && !self.controller_voters.trim().is_empty();
        if is_voter && controllers.is_empty() {
            let names = &self.controller_listener_names;
            faults.push(format!(
                "listeners: none of them is for controllers; add one of controller.listener.names, which are `{names}`"
            ));
        }
        for (several, what) in [(controllers, "controllers"), (https, "HTTP")] {
            if several.len() > 1 {
                faults.push(format!(
                    "listeners: {} are for {what}; there can be one",
                    names(several)
                ));
            }
        }
    }

    /// Gives each listener what those are told who come by it.
    fn advertise(&self, grpc: &mut [Listener], controllers: &[Listener], faults: &mut Vec<String>) {
        if !self.advertised_listeners.trim().is_empty() && !self.advertised_listener.is_empty() {
            faults.push(
                "advertised.listener: advertised.listeners is set too; take one of them out"
                    .to_owned(),
            );
        }
        for entry in entries(&self.advertised_listeners) {
            let Some((name, endpoint)) = entry.split_once("://") else {
                faults.push(format!(
                    "advertised.listeners: `{entry}` is not of the form NAME://host:port"
                ));
                continue;
            };
            if let Err(fault) = check_endpoint(endpoint) {
                faults.push(format!("advertised.listeners: {fault}"));
                continue;
            }
            // Without a list there is one for clients, whatever it is called.
            let alone = self.listeners.trim().is_empty() && matches!(name, "PLAINTEXT");
            let called =
                |listener: &&mut Listener| alone || listener.name.eq_ignore_ascii_case(name);
            let of_controllers = controllers.iter().any(|it| it.name.eq_ignore_ascii_case(name));
            match grpc.iter_mut().find(called) {
                Some(listener) => listener.advertised = Some(endpoint.to_owned()),
                // Where controllers are, controller.quorum.voters says.
                None if of_controllers => {}
                None => faults.push(format!(
                    "advertised.listeners: there is no listener {name}; there are {}",
                    names(grpc)
                )),
            }
        }
    }

    fn inter_broker(&self, grpc: &[Listener], faults: &mut Vec<String>) -> usize {
        let wanted = self.inter_broker_listener.trim();
        if wanted.is_empty() || !self.is_broker() {
            return 0;
        }
        let found = grpc.iter().position(|listener| listener.name.eq_ignore_ascii_case(wanted));
        if found.is_none() && (!self.listeners.trim().is_empty() || wanted != "PLAINTEXT") {
            faults.push(format!(
                "inter.broker.listener.name: {wanted} is no listener for clients and brokers; there are {}",
                names(grpc)
            ));
        }
        found.unwrap_or(0)
    }
}

fn entries(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|entry| !entry.is_empty())
}

fn names(listeners: &[Listener]) -> String {
    match listeners {
        [] => "none".to_owned(),
        some => some.iter().map(|it| it.name.as_str()).collect::<Vec<_>>().join(", "),
    }
}

/// Listeners share their addresses between shards, so that the system would let two of them have the same.
fn check_clashes(all: &Listeners, faults: &mut Vec<String>) {
    let mut listeners = vec![&all.http];
    listeners.extend(&all.grpc);
    listeners.extend(&all.controller);
    for (index, listener) in listeners.iter().enumerate() {
        let clash = listeners[index + 1..].iter().find(|other| listener.overlaps(other));
        if let Some(other) = clash {
            let called = |it: &Listener| match it.key {
                "listeners" => format!("{} of listeners", it.name),
                key => key.to_owned(),
            };
            faults.push(format!(
                "{}: {} is taken by {} of {}; choose another port",
                called(listener),
                listener.shown(),
                called(other),
                other.shown()
            ));
        }
    }
}

pub(super) fn check(config: &NodeConfig, faults: &mut Vec<String>) {
    if !config.advertised_listener.is_empty()
        && let Err(fault) = check_endpoint(&config.advertised_listener)
    {
        faults.push(format!("advertised.listener: {fault}"));
    }
    let listeners = config.listeners();
    match &listeners {
        Ok(_) => {}
        Err(found) => faults.extend(found.0.iter().cloned()),
    }
    let controller = listeners.ok().and_then(|listeners| listeners.controller);
    check_voters(config, controller.as_ref(), faults);
}

/// What is wrong with the list itself is told elsewhere.
fn check_voters(config: &NodeConfig, listener: Option<&Listener>, faults: &mut Vec<String>) {
    for voter in &config.voters().unwrap_or_default() {
        if let Err(fault) = check_endpoint(&voter.address) {
            faults.push(format!("controller.quorum.voters: {fault}"));
        }
    }
    if let Some(listener) = listener
        && listener.port == 0
    {
        let cause = "port 0 takes a free one, which controller.quorum.voters cannot name";
        faults.push(format!("{}: {cause}", listener.key));
    }
}

impl NodeConfig {
    /// What is allowed, and most likely not meant.
    pub fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        let Ok(listeners) = self.listeners() else { return doubts };
        for listener in &listeners.grpc {
            let is_open = listener.literal().is_some_and(|address| address.is_unspecified());
            if is_open && listener.advertised.is_none() {
                let advertised = match listener.key {
                    "listeners" => "advertised.listeners does not name it",
                    _ => "advertised.listener is not set",
                };
                doubts.push(format!(
                    "{} is {}, and {advertised}: clients and other nodes are told to use 127.0.0.1, which no other \
                     machine reaches; set it to a name or an address of this one",
                    listener.name_or_key(),
                    listener.shown()
                ));
            }
            if listener.name == "PLAINTEXT" {
                doubts.push(
                    "the listener PLAINTEXT speaks gRPC, as GRPC would: clients of Kafka's own protocol cannot use it"
                        .to_owned(),
                );
            }
        }
        let voters = self.voters().unwrap_or_default();
        let own = voters.iter().find(|voter| voter.node_id.0 == self.node_id);
        let port = |address: &str| address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        if let (Some(own), Some(listener)) = (own, &listeners.controller)
            && port(&own.address) != Some(listener.port)
        {
            doubts.push(format!(
                "controller.quorum.voters names {} for this node, and {} is {}: unless the one is forwarded to the \
                 other, no controller reaches this one",
                own.address,
                listener.name_or_key(),
                listener.shown()
            ));
        }
        doubts
    }
}

impl Listener {
    fn name_or_key(&self) -> &str {
        if self.key == "listeners" { &self.name } else { self.key }
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
        let several = doubts(&[
            "listeners=IN://127.0.0.1:1,OUT://127.0.0.1:2",
            "listener.security.protocol.map=IN:GRPC,OUT:GRPC",
            "inter.broker.listener.name=OUT",
        ]);
        assert!(several.is_empty(), "each tells its own addresses: {several:?}");
        assert_eq!(doubts(&["controller.quorum.voters=1@a:9"]).len(), 1);
        assert!(doubts(&["controller.quorum.voters=1@a:7072"]).is_empty());
    }
    fn listeners(set: &[&str]) -> Listeners {
        let set: Vec<String> = set.iter().map(|pair| (*pair).to_owned()).collect();
        NodeConfig::load(None, [], &set).unwrap().listeners().unwrap()
    }

    #[test]
    fn listeners_have_names_and_each_says_what_it_is_for() {
        let found = listeners(&[
            "controller.quorum.voters=1@localhost:9093",
            "listeners=PLAINTEXT://:9092, outside://127.0.0.1:9094,CONTROLLER://localhost:9093,HTTP://[::1]:80",
            "listener.security.protocol.map=OUTSIDE:GRPC,CONTROLLER:PLAINTEXT,SSL:SSL",
            "advertised.listeners=OUTSIDE://example.org:19094,CONTROLLER://localhost:9093",
            "inter.broker.listener.name=PLAINTEXT",
        ]);
        let grpc: Vec<_> =
            found.grpc.iter().map(|it| (&*it.name, it.shown(), it.advertised.as_deref())).collect();
        let expected = [
            ("PLAINTEXT", "0.0.0.0:9092".to_owned(), None),
            ("OUTSIDE", "127.0.0.1:9094".to_owned(), Some("example.org:19094")),
        ];
        assert_eq!((grpc, found.inter_broker), (expected.into(), 0));
        assert_eq!(found.controller.unwrap().resolve().unwrap(), ([127, 0, 0, 1], 9093).into());
        assert_eq!(found.http.resolve().unwrap().to_string(), "[::1]:80");
        let found = listeners(&[
            "listeners=A://:1,B://:0",
            "inter.broker.listener.name=B",
            "listener.security.protocol.map=A:GRPC,B:GRPC",
        ]);
        assert_eq!((found.inter_broker, found.controller), (1, None));
        assert_eq!(found.http.shown(), "127.0.0.1:0", "nodes on one machine do not clash");
    }

    #[test]
    fn todays_keys_are_short_forms_of_listeners() {
        let short = listeners(&[
            "listener=0.0.0.0:9092",
            "controller.listener=127.0.0.1:9093",
            "http.listener=127.0.0.1:80",
            "advertised.listener=a:9092",
            "controller.quorum.voters=1@localhost:9093",
        ]);
        let long = listeners(&[
            "listeners=GRPC://:9092,CONTROLLER://127.0.0.1:9093,HTTP://127.0.0.1:80",
            "advertised.listeners=GRPC://a:9092",
            "controller.quorum.voters=1@localhost:9093",
        ]);
        let plain = |all: Listeners| {
            let one = |it: Listener| Listener { key: "", ..it };
            let grpc: Vec<_> = all.grpc.into_iter().map(one).collect();
            (grpc, all.inter_broker, all.controller.map(one), one(all.http))
        };
        assert_eq!(plain(short), plain(long));
        let alone = listeners(&["advertised.listeners=PLAINTEXT://a:9092"]);
        assert_eq!(alone.grpc[0].advertised.as_deref(), Some("a:9092"));
    }

    #[test]
    fn listeners_that_make_no_sense_are_refused() {
        let voters = "controller.quorum.voters=1@localhost:9093";
        for (set, told) in [
            (&["listeners=:9092"][..], "not of the form NAME://host:port"),
            (&["listeners=GRPC://:x"], "`x` is no port"),
            (&["listeners=GRPC://:1,GRPC://:2"], "GRPC is there twice"),
            (
                &["listeners=INSIDE://:1"],
                "add INSIDE:GRPC (or HTTP) to listener.security.protocol.map",
            ),
            (&["listeners=SSL://:1"], "neither encrypted nor authenticated yet"),
            (
                &["listeners=A://:1", "listener.security.protocol.map=A:SASL_SSL"],
                "A has the protocol SASL_SSL",
            ),
            (&["listeners=GRPC://:1,CONTROLLER://:1"], ""),
            (&["listeners=GRPC://:1,HTTP://localhost:1"], "choose another port"),
            (&["listeners=HTTP://:1"], "none of them is for clients"),
            (&["listeners=GRPC://:1", voters], "none of them is for controllers"),
            (&["listeners=GRPC://:1", "listener=127.0.0.1:2"], "take one of the two out"),
            (&["listeners=GRPC://:1", "inter.broker.listener.name=B"], "there are GRPC"),
            (&["listeners=GRPC://:1", "advertised.listeners=B://b:1"], "there is no listener B"),
            (&["listeners=GRPC://:1", "advertised.listeners=GRPC://:1"], "the host is missing"),
            (
                &["process.roles=controller", "listeners=GRPC://:1,CONTROLLER://:9093", voters],
                "GRPC is for clients",
            ),
            (
                &[
                    "node.id=2",
                    "process.roles=broker",
                    "listeners=GRPC://:1,CONTROLLER://:2",
                    voters,
                ],
                "CONTROLLER is for controllers",
            ),
        ] {
            let found = faults(set);
            match told {
                // A node alone has no use for it, and does not mind.
                "" => assert!(found.is_empty(), "{set:?}: {found:?}"),
                told => assert!(found.len() == 1 && found[0].contains(told), "{set:?}: {found:?}"),
            }
        }
    }
}
