//! What the disk does with as many bytes as a cleaning had to read and write, without looking at them: read when they
//! are in no memory, as the cleaning has to, and written until they are on the disk.

use crate::commands::bench::file_system::forget_file;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

const CHUNK: usize = 1 << 20;

/// Reads so many bytes and writes so many, durably, one after the other.
pub fn measure(dir: &Path, read: u64, written: u64) -> std::io::Result<Duration> {
    let (from, to) = (dir.join("raw-from"), dir.join("raw-to"));
    let mut chunk = vec![0x5a; CHUNK];
    write(&from, &chunk, read)?;
    forget_file(&from)?;
    let started = Instant::now();
    let mut file = File::open(&from)?;
    while file.read(&mut chunk)? > 0 {}
    write(&to, &chunk, written)?;
    let took = started.elapsed();
    std::fs::remove_file(from)?;
    std::fs::remove_file(to)?;
    Ok(took)
}

fn write(path: &Path, chunk: &[u8], mut left: u64) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    while left > 0 {
        let len = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        file.write_all(&chunk[..len])?;
        left -= len as u64;
    }
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_of_a_measurement() {
        let dir = tempfile::tempdir().unwrap();
        measure(dir.path(), 3 * CHUNK as u64 + 1, 7).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
