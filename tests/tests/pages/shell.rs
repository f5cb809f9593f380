//! A page's place: a directory that looks like the repository, a network in which 127.0.0.1 is its own, and shells in
//! which its commands are typed.
//!
//! Nothing of a page meets another page, or what else runs on the machine; and all that a page has started ends with
//! the shell, which is the first process of a process namespace. Making namespaces takes root.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{fs, io, thread};
use tempfile::TempDir;
use troupe_tests::{binary, clients_directory, temporary_directory, workspace};

/// For one command. Some of them build with tools that are slow when they are cold.
const COMMAND: Duration = Duration::from_secs(300);
/// Until a terminal shows what it is waited for.
const SHOWN: Duration = Duration::from_secs(60);

/// What a command came to.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub output: String,
}

/// See the module.
pub struct Place {
    directory: TempDir,
    inside: Shell,
    /// Where the registries of packages are; made when it is needed.
    outside: Option<Shell>,
    terminals: BTreeMap<String, PathBuf>,
    count: usize,
}

impl Place {
    /// # Errors
    /// Why this system lets none be made.
    pub fn new() -> Result<Place, String> {
        let directory = temporary_directory();
        prepare(directory.path()).map_err(|error| format!("no directory: {error}"))?;
        let mut command = Command::new("unshare");
        command.args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc", "bash"]);
        let inside = Shell::start(command, directory.path())
            .map_err(|error| format!("no namespaces: {error}"))?;
        let mut place =
            Place { directory, inside, outside: None, terminals: BTreeMap::new(), count: 0 };
        let ended = place.run("ip link set lo up", false)?;
        match ended.code {
            0 => Ok(place),
            _ => Err(format!("no network of its own: {}", ended.output)),
        }
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// Runs one command, with what those before have left: variables, directory, jobs.
    ///
    /// # Errors
    /// It did not end, or the shell did.
    pub fn run(&mut self, command: &str, with_registries: bool) -> Result<Ended, String> {
        self.count += 1;
        let state = self.state();
        let name = state.join(format!("command-{}", self.count));
        fs::write(&name, format!("{command}\n")).map_err(|error| error.to_string())?;
        if !with_registries {
            return self.inside.run(&name);
        }
        if self.outside.is_none() {
            let started = Shell::start(Command::new("bash"), self.directory.path());
            self.outside = Some(started.map_err(|error| format!("no shell: {error}"))?);
        }
        // What one shell has left, the other finds.
        let leave = state.join("leave");
        let come = state.join("come");
        let left = state.join("left");
        let left = left.display();
        fs::write(&leave, format!("export -p >{left}; pwd >{left}.pwd\n"))
            .and_then(|()| fs::write(&come, format!(". {left}; cd \"$(cat {left}.pwd)\"\n")))
            .map_err(|error| error.to_string())?;
        self.inside.run(&leave)?;
        let outside = self.outside.as_mut().ok_or("it has been made")?;
        outside.run(&come)?;
        let ended = outside.run(&name)?;
        outside.run(&leave)?;
        self.inside.run(&come)?;
        Ok(ended)
    }

    /// Whether a shell would run this as it is, or wait for the rest of it.
    pub fn is_complete(text: &str) -> bool {
        let mut command = Command::new("bash");
        command.args(["-n", "-c", text]).stdin(Stdio::null());
        // Of a document that does not end it only warns.
        let checked = command.output();
        !text.ends_with('\\')
            && checked.is_ok_and(|checked| checked.status.success() && checked.stderr.is_empty())
    }

    /// A terminal of its own in which a text is run, with what the commands before have set.
    ///
    /// # Errors
    /// It does not show what it is waited for; or, if that is nothing, anything.
    pub fn open(&mut self, name: &str, text: &str, until: Option<&str>) -> Result<(), String> {
        let at = self.state().join(format!("terminal-{name}-{}", self.count));
        fs::create_dir(&at).map_err(|error| error.to_string())?;
        fs::write(at.join("typed"), text).map_err(|error| error.to_string())?;
        let (at_text, run) = (at.display(), "script --quiet --flush --return");
        // With job control what is in the background hears Ctrl-C.
        let ended = self.run(
            &format!(
                "mkfifo {at_text}/keys && {{ set -m; {run} --command 'bash {at_text}/typed' \
                 {at_text}/shown <>{at_text}/keys >/dev/null 2>&1 & disown; set +m; }}"
            ),
            false,
        )?;
        if ended.code != 0 {
            return Err(ended.output);
        }
        self.terminals.insert(name.to_owned(), at);
        self.until_shown(name, 0, until)
    }

    /// What a terminal shows.
    pub fn shown(&self, name: &str) -> String {
        let at = self.terminals.get(name).map(|at| at.join("shown"));
        let bytes = at.and_then(|at| fs::read(at).ok()).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).replace('\r', "");
        // The first line is the recorder's own.
        text.split_once('\n').map(|(_, rest)| rest.to_owned()).unwrap_or_default()
    }

