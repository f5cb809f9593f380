//! Standard output and standard error: everything that the binary says passes here.
//!
//! - Results of a command go to standard output, and what cannot be written there fails the command.
//! - Notices go to standard error, and nothing depends on them: who does not listen ends nothing.
//! - A node, whose life must not depend on its readers at all, says both through queues ([`never_block`]).
//!
//! Never elsewhere: `println!` and its like, which panic when the reader has left; a test holds it.

use crate::exit;
use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::time::Duration;
use troupe_broker::lines::{self, Lines};

/// A pipe or terminal that says it takes something takes this much without waiting (POSIX's PIPE_BUF).
const PIPE_BUF: usize = 4096;
/// How often it is looked whether a signal came while nobody takes the results.
const POLL_MS: libc::c_int = 50;
/// For what was said last, at the end.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

struct Queues {
    results: Lines,
    notices: Lines,
}

static QUEUES: OnceLock<Queues> = OnceLock::new();

/// From now on nobody in this process waits for a reader of its words, and none of them can fail: a node is
/// started here. What is lost is counted.
///
/// # Errors
/// There are no threads for it.
pub fn never_block() -> io::Result<()> {
    if QUEUES.get().is_some() {
        return Ok(());
    }
    let queues = Queues { results: Lines::new(io::stdout())?, notices: Lines::new(io::stderr())? };
    if QUEUES.set(queues).is_ok() {
        std::panic::set_hook(Box::new(report_panic));
    }
    Ok(())
}

/// Writes all of it to standard output, past std's buffer.
///
/// # Errors
/// Its disk is full or its reader has left; [`io::ErrorKind::Interrupted`]: it takes nothing, and a signal has
/// come in the meantime.
pub fn write_results(bytes: &[u8]) -> io::Result<()> {
    write_results_counted(bytes, &mut 0)
}

/// The same; `taken` grows by what was taken, also of what could not be written whole.
///
/// # Errors
/// As [`write_results`].
pub fn write_results_counted(bytes: &[u8], taken: &mut u64) -> io::Result<()> {
    match QUEUES.get() {
        Some(queues) => {
            queues.results.say(bytes.to_vec());
            *taken += bytes.len() as u64;
            Ok(())
        }
        None => write_until_signalled(libc::STDOUT_FILENO, bytes, taken),
    }
}

/// Standard output for whoever has a buffer of their own.
pub struct Results;

impl Write for Results {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write_results(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One line for people, on standard error: what goes on, or what is worth knowing beside the results.
macro_rules! notice {
    ($($text:tt)*) => {
        $crate::streams::write_notice(format_args!("{}\n", format_args!($($text)*)))
    };
}
pub(crate) use notice;

/// As [`notice!`], without an end of line.
pub fn write_notice(text: fmt::Arguments<'_>) {
    let text = text.to_string().into_bytes();
    // If nobody hears it: it was a notice.
    let _ = Notices.write_all(&text);
}

/// Where `tracing` writes.
pub struct Notices;

impl Write for Notices {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match QUEUES.get() {
            Some(queues) => queues.notices.say(bytes.to_vec()),
            None => drop(io::stderr().write_all(bytes)),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether a terminal shall be coloured.
pub fn colours() -> bool {
    std::env::var_os("NO_COLOR").is_none()
}

/// Whether the terminal at standard error is this process's to draw on: not if its shell has sent it to the background.
pub fn is_foreground() -> bool {
    // SAFETY: system calls on numbers, which change nothing.
    let (group, own) = unsafe { (libc::tcgetpgrp(libc::STDERR_FILENO), libc::getpgrp()) };
    group == -1 || group == own
}

/// For the end of the process, whichever way it ends: what was said is written, as far as somebody takes it.
pub struct FinishGuard;

impl Drop for FinishGuard {
    fn drop(&mut self) {
        finish();
    }
}

pub fn finish() {
    if QUEUES.get().is_some() {
        lines::flush(FLUSH_TIMEOUT);
    }
}

/// What file systems tell late, of what was written to standard output: some only when it is closed.
///
/// # Errors
/// As they tell it.
pub fn check_results() -> io::Result<()> {
    if QUEUES.get().is_some() {
        return Ok(());
    }
    let out = io::stdout().as_fd().try_clone_to_owned()?;
    // SAFETY: the descriptor is this function's own, and given away here.
    match unsafe { libc::close(std::os::fd::IntoRawFd::into_raw_fd(out)) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// As the standard library tells a panic, but not waiting for anybody.
fn report_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("<unnamed>");
    let backtrace = std::backtrace::Backtrace::capture();
    let mut text = format!("thread '{name}' {panic}\n");
    if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
        text += &format!("{backtrace}");
    }
    write_notice(format_args!("{text}"));
}

/// A reader that takes nothing must not keep a command that a signal has told to end.
fn write_until_signalled(descriptor: RawFd, bytes: &[u8], taken: &mut u64) -> io::Result<()> {
    // SAFETY: standard output is open as long as the process is, and not closed here.
    let mut out = ManuallyDrop::new(unsafe { File::from_raw_fd(descriptor) });
    let kind = out.metadata()?.file_type();
    let may_block = kind.is_fifo() || kind.is_socket() || out.is_terminal();
    let mut left = bytes;
    while !left.is_empty() {
        let mut next = left;
        if may_block {
            if !is_writable(&out)? {
                if exit::caught().is_some() {
                    let cause = "nobody takes it, and a signal has told to end";
                    return Err(io::Error::new(io::ErrorKind::Interrupted, cause));
                }
                continue;
            }
            next = &left[..left.len().min(PIPE_BUF)];
        }
        match out.write(next) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                left = &left[written..];
                *taken += written as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Waits a moment for it. Also true if writing would fail: the reason is told by trying.
fn is_writable(out: &File) -> io::Result<bool> {
    let mut poll = libc::pollfd { fd: out.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: one struct of ours, for the time of the call.
    match unsafe { libc::poll(&raw mut poll, 1, POLL_MS) } {
        0 => Ok(false),
        1.. => Ok(true),
        _ => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            error => Err(error),
        },
    }
}
