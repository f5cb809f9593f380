//! What somebody sees who types at a terminal: transcripts through a pseudo-terminal.

mod support;

use nix::sys::wait::WaitStatus;
use rexpect::session::{PtySession, spawn_command};
use std::path::Path;
use std::process::Command;
use support::{Dev, command};

/// For what comes at once, on a machine that has much to do.
const PATIENCE_MS: u64 = 60_000;

fn at_terminal(dev: &Dev, arguments: &[&str]) -> PtySession {
    let mut command = command(arguments);
    command.env("TROUPE_SERVER", &dev.server).env_remove("NO_COLOR").env("TERM", "xterm");
    spawn_command(command, Some(PATIENCE_MS)).expect("a pseudo-terminal")
}

fn code(session: &PtySession) -> i32 {
    match session.process().wait().expect("it ends") {
        WaitStatus::Exited(_, code) => code,
        other => panic!("{other:?}"),
    }
}

/// Everything until the end, and the exit code.
fn seen(dev: &Dev, arguments: &[&str]) -> (String, i32) {
    let mut session = at_terminal(dev, arguments);
    let text = session.exp_eof().expect("it ends");
    (text, code(&session))
}

/// Spinners and bars: what a line is drawn over with.
fn is_drawn_over(text: &str) -> bool {
    text.contains("\x1b[2K") || text.contains('⠁') || text.contains('█')
}

#[test]
fn interactive_produce_prompts_and_says_that_ctrl_d_ends() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    dev.run(&["topic", "create", "orders"]).ok();
    let mut session = at_terminal(&dev, &["produce", "orders"]);
    let mut text = session.exp_string("Ctrl-D ends").unwrap();
    text += &session.exp_string("> ").unwrap();
    session.send_line("hello").unwrap();
    text += &session.exp_string("> ").unwrap();
    session.send_line("world").unwrap();
    text += &session.exp_string("> ").unwrap();
    session.send_control('d').unwrap();
    text += &session.exp_string("2 delivered").unwrap();
    text += &session.exp_eof().unwrap();
    assert_eq!(code(&session), 0, "{text}");
    assert!(!is_drawn_over(&text), "no bar where somebody types: {text:?}");
    assert!(!text.contains("records/s"), "how fast one types is no rate: {text:?}");
    let read = dev.run(&["consume", "orders", "-b", "-e"]).ok();
    assert_eq!(read.text(), "hello\nworld\n");
}

#[test]
fn a_misspelt_topic_is_told_before_anything_is_typed() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    dev.run(&["topic", "create", "orders"]).ok();
    let (text, code) = seen(&dev, &["produce", "ordres"]);
    assert_eq!(code, 3, "{text}");
    assert!(!text.contains("Ctrl-D") && text.contains("did you mean 'orders'?"), "{text}");
    assert!(text.contains("\x1b[1;31merror:\x1b[0m"), "in colour: {text:?}");
}

#[test]
fn a_question_is_asked_at_a_terminal_and_only_yes_is_yes() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    dev.run(&["topic", "create", "orders", "-p", "2"]).ok();
    for (answer, code_of_it, said) in
        [("", 1, "nothing was done"), ("y", 0, "deleted topic orders")]
    {
        let mut session = at_terminal(&dev, &["topic", "rm", "orders"]);
        session.exp_string("Delete topic orders (2 partitions, 1 replica)").unwrap();
        session.exp_string("[y/N] ").unwrap();
        session.send_line(answer).unwrap();
        session.exp_string(said).unwrap();
        session.exp_eof().unwrap();
        assert_eq!(code(&session), code_of_it);
    }
}

/// A shell whose `troupe` is this one.
fn shell(dev: &Dev) -> PtySession {
    let program = Path::new(env!("CARGO_BIN_EXE_troupe"));
    let directory = program.parent().expect("it is in a directory").display();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut bash = Command::new("bash");
    bash.args(["--norc", "--noprofile", "-i"]).env("PATH", format!("{directory}:{path}"));
    bash.env("TROUPE_SERVER", &dev.server).env("PS1", "$ ").env("TERM", "dumb");
    bash.env("TROUPE_LOG", "error").env("HISTFILE", "/dev/null");
    let mut bash = spawn_command(bash, Some(PATIENCE_MS)).expect("a pseudo-terminal");
    // As at a terminal of one's own: else the shell's editor does not show what is typed either.
    bash.send_line("stty echo; echo rea''dy").expect("the shell answers");
    bash.exp_string("ready").expect("the shell answers");
    bash.exp_string("$ ").expect("the shell answers");
    bash
}

#[test]
fn a_shell_completes_commands_and_live_names() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    dev.run(&["topic", "create", "orders-of-today"]).ok();
    dev.run_with(&["produce", "orders-of-today"], b"x\n").ok();
    dev.run(&["consume", "orders-of-today", "-g", "billing-of-today", "-b", "-e"]).ok();
    let mut bash = shell(&dev);
    bash.send_line("source <(troupe completion bash); echo sour''ced").unwrap();
    bash.exp_string("sourced").unwrap();
    bash.exp_string("$ ").unwrap();
    for (typed, completed) in [
        ("troupe top\t", "troupe topic"),
        ("troupe topic describe ord\t", "troupe topic describe orders-of-today"),
        ("troupe consume ord\t", "troupe consume orders-of-today"),
        ("troupe consume orders-of-today -g bil\t", "billing-of-today"),
        ("troupe group describe bil\t", "troupe group describe billing-of-today"),
    ] {
        bash.send(typed).unwrap();
        bash.flush().unwrap();
        bash.exp_string(completed).unwrap_or_else(|error| panic!("{typed}: {error}"));
        bash.send_control('c').unwrap();
        bash.exp_string("$ ").unwrap();
    }
    bash.send_line("exit").unwrap();
}

