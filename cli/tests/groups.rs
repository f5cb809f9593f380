//! Groups from the command line, with `troupe dev` on a free port.

mod support;

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};
use support::{Dev, Ran, command};

/// The lines that a group's member prints until nothing more is there.
fn consumed(dev: &Dev, arguments: &[&str]) -> Vec<String> {
    let ran = dev.run(&[&["consume", "-e"][..], arguments].concat()).ok();
    let mut lines: Vec<String> = ran.text().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn rows(ran: Ran) -> Vec<Vec<String>> {
    let text = ran.ok().text().to_owned();
    text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

/// A topic of three partitions with lines 0 to 8, three in each.
fn nine_lines(dev: &Dev, topic: &str) {
    dev.run(&["topic", "create", topic, "-p", "3"]).ok();
    for partition in 0..3 {
        let lines: String = (0..3).map(|line| format!("{}\n", partition * 3 + line)).collect();
        dev.run_with(&["produce", topic, "-p", &partition.to_string()], lines.as_bytes()).ok();
    }
}

/// C7, C16: what was printed is committed, and the next member goes on behind it.
#[test]
fn a_group_goes_on_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    nine_lines(&dev, "t");
    let all: Vec<String> = (0..9).map(|line| line.to_string()).collect();
    assert_eq!(consumed(&dev, &["t", "-g", "g"]), all);
    assert_eq!(consumed(&dev, &["t", "-g", "g"]), Vec::<String>::new(), "nothing is repeated");
    dev.run_with(&["produce", "t", "-p", "1"], b"more\n").ok();
    let lag = rows(dev.run(&["group", "lag", "g"]));
    assert_eq!(lag, [["g", "Empty", "0", "3", "1", "-"]]);
    assert_eq!(consumed(&dev, &["t", "-g", "g"]), ["more"]);
    assert_eq!(consumed(&dev, &["t", "-g", "other"]).len(), 10, "each group gets everything");
    // C17: without commits, everything comes again.
    assert_eq!(consumed(&dev, &["t", "-g", "third", "--commit", "none"]).len(), 10);
    assert_eq!(consumed(&dev, &["t", "-g", "third", "--commit", "before"]).len(), 10);
    assert_eq!(consumed(&dev, &["t", "-g", "third"]).len(), 0);
    // C7: nothing is committed, and there is nowhere to begin.
    let nowhere = ["consume", "t", "-g", "fourth", "-e", "--offset-reset", "none"];
    let refused = dev.run(&nowhere);
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(refused.err.contains("NO_COMMITTED_OFFSET"), "{}", refused.err);
    assert!(refused.err.contains("troupe group reset"), "{}", refused.err);
    assert_eq!(dev.stop(), 0);
}

/// C16: of a batch that is not printed whole, what is printed is committed, and the rest comes next.
#[test]
fn a_member_that_stops_within_a_batch_has_committed_what_it_printed() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    dev.run(&["topic", "create", "t", "-p", "1"]).ok();
    let lines: Vec<String> = (0..10).map(|line| line.to_string()).collect();
    dev.run_with(&["produce", "t"], (lines.join("\n") + "\n").as_bytes()).ok();
    for (commit, group) in [("after", "a"), ("before", "b")] {
        let read = |max: &str| consumed(&dev, &["t", "-g", group, "--commit", commit, "-n", max]);
        for part in [0..4, 4..5, 5..10] {
            assert_eq!(read(&part.len().to_string()), lines[part], "--commit {commit}");
        }
        assert_eq!(rows(dev.run(&["group", "lag", group])), [[group, "Empty", "0", "1", "0", "-"]]);
    }
    assert_eq!(dev.stop(), 0);
}

