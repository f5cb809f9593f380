//! The one door to files.
//!
//! [`FileDisk`] is the real one, [`MemDisk`] keeps everything in memory and knows what a power cut would
//! leave of it, [`FaultDisk`] fails as a script says. What lies in a directory on the real one can be made to fail too
//! ([`InjectedFault`]).
//!
//! Contract: a write is durable after [`DiskFile::sync`]; a created, renamed or removed entry after
//! [`Disk::sync_dir`] of its directory. Until then a crash may keep any part of it.

mod faulty;
mod file;
mod guard;
pub(crate) mod injected;
mod mapping;
mod memory;

pub use faulty::{Fault, FaultDisk, Operation};
pub use file::{FileDisk, is_resident};
pub use injected::{DiskFault, InjectedFault, before_other_flush};
pub use memory::{Loss, MemDisk};

use bytes::Bytes;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::Path;

/// Files and directories, by path.
pub trait Disk: Clone + Send + Sync + 'static {
    type File: DiskFile;

    /// An existing file, to read and write.
    fn open(&self, path: &Path) -> io::Result<Self::File>;

    /// A new empty file; one that stands there loses its content.
    fn create(&self, path: &Path) -> io::Result<Self::File>;

    /// The whole of a small file; `None` if there is none.
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>>;

    /// Size of a file.
    fn size(&self, path: &Path) -> io::Result<u64>;

    /// The names in a directory, in no order; `None` if there is no such directory.
    fn list(&self, dir: &Path) -> io::Result<Option<Vec<String>>>;

    /// Makes one directory; fine if it stands there already.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Renames within one directory; replaces what stands at `to`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file; fine if it is gone already.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the entries of a directory durable. An error that [`is_shortage`] says that the directory could
    /// not even be opened; any other is as one of [`DiskFile::sync`].
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// When a file was last written to, in milliseconds of the wall clock; `None` on a disk without a clock.
    fn modified_ms(&self, path: &Path) -> io::Result<Option<i64>>;

    /// Names the run of the machine whose page cache stands before this disk: as long as that lasts, what was
    /// written is there, synced or not. `None` if nobody can tell.
    fn boot(&self) -> Option<String>;

    /// Writes a small file so that its name shows the old or the new content, never a part, as long as the
    /// machine runs. `durably`: also across a power cut (but for the name: see [`Disk::sync_dir`]).
    fn replace(&self, path: &Path, content: &[u8], durably: bool) -> io::Result<Self::File> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".tmp");
        let temporary = Path::new(&temporary);
        let replaced = self.create(temporary).and_then(|file| {
            write_all_at(&file, 0, &mut [IoSlice::new(content)])?;
            if durably {
                file.sync()?;
            }
            self.rename(temporary, path)?;
            Ok(file)
        });
        if replaced.is_err() {
            // On a full disk the half of it would take what little room there is; the next one begins anew.
            let _ = self.remove(temporary);
        }
        replaced
    }
}

/// The system lacks descriptors or memory for the moment: nothing was done, and the same can be tried again.
pub fn is_shortage(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EAGAIN | libc::EINTR)
    )
}

/// An open file.
pub trait DiskFile: Send + Sync + 'static {
    fn size(&self) -> io::Result<u64>;

    /// Reads up to `into.len()` bytes; fewer only at the end of the file.
    fn read_at(&self, position: u64, into: &mut [u8]) -> io::Result<usize>;

    /// Writes some of the bytes and says how many, as `pwritev(2)`.
    fn write_at(&self, position: u64, pieces: &[IoSlice<'_>]) -> io::Result<usize>;

    fn truncate(&self, len: u64) -> io::Result<()>;

    /// Content and size are durable afterwards (`fdatasync(2)`). After an error nothing is known of what
    /// was written since the last success, and trying again would lie.
    fn sync(&self) -> io::Result<()>;

    /// Begins to write this range to the disk, and waits until what lies up to `behind` bytes before it is written. Says
    /// nothing of durability: a later [`DiskFile::sync`] has less to do, and so have those of other files meanwhile. An
    /// error is as one of [`DiskFile::sync`].
    fn write_back(&self, range: Range<u64>, behind: u64) -> io::Result<()> {
        let _ = (range, behind);
        Ok(())
    }

    /// From now on a read asks the disk for what it wants and for nothing behind it. What the system reads ahead for
    /// somebody who goes through whole files is megabytes in one request, and a flush waits until a disk has answered
    /// that. Fine if it is not.
    fn read_nothing_ahead(&self) {}

    /// What the page cache holds of this range is read from the disk anew, as far as nobody uses it. Fine if it is not.
    fn forget_pages(&self, range: Range<u64>) {
        let _ = range;
    }

    /// Whether nobody else has it open or mapped. `false` also where nobody can tell.
    fn is_used_by_nobody_else(&self) -> bool {
        false
    }

    /// The file's content in memory without a copy, `len` bytes, which may be more than the file has: later
    /// writes show up in it. What lies beyond the end is not to be touched: it is zeros from then on, whatever is
    /// written there. `None` if the disk cannot.
    fn map(&self, len: u64) -> io::Result<Option<Bytes>>;
}

/// Writes all pieces, in as many calls as it takes.
pub fn write_all_at<F: DiskFile>(
    file: &F,
    mut position: u64,
    mut pieces: &mut [IoSlice<'_>],
) -> io::Result<()> {
    IoSlice::advance_slices(&mut pieces, 0);
    while !pieces.is_empty() {
        match file.write_at(position, pieces) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                position += written as u64;
                IoSlice::advance_slices(&mut pieces, written);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads exactly `into.len()` bytes.
pub fn read_exact_at<F: DiskFile>(file: &F, position: u64, into: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < into.len() {
        match file.read_at(position + filled as u64, &mut into[filled..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => filled += read,
        }
    }
    Ok(())
}
