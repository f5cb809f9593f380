//! The built binary as a process: started, asked, killed, started again on the same directory.
//!
//! Processes are ended by their own handle, never by name, and never outlive the tests: the kernel kills
//! them with the thread that started them, and that one lives as long as the tests' own process.

use crate::directory::{target, temporary_directory};
use crate::patience::{PATIENCE, eventually};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::time::{Duration, Instant};
use std::{io, thread};
use tempfile::TempDir;

/// The `troupe` binary of this build.
///
/// `cargo test --workspace` builds it; `cargo test -p troupe-tests` alone does not.
pub fn binary() -> PathBuf {
    built("troupe")
}

/// An example of the SDK, of this build. As [`binary`].
pub fn example(name: &str) -> PathBuf {
    built(&format!("examples/{name}"))
}

fn built(name: &str) -> PathBuf {
    let executable = std::env::current_exe().expect("a test executable has a path");
    let profile = executable.ancestors().nth(2).expect("target/PROFILE/deps/NAME");
    let built = profile.join(name);
    assert!(
        built.is_file(),
        "{} is not there: run `cargo build --workspace --examples --bins{}` first",
        built.display(),
        if profile.ends_with("release") { " --release" } else { "" }
    );
    built
}

/// Where the client scripts find their packages and stubs.
pub fn clients_directory() -> PathBuf {
    target().join("clients")
}

/// How a process is started.
#[derive(Clone, Debug, Default)]
pub struct Serve {
    /// Pairs `key=value` for `--set`.
    pub settings: Vec<String>,
    /// `host:port` for the gRPC listener; a free port otherwise.
    pub listener: Option<String>,
    /// The largest file that the process may write.
    pub file_size_limit: Option<u64>,
    /// How many files the process may have open.
    pub descriptor_limit: Option<u64>,
    /// The network namespace that it lives in, if it is not that of the tests.
    pub namespace: Option<Arc<OwnedFd>>,
}

/// How a process ended that did not serve.
#[derive(Debug)]
pub struct Exit {
    pub status: ExitStatus,
    pub stderr: String,
}

/// A node that runs.
pub struct Process {
    child: Child,
    server: String,
    http: String,
    stderr: Captured,
    started: Duration,
}

impl Process {
    /// Starts a node on `directory` and waits until it says where it listens.
    pub fn start(directory: &Path, serve: &Serve) -> Result<Process, Exit> {
        let starting = Starting::spawn(directory, serve);
        match starting.line.recv_timeout(PATIENCE) {
            Ok(line) => Ok(starting.serves(&line)),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(starting.ended()),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let said = starting.stderr.so_far();
                panic!("the node does not serve within {PATIENCE:?}; it said:\n{said}")
            }
        }
    }

    /// Starts a node on a new directory.
    pub fn start_new(serve: &Serve) -> (TempDir, Process) {
        let directory = temporary_directory();
        let process = Process::start(directory.path(), serve)
            .unwrap_or_else(|exit| panic!("the node ended: {}\n{}", exit.status, exit.stderr));
        (directory, process)
    }

    /// Starts a node and kills it `after` a while, wherever it is in its start by then.
    pub fn start_and_kill(directory: &Path, serve: &Serve, after: Duration) {
        let mut starting = Starting::spawn(directory, serve);
        // Chance decides how far it comes; nothing is waited for.
        thread::sleep(after);
        kill(starting.child());
    }

    /// `host:port` of the gRPC listener.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// `host:port` of the HTTP listener.
    pub fn http(&self) -> &str {
        &self.http
    }

    /// From the start of the process to the line that says where it listens.
    pub fn start_time(&self) -> Duration {
        self.started
    }

    /// Bytes of memory that are resident.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("a process that runs has a status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.expect("the status says how much memory is resident") << 10
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `SIGSTOP`; returns when every thread stands still.
    pub async fn pause(&self) {
        signal(&self.child, libc::SIGSTOP);
        eventually("SIGSTOP stops the process", async || (self.state() == 'T').then_some(())).await;
    }

    /// `SIGCONT`.
    pub fn resume(&self) {
        signal(&self.child, libc::SIGCONT);
    }

    /// What the kernel says of it: `R` and `S` run, `T` is stopped, `Z` has ended.
    pub fn state(&self) -> char {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        // The name before it stands in parentheses, and may hold anything.
        let state = stat.ok().and_then(|stat| stat.rsplit_once(") ")?.1.chars().next());
        state.expect("a child that has not been waited for has a state")
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What the process wrote to standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.so_far()
    }

    /// `kill -9`; how it ended.
    pub fn kill(mut self) -> ExitStatus {
        // It may have ended by itself; the status says so.
        let _ = self.child.kill();
        self.child.wait().expect("a child can be waited for")
    }

    /// `SIGTERM`, and waits for the end. Not blocking: connections of the test have a part in it.
    pub async fn terminate(self) -> ExitStatus {
        self.ask_to_stop();
        self.ended().await
    }

    /// Waits for a process that nobody has asked to end.
    pub(crate) async fn ended_by_itself(self) -> Exit {
        let said = self.stderr.clone();
        Exit { status: self.ended().await, stderr: said.whole() }
    }

    /// `SIGTERM`. A second one ends the process at once.
    pub(crate) fn ask_to_stop(&self) {
        signal(&self.child, libc::SIGTERM);
    }

    pub(crate) async fn ended(mut self) -> ExitStatus {
        eventually("the process ends", async || {
            self.child.try_wait().expect("a child can be waited for")
        })
        .await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        kill(&mut self.child);
    }
}

/// What a process writes to standard error, collected by a thread of its own.
#[derive(Clone)]
pub(crate) struct Captured {
    text: Arc<Mutex<String>>,
    ended: Arc<Mutex<Option<thread::JoinHandle<()>>>>,
}