/// A commit is a write on every in-sync replica: not one for each batch, whichever way it is committed.
#[test]
fn a_member_commits_for_many_batches_at_once() {
    const BATCHES: usize = 400;
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    dev.run(&["topic", "create", "t", "-p", "1"]).ok();
    let lines: String = (0..BATCHES).map(|line| format!("{line:01000}\n")).collect();
    dev.run_with(&["produce", "t", "--batch-size", "1k"], lines.as_bytes()).ok();
    for commit in ["after", "before"] {
        let group = format!("commits-{commit}");
        assert_eq!(consumed(&dev, &["t", "-g", &group, "--commit", commit]).len(), BATCHES);
        let dump = ["consume", "__consumer_offsets", "-e", "--decode", "offsets"];
        let records = dev.run(&dump).ok();
        let records = records.text().lines().filter(|line| line.contains(&group)).count();
        // With the records of its members, and those of what they held.
        assert!((1..BATCHES / 4).contains(&records), "{records} with --commit {commit}");
        assert_eq!(rows(dev.run(&["group", "lag", &group]))[0][4], "0");
    }
    assert_eq!(dev.stop(), 0);
}

/// G28, G29, C12: reset with its preview, and deletion.
#[test]
fn committed_offsets_are_shown_moved_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    nine_lines(&dev, "t");
    consumed(&dev, &["t", "-g", "g"]);
    let listed = rows(dev.run(&["group", "list"]));
    assert_eq!(listed[0][..3], ["g", "Empty", "0"]);
    assert_eq!(rows(dev.run(&["group", "list", "--state", "stable"])).len(), 0);
    let described = rows(dev.run(&["group", "describe", "g"]));
    assert_eq!(described[1], ["g", "t", "1", "3", "3", "0", "-", "-", "-"]);

    let dry = ["group", "reset", "g", "--topics", "t:0,2", "--to", "-2", "--dry-run"];
    let dry = dev.run(&dry);
    assert!(dry.err.contains("dry run, nothing was moved"), "{dry:?}");
    let preview = rows(dry);
    let moved = |partition: &str| ["t", partition, "3", "1", "2", "0", "-"].map(str::to_owned);
    assert_eq!(preview, [moved("0"), moved("2")]);
    let lag = || dev.run(&["group", "describe", "g", "-o", "json"]).ok().json()["lag"].clone();
    assert_eq!(lag(), 0, "a dry run moves nothing");
    let unsure = dev.run(&["group", "reset", "g", "--to", "earliest"]);
    assert_eq!(unsure.code, 2, "{unsure:?}");
    dev.run(&["group", "reset", "g", "--topics", "t:0,2", "--to", "-2", "--yes"]).ok();
    assert_eq!(lag(), 4);
    assert_eq!(consumed(&dev, &["t", "-g", "g"]), ["1", "2", "7", "8"]);
    for (to, behind) in [("earliest", 9), ("latest", 0), ("=1", 6), ("+1", 3), ("-1h", 9)] {
        dev.run(&["group", "reset", "g", "--to", to, "--yes"]).ok();
        assert_eq!(lag(), behind, "{to}");
    }
    let json =
        dev.run(&["group", "reset", "g", "--to", "latest", "--yes", "-o", "json"]).ok().json();
    assert_eq!((&json["skipped"], &json["repeated"]), (&9.into(), &0.into()));

    let deleted = dev.run(&["group", "delete", "g", "--offsets", "--topic", "t:0", "--yes"]);
    assert_eq!(rows(deleted), [["g", "t", "0", "deleted"]]);
    assert_eq!(rows(dev.run(&["group", "describe", "g"])).len(), 2);
    let unsure = dev.run(&["group", "delete", "g"]);
    assert_eq!(unsure.code, 2, "{unsure:?}");
    dev.run(&["group", "delete", "g", "--yes"]).ok();
    for arguments in [&["group", "describe", "g"][..], &["group", "delete", "g", "--yes"]] {
        let gone = dev.run(arguments);
        assert_eq!(gone.code, 3, "{gone:?}");
        assert!(gone.err.contains("GROUP_NOT_FOUND"), "{}", gone.err);
        assert!(gone.err.contains("troupe group list"), "{}", gone.err);
    }
    assert_eq!(dev.stop(), 0);
}

/// A member that reads until it is told to stop.
struct Member {
    child: Child,
    told: BufReader<ChildStderr>,
}

