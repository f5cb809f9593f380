//! A file system of its own: in memory, or on an image, with a limit, read-only, or broken.

use crate::directory::temporary_directory;
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// `EXT4_IOC_SHUTDOWN`, and to do so without writing anything any more.
const SHUTDOWN: libc::c_ulong = 0x8004_587d;
static WITHOUT_FLUSH: u32 = 2;

/// Mounted until it is dropped. Needs root.
pub struct Mount {
    at: TempDir,
    /// What it is kept in, if not in memory.
    image: Option<(TempDir, PathBuf)>,
}

impl Mount {
    /// In memory; `options` as for `mount -o`, and with `,ro` at their end read-only.
    ///
    /// # Errors
    /// This process may not mount.
    pub fn tmpfs(options: &str) -> io::Result<Mount> {
        let at = temporary_directory();
        let (target, kind) = (path_of(at.path()), CString::new("tmpfs")?);
        let flags = if options.ends_with(",ro") { libc::MS_RDONLY } else { 0 };
        let options = CString::new(options.trim_end_matches(",ro"))?;
        // SAFETY: every pointer is to a string that lives across the call.
        let mounted = unsafe {
            let (source, kind) = (kind.as_ptr(), kind.as_ptr());
            libc::mount(source, target.as_ptr(), kind, flags, options.as_ptr().cast())
        };
        result(mounted).map(|()| Mount { at, image: None })
    }

    /// On an image of so many bytes, which keeps what it holds when it is mounted again.
    ///
    /// # Errors
    /// This process may not mount, or the tools are not there.
    pub fn ext4(bytes: u64) -> io::Result<Mount> {
        let kept = temporary_directory();
        let image = kept.path().join("image");
        File::create(&image)?.set_len(bytes)?;
        run(Command::new("mkfs.ext4").arg("-q").arg(&image))?;
        let mount = Mount { at: temporary_directory(), image: Some((kept, image)) };
        mount.mount_image()?;
        Ok(mount)
    }

    pub fn path(&self) -> &Path {
        self.at.path()
    }

    /// An image's file system becomes read-only, as the kernel does it after an error: whoever has files open or not.
    ///
    /// # Errors
    /// It did not.
    pub fn turn_read_only(&self) -> io::Result<()> {
        // It may report what it was asked for as an error of its own.
        let asked = run(Command::new("mount").args(["-o", "remount,abort"]).arg(self.path()));
        match File::create(self.path().join("probe")) {
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => Ok(()),
            Err(error) => Err(error),
            Ok(_) => asked.and(Err(io::Error::other("it can still be written to"))),
        }
    }

    /// # Errors
    /// Those of `mount(2)`.
    pub fn resize(&self, options: &str) -> io::Result<()> {
        let (target, options) = (path_of(self.path()), CString::new(options)?);
        let none = std::ptr::null();
        // SAFETY: every pointer is to a string that lives across the call, or is null where that is allowed.
        result(unsafe {
            let (target, options) = (target.as_ptr(), options.as_ptr().cast());
            libc::mount(none, target, none, libc::MS_REMOUNT, options)
        })
    }

    /// From now on every access to an image's file system is an I/O error; what was synced stays.
    ///
    /// # Errors
    /// It is not on an image.
    pub fn break_down(&self) -> io::Result<()> {
        let root = File::open(self.path())?;
        // SAFETY: the descriptor is open, and the number lives across the call.
        result(unsafe { libc::ioctl(root.as_raw_fd(), SHUTDOWN as _, &raw const WITHOUT_FLUSH) })
    }

    /// Takes an image away, and gives it back in order; nobody may use it meanwhile.
    ///
    /// # Errors
    /// Somebody uses it.
    pub fn mount_again(&self) -> io::Result<()> {
        run(Command::new("umount").arg(self.path()))?;
        self.mount_image()
    }

    fn mount_image(&self) -> io::Result<()> {
        let Some((_, image)) = &self.image else { return Err(io::ErrorKind::Unsupported.into()) };
        run(Command::new("mount").args(["-o", "loop"]).arg(image).arg(self.path()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let target = path_of(self.path());
        // SAFETY: the pointer is to a string that lives across the call.
        unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
        if let Some((_, image)) = &self.image {
            // The directory goes with it.
            let _ = fs::remove_file(image);
        }
    }
}

fn path_of(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("no zero inside")
}

fn result(returned: libc::c_int) -> io::Result<()> {
    if returned == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned())),
    }
}