impl Captured {
    fn new(stderr: ChildStderr) -> Captured {
        let text = Arc::new(Mutex::new(String::new()));
        let collected = Arc::clone(&text);
        let thread = thread::spawn(move || {
            let mut lines = BufReader::new(stderr);
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                let mut text = collected.lock().unwrap_or_else(PoisonError::into_inner);
                text.push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        Captured { text, ended: Arc::new(Mutex::new(Some(thread))) }
    }

    pub(crate) fn so_far(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// After the process has ended.
    fn whole(&self) -> String {
        let thread = self.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // It only reads; what it collected counts in any case.
            let _ = thread.join();
        }
        self.so_far()
    }
}

/// A process that has not said yet where it listens.
pub(crate) struct Starting {
    child: Option<Child>,
    stderr: Captured,
    line: mpsc::Receiver<String>,
    since: Instant,
}

impl Starting {
    pub(crate) fn spawn(directory: &Path, serve: &Serve) -> Starting {
        let listener = serve.listener.as_deref().unwrap_or("127.0.0.1:0");
        let mut command = Command::new(binary());
        command.arg("serve").args(["--output", "json"]);
        let named = serve.settings.iter().any(|setting| setting.starts_with("listeners="));
        let listener = (!named).then(|| format!("listener={listener}"));
        let settings = [
            "http.listener=127.0.0.1:0".to_owned(),
            format!("log.dir={}", directory.display()),
            "chaos.enable=true".to_owned(),
        ];
        for setting in listener.iter().chain(&settings).chain(&serve.settings) {
            command.args(["--set", setting]);
        }
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TROUPE_") {
                command.env_remove(name);
            }
        }
        // What the quorum's library says at every heartbeat that fails would hide everything else.
        command.env("TROUPE_LOG", "info,openraft=error");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let (limit, descriptors) = (serve.file_size_limit, serve.descriptor_limit);
        // `serve` holds it open until after the start.
        let namespace = serve.namespace.as_ref().map(|namespace| namespace.as_raw_fd());
        // SAFETY: between fork and exec only system calls that are safe there, on values made before.
        unsafe {
            command.pre_exec(move || {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                if let Some(namespace) = namespace
                    && libc::setns(namespace, libc::CLONE_NEWNET) != 0
                {
                    return Err(io::Error::last_os_error());
                }
                if let Some(bytes) = limit {
                    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
                    libc::setrlimit(libc::RLIMIT_FSIZE, &limit);
                    // A write over the limit is an error, not the end of the process.
                    libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
                }
                if let Some(descriptors) = descriptors {
                    let limit = libc::rlimit { rlim_cur: descriptors, rlim_max: descriptors };
                    libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
                }
                Ok(())
            });
        }
        let since = Instant::now();
        let mut child = spawn_to_stay(command).expect("the binary can be started");
        let stdout = child.stdout.take().expect("it was asked for");
        let stderr = Captured::new(child.stderr.take().expect("it was asked for"));
        let (sender, line) = mpsc::channel();
        thread::spawn(move || {
            let mut lines = BufReader::new(stdout);
            let mut line = String::new();
            if lines.read_line(&mut line).is_ok_and(|length| length > 0) {
                // Nobody waits for it if the process was killed.
                let _ = sender.send(line);
            }
            // Standard output stays open, so that a later line does not end the process.
            let _ = lines.read_to_end(&mut Vec::new());
        });
        Starting { child: Some(child), stderr, line, since }
    }

    /// Waits for the line without blocking: nodes of a cluster start together.
    pub(crate) async fn done(self) -> Result<Process, Exit> {
        let line = eventually("the node serves, or ends", async || match self.line.try_recv() {
            Ok(line) => Some(Some(line)),
            Err(mpsc::TryRecvError::Disconnected) => Some(None),
            Err(mpsc::TryRecvError::Empty) => None,
        })
        .await;
        match line {
            Some(line) => Ok(self.serves(&line)),
            None => Err(self.ended()),
        }
    }

    pub(crate) fn said(&self) -> Captured {
        self.stderr.clone()
    }

    fn serves(mut self, line: &str) -> Process {
        let announced: serde_json::Value =
            serde_json::from_str(line).expect("one line of JSON says where it listens");
        let text = |key: &str| announced[key].as_str().unwrap_or_default().to_owned();
        Process {
            server: text("grpc"),
            http: text("http"),
            started: self.since.elapsed(),
            stderr: self.stderr.clone(),
            child: self.child.take().expect("only this takes it"),
        }
    }

    fn ended(mut self) -> Exit {
        let status = self.child().wait().expect("a child can be waited for");
        Exit { status, stderr: self.stderr.whole() }
    }

    fn child(&mut self) -> &mut Child {
        self.child.as_mut().expect("it was not taken")
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            kill(child);
        }
    }
}

/// Starts a process from a thread that lives as long as this process: whichever thread asks may end.
fn spawn_to_stay(command: Command) -> io::Result<Child> {
    type Order = (Command, mpsc::Sender<io::Result<Child>>);
    static KEEPER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let keeper = KEEPER.get_or_init(|| {
        let (sender, orders) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in orders {
                // Who asked waits for it.
                let _ = answer.send(command.spawn());
            }
        });
        sender
    });
    let (answer, spawned) = mpsc::channel();
    keeper.send((command, answer)).expect("the keeper never ends");
    spawned.recv().expect("the keeper answers")
}

fn signal(child: &Child, number: libc::c_int) {
    let pid = libc::pid_t::try_from(child.id()).expect("process ids are small");
    // SAFETY: a system call without pointers, on a child that has not been waited for.
    unsafe { libc::kill(pid, number) };
}

fn kill(child: &mut Child) {
    // It may have ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}
