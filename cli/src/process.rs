//! Other processes of this machine: whether they run, telling them to end, and being one of one's own.

use std::io;

/// Whether there is such a process that has not ended. One that ended and that nobody has asked about yet has ended.
pub fn is_running(pid: u32) -> bool {
    let Ok(number) = libc::pid_t::try_from(pid) else { return false };
    // SAFETY: signal 0 is sent to nobody; it asks whether it could be.
    let answer = unsafe { libc::kill(number, 0) };
    let exists = answer == 0 || io::Error::last_os_error().raw_os_error() == Some(libc::EPERM);
    exists && !is_zombie(pid)
}

/// Where the system does not say, it is none.
fn is_zombie(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // `pid (name) state …`, and the name may have anything in it.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}

/// Whether the process runs this program; None where the system does not say.
pub fn is_troupe(pid: u32) -> Option<bool> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim() == "troupe")
}

/// SIGTERM.
///
/// # Errors
/// There is no such process, or it belongs to somebody else.
pub fn terminate(pid: u32) -> io::Result<()> {
    let number = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    // SAFETY: a positive number names one process.
    match unsafe { libc::kill(number, libc::SIGTERM) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Leaves the terminal that this process was started from: what happens to it is nothing to this process any more.
///
/// # Errors
/// The process leads a group already.
pub fn leave_terminal() -> io::Result<()> {
    // SAFETY: the call takes and changes nothing but the session of this process.
    match unsafe { libc::setsid() } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_process_runs_until_it_has_ended() {
        assert!(is_running(std::process::id()));
        assert_ne!(is_troupe(std::process::id()), Some(true));
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        assert!(is_running(child.id()));
        terminate(child.id()).unwrap();
        while is_running(child.id()) {
            std::thread::yield_now();
        }
        // It had ended before anybody asked how.
        child.wait().unwrap();
        assert!(!is_running(u32::MAX));
    }
}
