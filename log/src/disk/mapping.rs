//! Files in memory, and what becomes of a page that its file does not have any more.
//!
//! Whoever touches such a page, because somebody made the file shorter or because the disk cannot read that sector, is
//! sent a signal, SIGBUS, by which a process ends. One damaged file is no reason for a node to: here the page becomes
//! one of zeros, in that mapping, and whoever reads goes on. Zeros are no batch, so the checksums find them as they find
//! any other damage. systemd does the same for its journal, and libwayland for what its clients share.
//!
//! Promises: only pages of the mappings that were made here are given zeros; a signal about any other goes where it went
//! before. The kernel is told of a page that is not there by an error instead (`EFAULT`): a connection that was being
//! written to breaks then.
//! Never here: the handler takes no lock, no memory, and waits for nothing.

use super::guard::{self, Entry};
use bytes::Bytes;
use std::fs::File;
use std::io;

/// A mapping, and its entry among those that are watched over.
struct Mapping {
    map: memmap2::Mmap,
    entry: Entry,
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // Before the addresses are given back, and to somebody else.
        self.entry.close();
    }
}

/// The file's first `len` bytes, which may be more than it has. Lives as long as any slice of it.
pub(super) fn map(file: &File, len: usize) -> io::Result<Bytes> {
    guard::install();
    // SAFETY: the file is ours alone (the directory is locked). Nothing reads a slice beyond what was written, and what
    // lies below the high watermark is neither changed nor cut off; deeper truncations put a new file in place. Where
    // somebody else does either all the same, a reader sees other bytes, or zeros, and checks what it reads.
    let map = unsafe { memmap2::MmapOptions::new().len(len).map(file) }?;
    let start = map.as_ptr() as usize;
    let entry = guard::watch(start..start + map.len());
    Ok(Bytes::from_owner(Mapping { map, entry }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    const PAGE: usize = 4096;

    fn file_of(pages: usize) -> File {
        let file = tempfile::tempfile().unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &vec![7; pages * PAGE], 0).unwrap();
        file
    }

    #[test]
    fn a_file_that_was_made_shorter_reads_as_zeros_behind_and_as_it_was_before() {
        let (file, other) = (file_of(9), file_of(2));
        let (map, beside) = (map(&file, 9 * PAGE).unwrap(), map(&other, 2 * PAGE).unwrap());
        file.set_len(3 * PAGE as u64 + 5).unwrap();
        let from_another_thread = map.slice(5 * PAGE..);
        let zeros = std::thread::spawn(move || from_another_thread.iter().all(|byte| *byte == 0));
        assert!(zeros.join().unwrap());
        assert!(map[..3 * PAGE + 5].iter().all(|byte| *byte == 7));
        assert!(map[3 * PAGE + 5..].iter().all(|byte| *byte == 0));
        assert!(beside.iter().all(|byte| *byte == 7), "another file is another matter");
        // what was given zeros stays so, and a new mapping shows the file
        file.set_len(0).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &vec![9; 9 * PAGE], 0).unwrap();
        assert!(map[4 * PAGE..].iter().all(|byte| *byte == 0));
        assert!(super::map(&file, 9 * PAGE).unwrap().iter().all(|byte| *byte == 9));
    }

    #[test]
    fn a_file_is_watched_over_for_as_long_as_anybody_has_a_slice_of_it() {
        let file = file_of(2);
        let slice = map(&file, 2 * PAGE).unwrap().slice(PAGE..PAGE + 1);
        let many: Vec<_> = (0..600).map(|_| map(&file, PAGE).unwrap()).collect();
        drop(many);
        file.set_len(0).unwrap();
        assert_eq!(slice[0], 0);
    }

    /// Plays the part of a process that touches what nobody watches over: it is to end.
    #[test]
    #[ignore = "run by the one below"]
    fn touches_a_page_of_somebody_else() {
        let (ours, file) = (file_of(1), file_of(1));
        let _installed = map(&ours, PAGE).unwrap();
        // SAFETY: none: that is what is tested.
        let map = unsafe { memmap2::Mmap::map(&file) }.unwrap();
        file.set_len(0).unwrap();
        std::hint::black_box(map[0]);
    }

    #[test]
    fn a_page_that_is_nobodys_here_still_ends_the_process() {
        let name = "disk::mapping::tests::touches_a_page_of_somebody_else";
        let this = std::env::current_exe().unwrap();
        let run = Command::new(this).args(["--exact", "--ignored", name]).output().unwrap();
        assert_eq!(run.status.signal(), Some(libc::SIGBUS), "{run:?}");
    }
}
