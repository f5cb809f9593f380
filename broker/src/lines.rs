//! What a node says, without waiting for whoever reads it.
//!
//! Lines go into a queue that is bounded in bytes; a thread of its own writes them. Whoever says something never
//! waits and never fails: a reader that has stopped, has left or has a full disk costs lines, which are counted
//! (`troupe_log_lines_lost_total`), and told of where they are missing as soon as something can be written again.
//! [`flush`] is for the end of a process, and bounded in time for the same reason.
//!
//! Never here: `std::io::stderr`, whose lock a blocked writer holds. (tracing-appender has such a queue too, but
//! tells of a reader that blocks it by writing to standard error itself.)

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A node that tells much tells some 200 bytes a line: five thousand lines.
const QUEUE_BYTES: usize = 1 << 20;

static LOST: AtomicU64 = AtomicU64::new(0);
static ALL: Mutex<Vec<Lines>> = Mutex::new(Vec::new());

/// Lines of this process that nobody will ever read.
pub(crate) fn lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// Waits until what was said before is written, or cannot be, but no longer than `patience`.
pub fn flush(patience: Duration) {
    let deadline = Instant::now() + patience;
    let all = lock(&ALL).clone();
    for lines in all {
        lines.written(deadline);
    }
}

/// A queue of lines and the thread that writes them.
#[derive(Clone, Debug)]
pub struct Lines(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// There is more to write.
    more: Condvar,
    /// There is nothing to write any more.
    empty: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    /// Of these lines and of the one that is being written.
    bytes: usize,
    /// Lines that did not fit behind the last one.
    missing: u64,
}

fn gap(missing: u64) -> Vec<u8> {
    format!("({missing} lines are missing here: nobody took them in time)\n").into_bytes()
}

impl Lines {
    /// To a descriptor of its own of `out`'s file, pipe or terminal.
    ///
    /// # Errors
    /// There is no descriptor or no thread for it.
    pub fn new(out: impl AsFd) -> io::Result<Lines> {
        let out = File::from(out.as_fd().try_clone_to_owned()?);
        let shared =
            Shared { queue: Mutex::default(), more: Condvar::new(), empty: Condvar::new() };
        let lines = Lines(Arc::new(shared));
        let writer = lines.clone();
        std::thread::Builder::new().name("lines".to_owned()).spawn(move || writer.write_to(out))?;
        lock(&ALL).push(lines.clone());
        Ok(lines)
    }

    /// Leaves a line, or several. What does not fit is lost.
    pub fn say(&self, line: Vec<u8>) {
        let mut queue = lock(&self.0.queue);
        if queue.bytes + line.len() > QUEUE_BYTES {
            queue.missing += 1;
            LOST.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if queue.missing > 0 {
            let gap = gap(std::mem::take(&mut queue.missing));
            queue.bytes += gap.len();
            queue.lines.push_back(gap);
        }
        queue.bytes += line.len();
        queue.lines.push_back(line);
        drop(queue);
        self.0.more.notify_one();
    }

    fn write_to(&self, mut out: File) {
        let mut unwritten = 0;
        loop {
            let mut queue = lock(&self.0.queue);
            while queue.lines.is_empty() {
                queue = self.0.more.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            let Some(line) = queue.lines.pop_front() else { continue };
            drop(queue);
            if unwritten > 0 && write_whole(&mut out, &gap(unwritten)).is_ok() {
                unwritten = 0;
            }
            if write_whole(&mut out, &line).is_err() {
                unwritten += 1;
                LOST.fetch_add(1, Ordering::Relaxed);
            }
            let mut queue = lock(&self.0.queue);
            queue.bytes -= line.len();
            if queue.bytes == 0 {
                self.0.empty.notify_all();
            }
        }
    }

    fn written(&self, deadline: Instant) {
        let mut queue = lock(&self.0.queue);
        while queue.bytes > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.0.empty.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// One call is one line, which is how `tracing` writes.
impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.say(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Nothing that is done under these locks can leave a queue half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Others may have made the pipe or terminal non-blocking: then "not now" means to wait, which this thread may.
fn write_whole(out: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut poll =
                    libc::pollfd { fd: out.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
                // SAFETY: one struct of ours, for the time of the call; the descriptor is open.
                unsafe { libc::poll(&raw mut poll, 1, -1) };
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    /// The counter is the process's.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

    #[test]
    fn whoever_says_something_waits_for_no_reader_and_is_told_what_was_lost() {
        let _turn = lock(&ONE_AT_A_TIME);
        let before = lost();
        let (mut reader, pipe) = io::pipe().unwrap();
        let lines = Lines::new(&pipe).unwrap();
        // Nobody reads: the pipe takes 64 KiB, the queue 1 MiB. Said in this thread, so this returns or never.
        let line = [b"x".repeat(1_023), b"\n".to_vec()].concat();
        for _ in 0..3_000 {
            lines.say(line.clone());
        }
        let dropped = lost() - before;
        assert!((1_500..2_900).contains(&dropped), "{dropped}");
        drop(pipe);
        let mut read = vec![0; line.len() * (3_000 - usize::try_from(dropped).unwrap())];
        reader.read_exact(&mut read).unwrap();
        lines.written(Instant::now() + Duration::from_secs(30));
        lines.say(b"again\n".to_vec());
        let mut last = [0; 6];
        let mut told = Vec::new();
        while &last != b"again\n" {
            last.rotate_left(1);
            reader.read_exact(&mut last[5..]).unwrap();
            told.push(last[5]);
        }
        assert!(String::from_utf8(told).unwrap().contains("lines are missing here"));
    }

    #[test]
    fn a_reader_that_has_left_costs_lines_and_nothing_else() {
        let _turn = lock(&ONE_AT_A_TIME);
        let before = lost();
        let (reader, pipe) = io::pipe().unwrap();
        drop(reader);
        let lines = Lines::new(&pipe).unwrap();
        for _ in 0..3 {
            lines.say(b"unheard\n".to_vec());
        }
        lines.written(Instant::now() + Duration::from_secs(30));
        assert_eq!(lost() - before, 3);
    }

    #[test]
    fn the_end_of_a_process_waits_for_a_blocked_reader_no_longer_than_it_wants() {
        let (_reader, pipe) = io::pipe().unwrap();
        let lines = Lines::new(&pipe).unwrap();
        lines.say(vec![b'x'; 200_000]);
        // Returns, though nobody reads.
        lines.written(Instant::now() + Duration::from_millis(10));
    }
}
