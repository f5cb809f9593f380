//! Real text through the command line and back: the sources of the machine's Python library, with their
//! blank lines, tabs, UTF-8 and whatever is no UTF-8. The bytes that come out are those that went in.
//!
//! The whole of it, 2 000 000 lines in every compression, with figures:
//! `cargo test --release -p troupe-tests --test real_input -- --ignored --nocapture`
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;
use troupe_tests::{Process, Serve, binary, in_ci, skip, temporary_directory};

const COMPRESSIONS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// Every `.py` file of the Python library behind each other, again and again up to `lines` lines.
fn python_library(lines: usize) -> Option<Vec<u8>> {
    let ask = "import sysconfig; print(sysconfig.get_paths()['stdlib'])";
    let output = Command::new("python3").args(["-c", ask]).output().ok()?;
    let library = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    let mut files = Vec::new();
    sources(&library, &mut files);
    files.sort();
    // Not every byte of a source is UTF-8; this one surely is not.
    let mut once = b"# caf\xe9 \xff\xfe\n".to_vec();
    for file in files {
        once.extend(fs::read(file).ok()?);
        if !once.ends_with(b"\n") {
            once.push(b'\n');
        }
    }
    let mut text = Vec::new();
    let mut left = lines;
    while left > 0 {
        for line in once.split_inclusive(|&byte| byte == b'\n') {
            text.extend_from_slice(line);
            left -= 1;
            if left == 0 {
                break;
            }
        }
    }
    Some(text)
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => sources(&path, found),
            Ok(kind) if kind.is_file() && path.extension().is_some_and(|one| one == "py") => {
                found.push(path);
            }
            _ => {}
        }
    }
}

/// The command line, speaking to a node.
struct Cli<'a> {
    server: &'a str,
}

impl Cli<'_> {
    /// Runs a command with files as its input and output. Gives the seconds it took.
    fn run(&self, arguments: &[&str], input: Option<&Path>, output: Option<&Path>) -> f64 {
        let began = Instant::now();
        let stdin = input.map_or(Stdio::null(), |path| fs::File::open(path).unwrap().into());
        let stdout = output.map_or(Stdio::null(), |path| fs::File::create(path).unwrap().into());
        let child = Command::new(binary())
            .args(arguments)
            .args(["--server", self.server, "--no-progress"])
            .stdin(stdin)
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn();
        let output = child.unwrap().wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "troupe {}: {said}", arguments.join(" "));
        began.elapsed().as_secs_f64()
    }
}

/// Produces and consumes `lines` lines; `true`: they were tried.
fn there_and_back(test: &str, lines: usize, compressions: &[&str]) {
    let Some(text) = python_library(lines) else {
        assert!(!in_ci(), "{test}: there is no Python library to send");
        return skip(test, "there is no Python library to send");
    };
    let files = temporary_directory();
    let (input, output) = (files.path().join("input"), files.path().join("output"));
    fs::write(&input, &text).unwrap();
    let (_data, node) = Process::start_new(&Serve::default());
    let cli = Cli { server: node.server() };
    let rate = |seconds: f64| lines as f64 / seconds;
    println!("{lines} lines, {} bytes", text.len());
    for compression in compressions {
        cli.run(&["topic", "create", compression], None, None);
        let produce = ["produce", compression, "--compression", compression];
        let produced = cli.run(&produce, Some(&input), None);
        let consume = ["consume", compression, "--from-beginning", "--until-end"];
        let consumed = cli.run(&consume, None, Some(&output));
        assert!(fs::read(&output).unwrap() == text, "{compression}: the bytes are not the same");
        println!(
            "{compression:>6}: {:9.0} lines/s in, {:9.0} lines/s out",
            rate(produced),
            rate(consumed)
        );
    }
    keyed(&cli, &text, files.path(), compressions);
}

/// Six partitions: for every key, the lines come back in their order.
fn keyed(cli: &Cli<'_>, text: &[u8], files: &Path, compressions: &[&str]) {
    let (input, output) = (files.join("keyed"), files.join("keyed-output"));
    let mut lines = Vec::with_capacity(text.len() * 2);
    for (n, line) in text.split_inclusive(|&byte| byte == b'\n').enumerate() {
        lines.extend_from_slice(format!("key{}|{n} ", n % 997).as_bytes());
        lines.extend_from_slice(line);
    }
    fs::write(&input, &lines).unwrap();
    for compression in compressions {
        let topic = format!("keyed-{compression}");
        cli.run(&["topic", "create", &topic, "-p", "6"], None, None);
        let produce = ["produce", &topic, "--key-separator", "|", "--compression", compression];
        cli.run(&produce, Some(&input), None);
        let consume = ["consume", &topic, "--from-beginning", "--until-end", "-f", "%p/%k|%v\\n"];
        cli.run(&consume, None, Some(&output));
        let found = fs::read(&output).unwrap();
        let mut by_key: HashMap<&[u8], Vec<&[u8]>> = HashMap::new();
        let mut partitions: HashMap<&[u8], &[u8]> = HashMap::new();
        for line in found.split_inclusive(|&byte| byte == b'\n') {
            let slash = line.iter().position(|&byte| byte == b'/').unwrap();
            let bar = line.iter().position(|&byte| byte == b'|').unwrap();
            let (partition, key) = (&line[..slash], &line[slash + 1..bar]);
            assert_eq!(*partitions.entry(key).or_insert(partition), partition);
            by_key.entry(key).or_default().push(&line[slash + 1..]);
        }
        let mut expected: HashMap<&[u8], Vec<&[u8]>> = HashMap::new();
        for line in lines.split_inclusive(|&byte| byte == b'\n') {
            let bar = line.iter().position(|&byte| byte == b'|').unwrap();
            expected.entry(&line[..bar]).or_default().push(line);
        }
        assert!(by_key == expected, "{compression}: the order of some key is not the same");
        let used: std::collections::BTreeSet<_> = partitions.into_values().collect();
        assert_eq!(used.len(), 6, "{compression}");
    }
}

#[test]
fn real_text_comes_back_byte_for_byte() {
    there_and_back("real_text_comes_back_byte_for_byte", 100_000, &["none", "zstd"]);
}

#[test]
#[ignore = "takes minutes without --release; a part of it is run always"]
fn two_million_lines_come_back_byte_for_byte() {
    let test = "two_million_lines_come_back_byte_for_byte";
    there_and_back(test, 2_000_000, &COMPRESSIONS);
}
