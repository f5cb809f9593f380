//! Addresses of nodes as people type them: with a scheme, without a port, with spaces; and what cannot be one.

/// The port of a node, if none is said.
const PORT: u16 = 7070;

/// `host:port` of what was typed: `foo`, `foo:7070`, `http://foo:7070/`, `[::1]`. None: nothing was typed.
///
/// # Errors
/// It is no address, in words that follow it.
pub fn endpoint(typed: &str) -> Result<Option<String>, String> {
    let text = typed.trim();
    let wrong = |why: &str| Err(format!("`{typed}` is no address of a node: {why}; use HOST:PORT"));
    let text = match text.split_once("://") {
        None => text,
        Some(("http" | "grpc" | "dns" | "tcp", rest)) => rest,
        Some(("https" | "grpcs" | "tls", _)) => return wrong("connections are not encrypted yet"),
        Some((scheme, _)) => return wrong(&format!("`{scheme}` is no scheme that is known here")),
    };
    let text = text.trim_matches('/');
    if text.is_empty() {
        return match typed.trim().is_empty() {
            true => Ok(None),
            false => wrong("it names no host"),
        };
    }
    if text.contains(['/', '?', '#', '@', ' ']) {
        return wrong("it has more than a host and a port");
    }
    // An IPv6 address has colons of its own, and brackets around it where a port follows.
    let bare_v6 = text.parse::<std::net::Ipv6Addr>().is_ok();
    let (host, port) = match text.rsplit_once(':') {
        _ if bare_v6 => return Ok(Some(format!("[{text}]:{PORT}"))),
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    if host.is_empty() {
        return wrong("it names no host");
    }
    match port.map(str::parse::<u16>) {
        None => Ok(Some(format!("{host}:{PORT}"))),
        Some(Ok(port)) if port > 0 => Ok(Some(format!("{host}:{port}"))),
        Some(_) => wrong("behind the colon stands no port"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_understood_as_people_type_it() {
        for (typed, meant) in [
            ("foo", "foo:7070"),
            ("foo:7080", "foo:7080"),
            ("http://127.0.0.1:7070", "127.0.0.1:7070"),
            ("http://foo/", "foo:7070"),
            ("dns:///foo:7070", "foo:7070"),
            (" foo:7070 ", "foo:7070"),
            ("::1", "[::1]:7070"),
            ("[::1]", "[::1]:7070"),
            ("[::1]:7090", "[::1]:7090"),
        ] {
            assert_eq!(endpoint(typed), Ok(Some(meant.to_owned())), "{typed}");
        }
        assert_eq!(endpoint(""), Ok(None));
        assert_eq!(endpoint(" "), Ok(None));
    }

    #[test]
    fn what_cannot_be_an_address_is_explained() {
        for (typed, why) in [
            ("foo:bar", "no port"),
            ("foo:", "no port"),
            ("foo:0", "no port"),
            (":7070", "no host"),
            ("http://", "no host"),
            ("https://foo:7070", "not encrypted"),
            ("ftp://foo", "`ftp` is no scheme"),
            ("foo:7070/topics", "more than a host and a port"),
        ] {
            let error = endpoint(typed).unwrap_err();
            assert!(error.contains(why) && error.contains(typed), "{typed}: {error}");
        }
    }
}
