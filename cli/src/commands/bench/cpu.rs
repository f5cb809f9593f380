//! Processor time of a process, from /proc: what a gigabyte costs.

use std::time::Duration;

/// User and system time so far; None where there is no such process or no /proc.
pub fn of_process(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything; the fields follow its last parenthesis. 14 and 15 are user and system.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    // SAFETY: sysconf reads a constant.
    let per_second = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).ok()?;
    Some(Duration::from_secs_f64(ticks as f64 / per_second.max(1) as f64))
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_a_processor_time() {
        assert!(super::of_process(std::process::id()).is_some());
        assert!(super::of_process(u32::MAX).is_none());
    }
}
