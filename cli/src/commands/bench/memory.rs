//! Memory of a process, from /proc.

/// What it has in memory now; None where there is no such process or no /proc.
pub fn of_process(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes << 10)
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_some_memory() {
        assert!(super::of_process(std::process::id()).is_some_and(|bytes| bytes > 1 << 20));
        assert!(super::of_process(u32::MAX).is_none());
    }
}
