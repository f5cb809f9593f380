//! Addresses as they are written: what others can connect to, and what this node can listen on.
//!
//! Never here: which listeners there are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest name that DNS knows.
const LONGEST_NAME: usize = 253;

/// Whether clients and other nodes can use this as host:port.
pub(super) fn check_endpoint(text: &str) -> Result<(), String> {
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

/// host:port of a listener; no host: all addresses of this machine.
pub(super) fn parse_listen(text: &str) -> Result<(String, u16), String> {
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(format!("`{text}` has no port; write NAME://host:port"));
    };
    let is_number = !port.is_empty() && port.bytes().all(|digit| digit.is_ascii_digit());
    let Some(port) = port.parse::<u16>().ok().filter(|_| is_number) else {
        return Err(format!("`{text}`: `{port}` is no port; write NAME://host:port"));
    };
    let host = match host {
        "" | "*" | "0.0.0.0" => "",
        host => host,
    };
    if !host.is_empty() && host != "[::]" {
        check_host(host).map_err(|fault| format!("`{text}`: {fault}"))?;
    }
    Ok((host.to_owned(), port))
}