impl Member {
    /// Returns when it has been given something, and what.
    fn start(dev: &Dev, arguments: &[&str]) -> (Member, Value) {
        let mut child = command(&["consume", "--show-assignment", "-o", "json", "--server"])
            .arg(&dev.server)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let told = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut member = Member { child, told };
        let given =
            |assigned: &Value| assigned.as_object().is_some_and(|topics| !topics.is_empty());
        let assigned = member.assigned(given);
        (member, assigned)
    }

    /// Waits for an assignment like this.
    fn assigned(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let mut line = String::new();
            self.told.read_line(&mut line).expect("it says something");
            assert!(!line.is_empty(), "it goes on");
            // Beside notes and warnings, for people.
            let Ok(line) = serde_json::from_str::<Value>(&line) else { continue };
            let partitions = line["assignment"]["partitions"].clone();
            if wanted(&partitions) {
                return partitions;
            }
        }
    }

    /// SIGTERM; gives the exit code.
    fn stop(mut self) -> i32 {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs");
        self.child.wait().expect("the member ends").code().unwrap_or(-1)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// G28, G29: what is refused while somebody is in the group, and in which words.
#[test]
fn a_live_group_is_neither_moved_nor_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    nine_lines(&dev, "t");
    let (member, assigned) =
        Member::start(&dev, &["t", "-g", "g", "-b", "--client-id", "app", "--assignor", "range"]);
    assert_eq!(assigned, serde_json::json!({ "t": [0, 1, 2] }));
    let members = rows(dev.run(&["group", "members", "g"]));
    assert_eq!(members.len(), 1);
    assert!(members[0][1].starts_with("app-"), "{members:?}");
    assert_eq!(members[0][7..9], ["3", "t(0,1,2)"]);
    let state = rows(dev.run(&["group", "describe", "g", "--state"]));
    assert_eq!(state[0][2..4], ["range", "Stable"]);
    for arguments in [
        &["group", "delete", "g", "--yes"][..],
        &["group", "reset", "g", "--topics", "t", "--to", "earliest", "--yes"],
        &["group", "reset", "g", "--topics", "t", "--to", "earliest", "--dry-run"],
    ] {
        let refused = dev.run(arguments);
        assert_eq!(refused.code, 4, "{refused:?}");
        assert!(refused.err.contains("GROUP_NOT_EMPTY"), "{}", refused.err);
        assert!(refused.err.contains("stop its members first"), "{}", refused.err);
    }
    let kept = dev.run(&["group", "delete", "g", "--offsets", "--topic", "t:0", "--yes"]);
    assert_eq!(kept.code, 4, "{kept:?}");
    assert!(kept.text().contains("GROUP_SUBSCRIBED_TO_TOPIC"), "{}", kept.text());
    assert_eq!(member.stop(), 0, "SIGTERM is a clean end");
    // It has left: nobody waits for its session to end.
    dev.run(&["group", "delete", "g", "--yes"]).ok();
    assert_eq!(dev.stop(), 0);
}

/// C3, G22: a pattern, and two members that share what it matches.
/// One that was stopped keeps its place for a while: that is shown, and can be ended.
#[test]
fn a_static_member_that_is_away_is_shown_with_the_time_left_and_can_be_removed() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    nine_lines(&dev, "t");
    let (member, _) = Member::start(&dev, &["t", "-g", "audit", "--member-name", "one"]);
    assert_eq!(member.stop(), 0);
    let members = rows(dev.run(&["group", "members", "audit"]));
    assert_eq!(members[0][2], "one");
    assert!(members[0][6].starts_with("Away, kept for "), "{members:?}");
    let json = dev.run(&["group", "members", "audit", "-o", "json"]).ok().json();
    assert!(json["members"][0]["awayUntil"].is_string(), "{json}");
    let refused = dev.run(&["group", "delete", "audit", "--yes"]);
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(refused.err.contains("troupe group remove-member"), "{}", refused.err);
    let wrong = dev.run(&["group", "remove-member", "audit", "eno"]);
    assert_eq!(wrong.code, 3, "{wrong:?}");
    dev.run(&["group", "remove-member", "audit", "one", "--dry-run"]).ok();
    assert_eq!(rows(dev.run(&["group", "members", "audit"])).len(), 1, "a dry run removes nobody");
    let removed = dev.run(&["group", "remove-member", "audit", "one"]).ok();
    assert_eq!(removed.text(), "removed one from group audit\n");
    assert_eq!(rows(dev.run(&["group", "members", "audit"])).len(), 0);
    dev.run(&["group", "delete", "audit", "--yes"]).ok();
    assert_eq!(dev.stop(), 0);
}

