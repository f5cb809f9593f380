//! What the machine itself can do: bytes over TCP loopback in writes of 1 MiB, dropped by the receiver,
//! written to a file, or written and made durable by group commit. Sender and receiver are two processes,
//! one thread each (and one that flushes), as client and node are.
//!
//! ```text
//! request: mode (1 byte), total (8 bytes, little endian), the bytes        answer: 1 byte when all is done
//! ```

use crate::failure::{Context, Failure};
use crate::streams::write_results;
use clap::Args;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

const CHUNK: usize = 1 << 20;

/// What the receiver does with the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Mode {
    /// Drops them.
    Discard = 0,
    /// pwrite of each MiB to a new file.
    Write = 1,
    /// The same, and an fdatasync for all that came while the last one ran.
    Sync = 2,
}

impl Mode {
    pub const ALL: [Mode; 3] = [Mode::Discard, Mode::Write, Mode::Sync];

    pub fn name(self) -> &'static str {
        match self {
            Mode::Discard => "TCP loopback",
            Mode::Write => "TCP to pwrite",
            Mode::Sync => "TCP to pwrite and fdatasync",
        }
    }
}

#[derive(Debug, Args)]
pub struct RawReceiver {
    /// Where the file is made
    #[arg(long)]
    dir: PathBuf,
}

/// The receiver's side: serves measurements until its standard input ends, which is when its parent does.
pub fn receive(receiver: &RawReceiver) -> Result<(), Failure> {
    let what = || "the raw receiver failed".to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").with_context(what)?;
    let address = listener.local_addr().with_context(what)?;
    write_results(format!("{address}\n").as_bytes()).with_context(what)?;
    std::thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(0);
    });
    let mut buffer = vec![0; CHUNK];
    loop {
        let (stream, _) = listener.accept().with_context(what)?;
        let path = receiver.dir.join("raw");
        let served = serve(stream, &path, &mut buffer);
        let _ = std::fs::remove_file(&path);
        served.with_context(what)?;
    }
}

fn serve(mut stream: TcpStream, path: &Path, buffer: &mut [u8]) -> io::Result<()> {
    let mut head = [0; 9];
    stream.read_exact(&mut head)?;
    let [mode, total @ ..] = head;
    let total = u64::from_le_bytes(total);
    let file = match mode {
        0 => None,
        _ => Some(Arc::new(File::create(path)?)),
    };
    let flusher = file.clone().filter(|_| mode == Mode::Sync as u8).map(Flusher::start);
    let mut done = 0;
    while done < total {
        let len = usize::try_from(total - done).unwrap_or(CHUNK).min(CHUNK);
        let chunk = &mut buffer[..len];
        stream.read_exact(chunk)?;
        if let Some(file) = &file {
            file.write_all_at(chunk, done)?;
        }
        done += len as u64;
        if let Some(flusher) = &flusher {
            flusher.written(done);
        }
    }
    if let Some(flusher) = flusher {
        flusher.finish()?;
    }
    stream.write_all(&[1])
}

/// A thread that makes durable what was written while its last fdatasync ran.
struct Flusher {
    progress: Arc<(Mutex<Progress>, Condvar)>,
    thread: std::thread::JoinHandle<io::Result<()>>,
}

#[derive(Default)]
struct Progress {
    written: u64,
    last: bool,
}

impl Flusher {
    fn start(file: Arc<File>) -> Flusher {
        let progress = Arc::new((Mutex::new(Progress::default()), Condvar::new()));
        let seen = progress.clone();
        let thread = std::thread::spawn(move || {
            let (lock, changed) = &*seen;
            let mut synced = 0;
            loop {
                let guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
                let idle = |p: &mut Progress| p.written == synced && !p.last;
                let guard = changed.wait_while(guard, idle).unwrap_or_else(PoisonError::into_inner);
                let target = guard.written;
                drop(guard);
                if target == synced {
                    return Ok(());
                }
                file.sync_data()?;
                synced = target;
            }
        });
        Flusher { progress, thread }
    }

    fn change(&self, change: impl FnOnce(&mut Progress)) {
        let (lock, changed) = &*self.progress;
        change(&mut lock.lock().unwrap_or_else(PoisonError::into_inner));
        changed.notify_one();
    }

    fn written(&self, end: u64) {
        self.change(|progress| progress.written = end);
    }

    fn finish(self) -> io::Result<()> {
        self.change(|progress| progress.last = true);
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the flusher panicked")))
    }
}

/// The sender's side: a receiver in a process of its own.
pub struct Raw {
    child: Child,
    address: SocketAddr,
    buffer: Vec<u8>,
}

impl Raw {
    pub fn start(dir: &Path) -> io::Result<Raw> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["bench", "raw-receiver", "--dir"])
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| io::Error::other("no pipe"))?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.trim().parse().map_err(io::Error::other)?;
        Ok(Raw { child, address, buffer: vec![0x5a; CHUNK] })
    }

    /// Sends `total` bytes and waits until the receiver is done with them.
    pub fn measure(&self, mode: Mode, total: u64) -> io::Result<Duration> {
        let mut stream = TcpStream::connect(self.address)?;
        let started = Instant::now();
        let mut head = vec![mode as u8];
        head.extend(total.to_le_bytes());
        stream.write_all(&head)?;
        let mut left = total;
        while left > 0 {
            let len = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            stream.write_all(&self.buffer[..len])?;
            left -= len as u64;
        }
        stream.read_exact(&mut [0])?;
        Ok(started.elapsed())
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // It would end by itself when its standard input does; this is sooner.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_receiver_takes_every_byte_in_every_mode() {
        let dir = tempfile::tempdir().unwrap();
        for mode in Mode::ALL {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let path = dir.path().join(format!("raw-{}", mode as u8));
            let total = 2 * CHUNK as u64 + 17;
            let receiver = {
                let path = path.clone();
                std::thread::spawn(move || {
                    let (stream, _) = listener.accept().unwrap();
                    serve(stream, &path, &mut vec![0; CHUNK]).unwrap();
                })
            };
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(&[mode as u8]).unwrap();
            stream.write_all(&total.to_le_bytes()).unwrap();
            stream.write_all(&vec![7; total as usize]).unwrap();
            stream.read_exact(&mut [0]).unwrap();
            receiver.join().unwrap();
            let written = std::fs::metadata(&path).map(|metadata| metadata.len()).ok();
            assert_eq!(written, (mode != Mode::Discard).then_some(total));
        }
    }
}
