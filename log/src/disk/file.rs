//! The real disk: pread, pwritev, fdatasync, mmap.

use super::{Disk, DiskFile, injected, mapping};
use bytes::Bytes;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice, Read};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::OnceLock;
use std::time::UNIX_EPOCH;

/// At most so many pieces go into one `pwritev(2)` (`IOV_MAX` on Linux).
const MAX_PIECES: usize = 1024;
/// Checkpoints and the like are far smaller, so one read gets them whole.
const SMALL_FILE: usize = 4096;

/// Of `fcntl(2)`: which signal tells the holder of a lease that somebody wants the file.
#[cfg(target_os = "linux")]
const F_SETSIG: libc::c_int = 10;
/// Another one after each start of the kernel.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The machine's own file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileDisk;

impl FileDisk {
    pub const fn new() -> FileDisk {
        FileDisk
    }
}

impl Disk for FileDisk {
    type File = File;

    fn open(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(path)
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        injected::before_create(path)?;
        OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)
    }

    /// Three system calls for a small file: that counts when 10,000 partitions are opened.
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut content = vec![0; SMALL_FILE];
        let read = file.read(&mut content)?;
        content.truncate(read);
        if read == SMALL_FILE {
            file.read_to_end(&mut content)?;
        }
        Ok(Some(content))
    }

    fn size(&self, path: &Path) -> io::Result<u64> {
        let found = fs::metadata(path)?;
        if found.is_dir() { Err(ErrorKind::IsADirectory.into()) } else { Ok(found.len()) }
    }

    fn list(&self, dir: &Path) -> io::Result<Option<Vec<String>>> {
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            // Troupe's own names are ASCII: what is not UTF-8 is not ours
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(Some(names))
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        injected::before_create(dir)?;
        match fs::create_dir(dir) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
            other => other,
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        // An fsync that fails for want of memory has failed; what stands in the way of opening has not.
        let dir = File::open(dir)?;
        injected::before_flush(&dir).and_then(|()| dir.sync_all()).map_err(io::Error::other)
    }

    fn modified_ms(&self, path: &Path) -> io::Result<Option<i64>> {
        let modified = fs::metadata(path)?.modified()?;
        let since_epoch = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(i64::try_from(since_epoch.as_millis()).ok())
    }

    fn boot(&self) -> Option<String> {
        static BOOT: OnceLock<Option<String>> = OnceLock::new();
        BOOT.get_or_init(|| {
            let id = fs::read_to_string(BOOT_ID).ok()?;
            let id = id.trim();
            let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
            (!id.is_empty() && id.chars().all(is_plain)).then(|| id.to_owned())
        })
        .clone()
    }
}

impl DiskFile for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, position: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < into.len() {
            match FileExt::read_at(self, &mut into[filled..], position + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, position: u64, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        injected::before_write(self)?;
        if let [piece] = pieces {
            return FileExt::write_at(self, piece, position);
        }
        let count = pieces.len().min(MAX_PIECES) as libc::c_int;
        let position = libc::off_t::try_from(position).map_err(|_| ErrorKind::FileTooLarge)?;
        // SAFETY: IoSlice is guaranteed to be ABI-compatible with iovec, `count` of them are there, and
        // they outlive the call.
        let written =
            unsafe { libc::pwritev(self.as_raw_fd(), pieces.as_ptr().cast(), count, position) };
        usize::try_from(written).map_err(|_| io::Error::last_os_error())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        injected::before_flush(self)?;
        self.sync_data()
    }