/// One that is connected is asked about, and goes on as a new member, which is told: also if it gets the same again.
#[test]
fn what_is_assigned_is_told_after_every_loss() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    nine_lines(&dev, "t");
    let (mut member, first) = Member::start(&dev, &["t", "-g", "audit", "--member-name", "one"]);
    let unsure = dev.run(&["group", "remove-member", "audit", "one"]);
    assert_eq!(unsure.code, 2, "{unsure:?}");
    dev.run(&["group", "remove-member", "audit", "one", "--yes"]).ok();
    let again = member.assigned(|assigned| assigned == &first);
    assert_eq!(again, first);
    assert_eq!(member.stop(), 0);
    assert_eq!(dev.stop(), 0);
}

#[test]
fn members_share_the_topics_that_a_pattern_matches() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    nine_lines(&dev, "orders-a");
    nine_lines(&dev, "orders-b");
    nine_lines(&dev, "payments");
    let group = ["--pattern", "orders-.*", "-g", "g", "--assignor", "range"];
    let (mut first, assigned) = Member::start(&dev, &group);
    assert_eq!(assigned, serde_json::json!({ "orders-a": [0, 1, 2], "orders-b": [0, 1, 2] }));
    let (mut second, _) = Member::start(&dev, &[&group[..], &["--member-name", "one"]].concat());
    // Members with names of their own come first: two of three, of each topic.
    let both = serde_json::json!({ "orders-a": [2], "orders-b": [2] });
    first.assigned(|assigned| *assigned == both);
    let members = rows(dev.run(&["group", "members", "g"]));
    let mut held: Vec<_> = members.iter().map(|member| (&member[2][..], &member[8][..])).collect();
    held.sort_unstable();
    assert_eq!(held, [("-", "orders-a(2),orders-b(2)"), ("one", "orders-a(0,1),orders-b(0,1)")]);
    // C21: who leaves gives up at once.
    assert_eq!(first.stop(), 0);
    second.assigned(|assigned| assigned["orders-b"] == serde_json::json!([0, 1, 2]));
    assert_eq!(second.stop(), 0);
    assert_eq!(dev.stop(), 0);
}

/// G3, G4: each commit is a record of `__consumer_offsets`, and can be read there, by the node and offline.
#[test]
fn what_is_committed_is_seen_in_the_internal_topic() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    nine_lines(&dev, "t");
    // G1: the hash of "test" is partition 48.
    consumed(&dev, &["t", "-g", "test"]);
    let committed = |lines: &str| {
        let documents = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let offsets = documents.filter(|document| document["key"]["type"] == "offset_commit");
        let mut last = [Value::Null, Value::Null, Value::Null];
        for document in offsets {
            let key = &document["key"]["data"];
            assert_eq!((&key["group"], &key["topic"]), (&"test".into(), &"t".into()));
            let partition = key["partition"].as_u64().unwrap() as usize;
            last[partition] = document["value"]["data"]["offset"].clone();
        }
        last
    };
    let online = ["consume", "__consumer_offsets", "-p", "48", "-e", "--decode", "offsets"];
    let online = dev.run(&online).ok();
    assert_eq!(committed(online.text()), [3, 3, 3].map(Value::from));
    assert_eq!(dev.stop(), 0);
    let partition = dir.path().join("__consumer_offsets-48").display().to_string();
    let offline = support::run(&["log", "dump", &partition, "--decode", "offsets"]).ok();
    assert_eq!(offline.text(), online.text());
}
