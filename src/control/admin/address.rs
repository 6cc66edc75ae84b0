//! Addresses of the admin endpoints, read and bound as Go's `net.Listen` does it, so that a Corefile
//! that works with CoreDNS finds the same sockets and a broken one the same words.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};

use socket2::{Domain, Protocol, Socket, Type};

use super::AdminError;

/// Connections that the kernel keeps for an endpoint until they are accepted.
const BACKLOG: i32 = 128;

/// Splits `host:port`, `[host]:port` or `:port`. The error is Go's, `address bla: missing port in
/// address`: plugins report it while they parse.
pub fn split_host_port(address: &str) -> Result<(&str, &str), String> {
    let error = |what: &str| Err(format!("address {address}: {what}"));
    let Some((host, port)) = address.rsplit_once(':') else {
        return error("missing port in address");
    };
    if let Some(inside) = address.strip_prefix('[') {
        let Some((host, rest)) = inside.split_once(']') else {
            return error("missing ']' in address");
        };
        return match rest.strip_prefix(':') {
            Some(port) if port.contains(':') => error("too many colons in address"),
            Some(port) if port.contains(['[', ']']) => error("unexpected '[' in address"),
            Some(port) => Ok((host, port)),
            None if rest.contains(':') => error("too many colons in address"),
            None => error("missing port in address"),
        };
    }
    if host.contains(':') {
        return error("too many colons in address");
    }
    if address.contains('[') {
        return error("unexpected '[' in address");
    }
    match address.contains(']') {
        true => error("unexpected ']' in address"),
        false => Ok((host, port)),
    }
}

/// The socket address to listen on. Every wildcard is `[::]`, which takes IPv4, too.
pub(super) fn resolve(address: &str) -> Result<SocketAddr, AdminError> {
    let failed = |message| AdminError { address: address.to_string(), message };
    let (host, port) =
        split_host_port(address).map_err(|error| failed(format!("listen tcp: {error}")))?;
    let port = match port {
        "" => 0,
        digits => digits
            .parse::<u16>()
            .map_err(|_| failed(format!("listen tcp: address {digits}: invalid port")))?,
    };
    let ip = match host {
        "" => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        // A scope needs the resolver, too: `fe80::1%eth0`.
        name => match name.parse() {
            Ok(ip) => ip,
            Err(_) => return look_up(name, port).map_err(failed),
        },
    };
    let ip = if ip.is_unspecified() { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { ip };
    Ok(SocketAddr::new(ip, port))
}

/// The first address of a name, IPv4 before IPv6.
fn look_up(name: &str, port: u16) -> Result<SocketAddr, String> {
    let all: Vec<SocketAddr> = match (name, port).to_socket_addrs() {
        Ok(all) => all.collect(),
        Err(_) => return Err(format!("listen tcp: lookup {name}: no such host")),
    };
    let first = all.iter().find(|at| at.is_ipv4()).or(all.first());
    first.copied().ok_or_else(|| format!("listen tcp: lookup {name}: no such host"))
}

/// A listening socket. SO_REUSEPORT as CoreDNS has it: a process that takes over, and a reload from
/// `:8080` to `127.0.0.1:8080`, binds before the old socket is closed.
pub(super) fn bind(at: SocketAddr, address: &str) -> Result<TcpListener, AdminError> {
    let bound = listen(at).or_else(|error| match at {
        // No IPv6 in this kernel: the wildcard is IPv4's.
        SocketAddr::V6(v6) if v6.ip().is_unspecified() && no_ipv6(&error) => {
            listen(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), at.port()))
        }
        _ => Err(error),
    });
    bound.map_err(|error| {
        let shown = match address.strip_prefix(':') {
            Some(_) => address.to_string(),
            None => at.to_string(),
        };
        AdminError {
            address: address.to_string(),
            message: format!("listen tcp {shown}: bind: {}", reason(&error)),
        }
    })
}

fn no_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if let SocketAddr::V6(v6) = at {
        socket.set_only_v6(!v6.ip().is_unspecified())?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&crate::sys::scoped(at).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// `Address already in use (os error 98)` becomes `address already in use`.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |c| c.to_lowercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_as_go_does() {
        assert_eq!(split_host_port(":8080"), Ok(("", "8080")));
        assert_eq!(split_host_port("localhost:9153"), Ok(("localhost", "9153")));
        assert_eq!(split_host_port("[::1]:80"), Ok(("::1", "80")));
        assert_eq!(split_host_port("bla:a"), Ok(("bla", "a")));
        for (address, what) in [
            ("bla", "missing port in address"),
            ("", "missing port in address"),
            ("a:b:c", "too many colons in address"),
            ("::1", "too many colons in address"),
            ("[::1]", "missing port in address"),
            ("[::1", "missing ']' in address"),
            ("[::1]:1:2", "too many colons in address"),
            ("a]:1", "unexpected ']' in address"),
            ("a[:1", "unexpected '[' in address"),
        ] {
            let text = format!("address {address}: {what}");
            assert_eq!(split_host_port(address), Err(text), "{address}");
        }
    }

    #[test]
    fn wildcards_take_both_families() {
        let wild: SocketAddr = "[::]:8080".parse().unwrap();
        for address in [":8080", "0.0.0.0:8080", "[::]:8080"] {
            assert_eq!(resolve(address).unwrap(), wild, "{address}");
        }
        assert_eq!(resolve("127.0.0.1:1").unwrap(), "127.0.0.1:1".parse().unwrap());
        assert_eq!(resolve("localhost:1").unwrap(), "127.0.0.1:1".parse().unwrap());
    }

    #[test]
    fn errors_are_in_go_s_words() {
        let message = |address: &str| match resolve(address) {
            Ok(at) => bind(at, address).map(drop).unwrap_err().message,
            Err(error) => error.message,
        };
        assert_eq!(message(":99999"), "listen tcp: address 99999: invalid port");
        let text = "listen tcp 192.0.2.1:80: bind: cannot assign requested address";
        assert_eq!(message("192.0.2.1:80"), text);
        // Bound by somebody without SO_REUSEPORT.
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = other.local_addr().unwrap().to_string();
        let text = format!("listen tcp {address}: bind: address already in use");
        assert_eq!(message(&address), text);
    }
}