    #[cfg(target_os = "linux")]
    fn write_back(&self, range: Range<u64>, behind: u64) -> io::Result<()> {
        injected::before_flush(self)?;
        let begin = libc::SYNC_FILE_RANGE_WRITE;
        let finish = begin | libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
        let before = range.start.saturating_sub(behind)..range.start;
        for (range, flags) in [(range, begin), (before, finish)] {
            let position =
                libc::off64_t::try_from(range.start).map_err(|_| ErrorKind::FileTooLarge)?;
            let len = libc::off64_t::try_from(range.end - range.start)
                .map_err(|_| ErrorKind::FileTooLarge)?;
            // No length would mean: to the end of the file.
            if len == 0 {
                continue;
            }
            // SAFETY: the descriptor is open for as long as the call takes.
            if unsafe { libc::sync_file_range(self.as_raw_fd(), position, len, flags) } == 0 {
                continue;
            }
            let error = io::Error::last_os_error();
            // Some file systems know no ranges: then the sync has it all to do.
            if !matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL | libc::ESPIPE)) {
                return Err(error);
            }
        }
        Ok(())
    }

    fn read_nothing_ahead(&self) {
        // SAFETY: takes no memory; what it is told is only advice. No length means: to the end of the file.
        let _advice =
            unsafe { libc::posix_fadvise(self.as_raw_fd(), 0, 0, libc::POSIX_FADV_RANDOM) };
    }

    fn forget_pages(&self, range: Range<u64>) {
        let position = libc::off_t::try_from(range.start);
        let len = libc::off_t::try_from(range.end.saturating_sub(range.start));
        let (Ok(position), Ok(len)) = (position, len) else { return };
        // No length would mean: to the end of the file.
        if len > 0 {
            let advice = libc::POSIX_FADV_DONTNEED;
            // SAFETY: takes no memory; what it is told is only advice.
            let _advice = unsafe { libc::posix_fadvise(self.as_raw_fd(), position, len, advice) };
        }
    }

    /// The kernel gives a lease to write to nobody while the file is open elsewhere, in this process or another, or mapped.
    #[cfg(target_os = "linux")]
    fn is_used_by_nobody_else(&self) -> bool {
        let control = |command, value: libc::c_int| {
            // SAFETY: takes no memory, and the descriptor is open for as long as the call takes.
            unsafe { libc::fcntl(self.as_raw_fd(), command, value) == 0 }
        };
        // Who opens it while the lease is held has its holder sent a signal: one that nobody minds.
        control(F_SETSIG, libc::SIGURG)
            && control(libc::F_SETLEASE, libc::F_WRLCK)
            && control(libc::F_SETLEASE, libc::F_UNLCK)
    }

    /// Without address space left, or on a file system that maps nothing, the answer is `None`: the reader
    /// copies then.
    fn map(&self, len: u64) -> io::Result<Option<Bytes>> {
        let Ok(len) = usize::try_from(len) else { return Ok(None) };
        if len == 0 {
            return Ok(None);
        }
        match mapping::map(self, len) {
            Ok(map) => Ok(Some(map)),
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOMEM | libc::ENODEV) => Ok(None),
                _ => Err(error),
            },
        }
    }
}

/// Whether reading these bytes would not wait for the disk. For slices of a mapping; others always are.
pub fn is_resident(bytes: &[u8]) -> bool {
    if bytes.is_empty() {
        return true;
    }
    // SAFETY: sysconf has no preconditions.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    let start = bytes.as_ptr() as usize / page * page;
    let len = bytes.as_ptr() as usize + bytes.len() - start;
    let mut residency = vec![0u8; len.div_ceil(page)];
    // SAFETY: the pages from `start` to the slice's end are mapped, as the slice lies in them, and the
    // vector has a byte for each.
    let result = unsafe { libc::mincore(start as *mut _, len, residency.as_mut_ptr().cast()) };
    result == 0 && residency.iter().all(|page| page & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::super::write_all_at;
    use super::*;

    #[test]
    fn more_pieces_than_the_kernel_takes_at_once_are_all_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = FileDisk.create(&dir.path().join("f")).unwrap();
        let content: Vec<u8> = (0..5000u32).map(|i| i as u8).collect();
        let mut pieces: Vec<_> = content.chunks(2).map(IoSlice::new).collect();
        write_all_at(&file, 3, &mut pieces).unwrap();
        let mut read = vec![0; 5003];
        assert_eq!(DiskFile::read_at(&file, 0, &mut read).unwrap(), 5003);
        assert_eq!(&read[3..], content);
    }

    #[test]
    fn a_mapping_longer_than_the_file_shows_later_writes() {
        let dir = tempfile::tempdir().unwrap();
        let file = FileDisk.create(&dir.path().join("f")).unwrap();
        let map = file.map(1 << 20).unwrap().unwrap();
        write_all_at(&file, 0, &mut [IoSlice::new(&[7; 9000])]).unwrap();
        assert_eq!(map[8999], 7);
        assert!(is_resident(&map[..9000]));
    }

    #[test]
    fn a_missing_file_or_directory_is_none_not_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(FileDisk.read(&dir.path().join("f")).unwrap().is_none());
        assert!(FileDisk.list(&dir.path().join("d")).unwrap().is_none());
        FileDisk.remove(&dir.path().join("f")).unwrap();
    }

    #[test]
    fn a_replaced_file_is_read_whole_even_if_large() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        for size in [0, 1, SMALL_FILE - 1, SMALL_FILE, SMALL_FILE + 1, 100_000] {
            let content: Vec<u8> = (0..size).map(|i| i as u8).collect();
            FileDisk.replace(&path, &content, true).unwrap();
            assert_eq!(FileDisk.read(&path).unwrap().unwrap(), content);
        }
    }
}
