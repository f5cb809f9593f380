//! Namespaces and tunnel devices, by system calls.

use std::fs::{self, File, OpenOptions};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::{io, mem, thread};

const TUNNELS: &str = "/dev/net/tun";
const NAME: &[u8] = b"troupe0";
const NETMASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);
/// Large enough for one packet a small message, small enough that a slow link is slow evenly.
const MTU: libc::c_int = 8_192;

fn done(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether there can be tunnel devices at all.
///
/// # Errors
/// Why not.
pub fn check() -> io::Result<()> {
    OpenOptions::new().read(true).write(true).open(TUNNELS).map(drop)
}

/// Between fork and exec: into a network namespace of its own, and a user namespace where that takes one.
///
/// # Errors
/// What the system refused.
pub fn leave_namespaces() -> io::Result<()> {
    // SAFETY: system calls without pointers.
    unsafe {
        if libc::geteuid() == 0 && libc::unshare(libc::CLONE_NEWNET) == 0 {
            return Ok(());
        }
        done(libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET))
    }
}

/// A device in the namespace of this thread.
///
/// # Errors
/// What the system refused.
pub fn here(address: Ipv4Addr) -> io::Result<File> {
    let device = OpenOptions::new().read(true).write(true).open(TUNNELS)?;
    let mut request = named(NAME);
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    order(&device, libc::TUNSETIFF, &mut request)?;
    // SAFETY: a system call without pointers; the descriptor is nobody else's.
    let socket = unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        done(socket)?;
        OwnedFd::from_raw_fd(socket)
    };
    for (what, value) in [(libc::SIOCSIFADDR, address), (libc::SIOCSIFNETMASK, NETMASK)] {
        let mut request = named(NAME);
        request.ifr_ifru.ifru_addr = socket_address(value);
        order(&socket, what, &mut request)?;
    }
    let mut request = named(NAME);
    request.ifr_ifru.ifru_mtu = MTU;
    order(&socket, libc::SIOCSIFMTU, &mut request)?;
    for name in [NAME, b"lo"] {
        let mut request = named(name);
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        order(&socket, libc::SIOCSIFFLAGS, &mut request)?;
    }
    Ok(device)
}

/// A device in a namespace that is made for it.
///
/// # Errors
/// What the system refused.
pub fn in_new_namespace(address: Ipv4Addr) -> io::Result<(File, OwnedFd)> {
    // A namespace is a thread's own.
    let made = thread::spawn(move || {
        // SAFETY: a system call without pointers.
        done(unsafe { libc::unshare(libc::CLONE_NEWNET) })?;
        let device = here(address)?;
        let namespace = fs::File::open("/proc/thread-self/ns/net")?;
        Ok((device, OwnedFd::from(namespace)))
    });
    made.join().expect("it does not panic")
}

fn named(name: &[u8]) -> libc::ifreq {
    // SAFETY: a structure of numbers, for which all zeroes are a value.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(name) {
        *place = *byte as libc::c_char;
    }
    request
}

fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    let internet = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: u32::from(address).to_be() },
        sin_zero: [0; 8],
    };
    // SAFETY: both are 16 bytes of numbers, and the family says which it is.
    unsafe { mem::transmute::<libc::sockaddr_in, libc::sockaddr>(internet) }
}

fn order(on: &impl AsRawFd, what: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: each of these orders takes an `ifreq`.
    done(unsafe { libc::ioctl(on.as_raw_fd(), what, request) })
}