/// What the scripts of the three shells ask is answered with what there is now.
#[test]
fn live_names_are_completed_in_bash_zsh_and_fish() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    dev.run(&["topic", "create", "orders"]).ok();
    dev.run(&["topic", "create", "payments"]).ok();
    let complete = |shell: &str, words: &[&str]| {
        let mut asked = command(&[&["--", "troupe"], words].concat());
        asked.env("TROUPE_COMPLETE", shell).env("TROUPE_SERVER", &dev.server);
        asked.env("_CLAP_COMPLETE_INDEX", words.len().to_string()).env("_CLAP_IFS", "\n");
        String::from_utf8(asked.output().expect("the binary runs").stdout).expect("it is text")
    };
    for shell in ["bash", "zsh", "fish"] {
        let script = command(&["completion", shell]).output().unwrap();
        assert!(String::from_utf8_lossy(&script.stdout).contains("TROUPE_COMPLETE"), "{shell}");
        let names = complete(shell, &["topic", "describe", ""]);
        assert!(names.contains("orders") && names.contains("payments"), "{shell}: {names}");
        let names = complete(shell, &["consume", "orders,pay"]);
        assert!(names.contains("orders,payments"), "{shell}: {names}");
        let nodes = complete(shell, &["node", "describe", ""]);
        assert!(nodes.lines().any(|line| line.starts_with('1')), "{shell}: {nodes}");
        let new = complete(shell, &["topic", "create", "ord"]);
        assert!(!new.contains("orders"), "{shell}: {new}");
    }
    // Nobody answers: that costs a moment, and is no error.
    let mut alone = command(&["--", "troupe", "topic", "describe", ""]);
    alone.env("TROUPE_COMPLETE", "fish").env("TROUPE_SERVER", "127.0.0.1:1");
    let alone = alone.output().unwrap();
    assert!(alone.status.success() && alone.stderr.is_empty(), "{alone:?}");
}

#[test]
fn a_producer_in_the_background_draws_nothing_over_the_prompt() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    dev.run(&["topic", "create", "orders"]).ok();
    let input = dir.path().join("lines");
    std::fs::write(&input, "line\n".repeat(40)).unwrap();
    let mut bash = shell(&dev);
    bash.send_line(&format!("troupe produce orders --rate 20 < {} &", input.display())).unwrap();
    let text = bash.exp_string("40 delivered").unwrap();
    assert!(!is_drawn_over(&text), "{text:?}");
    bash.send_line("exit").unwrap();
}

#[test]
fn tables_fit_eighty_columns_and_colour_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let mut dev = Dev::start_nodes(dir.path(), 3);
    dev.run(&["topic", "create", "orders", "-p", "3", "-r", "3"]).ok();
    dev.run_with(&["produce", "orders"], b"x\n").ok();
    dev.run(&["consume", "orders", "-g", "a-group-of-some-length", "-b", "-e"]).ok();
    assert_eq!(dev.tell("kill 3"), "stopped");
    let named = |text: &str| text.lines().any(|line| line.contains("fenced"));
    let fenced = loop {
        let (text, _) = seen(&dev, &["node", "list"]);
        if named(&text) {
            break text;
        }
    };
    assert!(fenced.contains("\x1b[31mfenced\x1b[0m"), "{fenced:?}");
    for arguments in [
        &["node", "list"][..],
        &["topic", "list"],
        &["topic", "describe", "orders"],
        &["partition", "list", "orders"],
        &["group", "list"],
        &["group", "describe", "a-group-of-some-length"],
        &["group", "members", "a-group-of-some-length"],
        &["actor", "tree", "--kind", "controller"],
    ] {
        let mut plain = command(arguments);
        plain.env("TROUPE_SERVER", &dev.server).env("NO_COLOR", "1");
        let mut session = spawn_command(plain, Some(PATIENCE_MS)).unwrap();
        let text = session.exp_eof().unwrap();
        assert!(!text.contains('\x1b'), "NO_COLOR is honoured: {arguments:?}: {text:?}");
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{arguments:?}: {line}");
        }
    }
}

#[test]
fn the_tree_folds_internal_topics_at_a_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    dev.run(&["topic", "create", "orders"]).ok();
    dev.run(&["consume", "orders", "-g", "g", "-b", "-n", "0"]);
    dev.run_with(&["produce", "orders"], b"x\n").ok();
    dev.run(&["consume", "orders", "-g", "g", "-b", "-e"]).ok();
    let (text, _) = seen(&dev, &["actor", "tree"]);
    assert!(text.contains("actors of internal topics"), "{text}");
    let folded = text.lines().filter(|line| line.contains("__consumer_offsets")).count();
    let (all, _) = seen(&dev, &["actor", "tree", "--internal"]);
    let shown = all.lines().filter(|line| line.contains("__consumer_offsets")).count();
    assert!(folded < 10 && shown >= 50, "{folded} of {shown}");
    // By kind and by pattern; in a pipe all is whole.
    let partitions = dev.run(&["actor", "tree", "--kind", "partition", "*/orders/*"]).ok();
    assert_eq!(partitions.text().lines().count(), 1, "{partitions:?}");
    let busy = dev.run(&["actor", "tree", "--busy", "*/partition/orders/*"]).ok();
    assert!(busy.text().lines().count() <= 1, "{busy:?}");
    let wrong = dev.run(&["actor", "tree", "--kind", "partitoin"]);
    assert_eq!(wrong.code, 3, "{wrong:?}");
    assert!(wrong.err.contains("did you mean 'partition'?"), "{}", wrong.err);
}