    fn until_shown(&self, name: &str, from: usize, what: Option<&str>) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            let shown = self.shown(name);
            let new = shown.get(from..).unwrap_or_default();
            let there = match what {
                Some(what) => new.contains(what),
                None => !new.trim().is_empty(),
            };
            if there {
                return Ok(());
            }
            if begun.elapsed() > SHOWN {
                let what = what.unwrap_or("anything");
                return Err(format!("does not show `{what}` in {SHOWN:?}, but:\n{shown}"));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Types into a terminal, and waits until it shows more than that.
    ///
    /// # Errors
    /// There is none, or it says nothing.
    pub fn type_into(&mut self, name: &str, keys: &str) -> Result<(), String> {
        let at = self.terminals.get(name).ok_or(format!("there is no terminal {name}"))?;
        let from = self.shown(name).len();
        fs::OpenOptions::new()
            .write(true)
            .open(at.join("keys"))
            .and_then(|mut file| file.write_all(keys.as_bytes()))
            .map_err(|error| error.to_string())?;
        // The keys themselves are shown too.
        let echoed = from + keys.trim_end().len() + 1;
        self.until_shown(name, echoed, None)
    }

    /// Ctrl-C in a terminal; returns when all in it has ended.
    ///
    /// # Errors
    /// It does not end.
    pub fn close(&mut self, name: &str) -> Result<(), String> {
        let at = self.terminals.get(name).ok_or(format!("there is no terminal {name}"))?;
        fs::write(at.join("keys"), "\u{3}").map_err(|error| error.to_string())?;
        let begun = Instant::now();
        // The recorder's last line.
        while !self.shown(name).contains("\nScript done on ") {
            if begun.elapsed() > SHOWN {
                return Err(format!("terminal {name} does not end:\n{}", self.shown(name)));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// What the terminals show, for whoever looks for what went wrong.
    pub fn said(&self) -> String {
        let of_one = |name: &String| {
            let shown = self.shown(name);
            let lines: Vec<&str> = shown.lines().collect();
            let last = lines[lines.len().saturating_sub(12)..].join("\n    ");
            format!("  terminal {name}:\n    {last}\n")
        };
        self.terminals.keys().map(of_one).collect()
    }
}

/// The directory: `home` looks like the repository, but for what is built; what is written there stays there.
fn prepare(directory: &Path) -> io::Result<()> {
    let [home, state, bin, cargo] =
        ["home", "state", "bin", "cargo/bin"].map(|name| directory.join(name));
    for made in [&home, &state, &bin, &cargo] {
        fs::create_dir_all(made)?;
    }
    for entry in fs::read_dir(workspace::root())? {
        let entry = entry?;
        let name = entry.file_name();
        let hidden = name.to_string_lossy().starts_with('.');
        if !hidden && name != "target" && name != "troupe-data" {
            std::os::unix::fs::symlink(entry.path(), home.join(name))?;
        }
    }
    std::os::unix::fs::symlink(binary(), bin.join("troupe"))?;
    // Builds take minutes, and this one is the same: what `cargo install` and `cargo run` would build has been built.
    // What else of cargo a page may type, it says why it is not run.
    let cargo = format!(
        "#!/bin/bash\n\
         case \"$*\" in\n\
         'install --path cli') grep -q 'name = \"troupe-cli\"' cli/Cargo.toml && ln -sf {0} \"$CARGO_HOME/bin/troupe\";;\n\
         'run --release -- '*) shift 3; exec {0} \"$@\";;\n\
         *) echo \"error: a page's cargo does not know: $*\" >&2; exit 101;;\n\
         esac\n",
        binary().display()
    );
    // One that pip has brought.
    let protoc = format!(
        "#!/bin/bash\nexec {}/venv/bin/python -m grpc_tools.protoc \"$@\"\n",
        clients_directory().display()
    );
    for (name, text) in [("cargo", cargo), ("protoc", protoc)] {
        fs::write(bin.join(name), text)?;
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(bin.join(name), executable)?;
    }
    Ok(())
}

/// A shell that runs one file after the other.
struct Shell {
    child: Child,
    typed: ChildStdin,
    codes: mpsc::Receiver<String>,
}

impl Shell {
    fn start(mut command: Command, directory: &Path) -> io::Result<Shell> {
        let path = std::env::var("PATH").unwrap_or_default();
        let (bin, cargo) = (directory.join("bin"), directory.join("cargo"));
        // What has been fetched once is there the next time, and nothing of it outside of the build's directory.
        let cached = |what: &str| clients_directory().join(what).display().to_string();
        command
            .current_dir(directory.join("home"))
            .env("PATH", format!("{}:{}/bin:{path}", bin.display(), cargo.display()))
            .env("CARGO_HOME", cargo)
            .env("NO_COLOR", "1")
            .env("COLUMNS", "120")
            .env("GOBIN", directory.join("bin"))
            .env("MAVEN_OPTS", format!("-Dmaven.repo.local={}", cached("maven")))
            .env("npm_config_cache", cached("npm"))
            .env("PIP_CACHE_DIR", cached("pip"))
            .env("PIP_DISABLE_PIP_VERSION_CHECK", "1")
            .env_remove("TROUPE_SERVER")
            .env_remove("TROUPE_LOG")
            .env_remove("PYTHONPATH")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn()?;
        let typed = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let answers = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let (sender, codes) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(answers).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut shell = Shell { child, typed, codes };
        // A pipe whose reader has seen enough is none of a page's faults.
        writeln!(shell.typed, "set -o pipefail; exec 3>&1 >/dev/null")?;
        Ok(shell)
    }

    fn run(&mut self, file: &Path) -> Result<Ended, String> {
        let shown = file.with_extension("output");
        writeln!(
            self.typed,
            ". {} </dev/null >{} 2>&1 3>&-; echo $? >&3",
            file.display(),
            shown.display()
        )
        .map_err(|error| format!("the shell has ended: {error}"))?;
        let output = || {
            let bytes = fs::read(&shown).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let code = match self.codes.recv_timeout(COMMAND) {
            Ok(code) => code.trim().parse().map_err(|_| format!("the shell says {code}"))?,
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err(format!("the shell has ended; {}", output()));
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                return Err(format!("does not end in {COMMAND:?}, and says:\n{}", output()));
            }
        };
        const BROKEN_PIPE: i32 = 128 + libc::SIGPIPE;
        Ok(Ended { code: if code == BROKEN_PIPE { 0 } else { code }, output: output() })
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // All that it has started goes with it: the kernel ends the process namespace.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
