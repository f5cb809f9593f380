//! What the kernel says of this process.

use std::fs;

pub struct Process {
    pub descriptors: usize,
    pub threads: usize,
    pub resident_bytes: usize,
}

impl Process {
    /// `None`: there is no `/proc` here.
    pub fn look() -> Option<Process> {
        let count = |path| fs::read_dir(path).ok().map(Iterator::count);
        // The directory that is being read is open itself.
        let descriptors = count("/proc/self/fd")?.saturating_sub(1);
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: usize = resident.trim().trim_end_matches(" kB").parse().ok()?;
        let resident_bytes = kib << 10;
        Some(Process { descriptors, threads: count("/proc/self/task")?, resident_bytes })
    }
}
