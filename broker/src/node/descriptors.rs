//! File descriptors: how many there are, and how many the logs need before connections get any.

/// What a node has open beside logs and connections: listeners, the metadata log, pipes, a runtime for each thread;
/// and what logs open for a moment, to sync a directory or to write an index.
const OTHERS: u64 = 128;

/// Every partition in use takes one, every connection another: all that the system lets this process have.
pub fn raise_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls read or write the struct that they are given.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 && limit.rlim_cur < limit.rlim_max
        {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}

/// How many this process may have.
pub fn limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: it writes the struct that it is given.
    match unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } {
        0 => limit.rlim_cur,
        _ => u64::MAX,
    }
}

/// What is reserved for the logs of so many partitions, each of which keeps the segment open that takes appends.
/// Connections get what is left.
pub fn needed_by(partitions: usize) -> u64 {
    OTHERS + partitions as u64
}
