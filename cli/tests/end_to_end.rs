//! A user's first hour, with `troupe dev` on a free port.

mod support;

use support::Dev;

/// Blank lines, tabs, carriage returns, invalid UTF-8, a zero byte, and no newline at the end.
const LINES: &[u8] =
    b"first\n\n\tindented\r\n\xff\xfe not UTF-8 \xc3\x28\nnull \0 byte\n\xe2\x98\x83\nlast";

fn with_last_newline(lines: &[u8]) -> Vec<u8> {
    [lines, b"\n"].concat()
}

#[test]
fn what_is_produced_is_consumed_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    for compression in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("lines-{compression}");
        dev.run(&["topic", "create", &topic]).ok();
        let produced =
            dev.run_with(&["produce", &topic, "-z", compression, "-o", "json"], LINES).ok();
        assert_eq!(produced.json()["delivered"], 7);
        let consumed = dev.run(&["consume", &topic, "--from-beginning", "--until-end"]).ok();
        assert_eq!(consumed.out, with_last_newline(LINES), "{compression}");
    }
    // The whole input as one record keeps even the missing newline.
    dev.run(&["topic", "create", "whole"]).ok();
    dev.run_with(&["produce", "whole", "-f", "%v"], LINES).ok();
    assert_eq!(dev.run(&["consume", "whole", "-e", "-f", "%v"]).ok().out, LINES);
    // Lengths in front: keys, values and nulls come through a pipe unharmed.
    dev.run_with(&["produce", "whole", "-K", "d", "--null-marker", "ex"], b"in\xff\x00dex\n").ok();
    let sized = "%K{big32}%V{big32}%k%v";
    let dumped = dev.run(&["consume", "whole", "-e", "-f", sized]).ok();
    dev.run(&["topic", "create", "copy"]).ok();
    dev.run_with(&["produce", "copy", "-f", sized], &dumped.out).ok();
    assert_eq!(dev.run(&["consume", "copy", "-e", "-f", sized]).ok().out, dumped.out);
    assert_eq!(dev.stop(), 0, "SIGTERM is a clean end");
}

#[test]
fn a_line_over_the_limit_ends_the_input_there() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    dev.run(&["topic", "create", "t"]).ok();
    let long = vec![b'x'; 3 << 20];
    let input = [b"one\n\n", &long[..], b"\nnever\nsent\n"].concat();
    let refused = dev.run_with(&["produce", "t"], &input);
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(refused.err.contains("record 3"), "{}", refused.err);
    assert!(refused.err.contains("2 delivered, 1 surely not written"), "{}", refused.err);
    assert_eq!(dev.run(&["consume", "t", "-e"]).ok().out, b"one\n\n");
}

/// P12: nobody answers, but what was read is sent before the command ends.
#[test]
fn without_answers_the_last_records_are_sent_too() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    dev.run(&["topic", "create", "t"]).ok();
    dev.run_with(&["produce", "t", "--acks", "0"], b"first\nlast\n").ok();
    let consumed = dev.run(&["consume", "t", "--offset", "0", "-n", "2"]).ok();
    assert_eq!(consumed.out, b"first\nlast\n");
}

#[test]
fn keys_headers_partitions_and_formats_travel() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    dev.run(&["topic", "create", "t", "-p", "3"]).ok();
    // T24: murmur2 of "key1" is partition 2 of 3.
    dev.run_with(&["produce", "t", "-K", ":", "-H", "type: text", "-H", "n="], b"key1:one\n").ok();
    dev.run_with(&["produce", "t", "-p", "1", "-k", "fixed"], b"two\nthree\n").ok();
    let format = "%p %o %k=%v [%h] %t\\n";
    let first = dev.run(&["consume", "t", "-e", "-p", "2", "-f", format]).ok();
    assert_eq!(first.text(), "2 0 key1=one [type=text,n=] t\n");
    let second = dev.run(&["consume", "t", "-e", "-p", "1", "-f", format]).ok();
    assert_eq!(second.text(), "1 0 fixed=two [] t\n1 1 fixed=three [] t\n");
    let json = dev.run(&["consume", "t", "-e", "-p", "2", "-o", "json"]).ok().json();
    assert_eq!(
        (&json["key"], &json["value"], &json["offset"]),
        (&"key1".into(), &"one".into(), &0.into())
    );
    assert_eq!(json["headers"][0]["value"], "text");

    let refused = dev.run_with(&["produce", "t", "-p", "9"], b"x\n");
    assert_eq!(refused.code, 3, "{refused:?}");
    let refused = dev.run_with(&["produce", "t", "-K", ":"], b"a:1\nno separator\n");
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("record 2 cannot be read"), "{}", refused.err);
}

#[test]
fn offsets_say_where_to_begin_and_to_stop() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    dev.run(&["topic", "create", "t"]).ok();
    let lines: String = (0..100).map(|number| format!("{number}\n")).collect();
    dev.run_with(&["produce", "t", "--batch-size", "100"], lines.as_bytes()).ok();
    let numbers = |offset: &str, more: &[&str]| {
        let arguments = [&["consume", "t", "--offset", offset][..], more].concat();
        let text = dev.run(&arguments).ok().text().to_owned();
        text.lines().map(|line| line.parse::<u32>().unwrap()).collect::<Vec<_>>()
    };
    let range = |range: std::ops::Range<u32>| range.collect::<Vec<u32>>();
    assert_eq!(numbers(":end", &[]), range(0..100));
    assert_eq!(numbers("10:20", &[]), range(10..20));
    assert_eq!(numbers("97", &["-e"]), range(97..100));
    assert_eq!(numbers("-3:end", &[]), range(97..100));
    assert_eq!(numbers("+5:+7", &[]), range(5..7));
    assert_eq!(numbers("start", &["-n", "2"]), range(0..2));
    assert_eq!(numbers("@-1h:end", &[]), range(0..100));
    assert_eq!(numbers("@2000-01-01:2000-01-02", &[]), range(0..0));
    assert_eq!(numbers("end:", &["-e"]), range(0..0));
    let ran = dev.run(&["consume", "t", "--offset", "1000", "-e"]).ok();
    assert!(ran.err.contains("t:0 ends before the first offset"), "{}", ran.err);
}

#[test]
fn topics_are_created_described_altered_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    let dry = dev.run(&["topic", "create", "orders", "-p", "2", "--dry-run"]).ok();
    assert_eq!(dry.text(), "would create topic orders: 2 partitions, 1 replica\n");
    assert_eq!(dev.run(&["topic", "list"]).ok().text(), "");

    let created =
        dev.run(&["topic", "create", "orders", "-p", "2", "--config", "retention.ms=1d"]).ok();
    assert_eq!(created.text(), "created topic orders: 2 partitions, 1 replica\n");
    assert_eq!(dev.run(&["topic", "list"]).ok().text(), "orders\t2\t1\n");
    let again = dev.run(&["topic", "create", "orders"]);
    assert_eq!(again.code, 4, "{again:?}");
    assert!(again.err.contains("TOPIC_EXISTS"), "{}", again.err);
    dev.run(&["topic", "create", "orders", "--if-not-exists"]).ok();

    dev.run_with(&["produce", "orders", "-p", "0"], b"a\nb\n").ok();
    let json = dev.run(&["topic", "describe", "orders", "-o", "json"]).ok().json();
    assert_eq!(json["name"], "orders");
    assert_eq!(json["partitions"][0]["highWatermark"], 2);
    assert_eq!(json["partitions"][0]["leaderId"], 1);
    let config = |json: &serde_json::Value, name: &str| {
        let configs = json["configs"].as_array().unwrap();
        let found = configs.iter().find(|config| config["name"] == name).unwrap();
        (found["value"].as_str().unwrap().to_owned(), found["source"].as_str().unwrap().to_owned())
    };
    assert_eq!(config(&json, "retention.ms"), ("86400000".into(), "topic".into()));

    let altered = dev.run(&[
        "topic",
        "alter",
        "orders",
        "--set",
        "flush.policy=os",
        "--unset",
        "retention.ms",
    ]);
    assert_eq!(
        altered.ok().text(),
        "flush.policy: commit -> os\nretention.ms: 86400000 -> 604800000\n"
    );
    let json = dev.run(&["topic", "describe", "orders", "-o", "json"]).ok().json();
    assert_eq!(config(&json, "flush.policy"), ("os".into(), "topic".into()));
    assert_eq!(config(&json, "retention.ms"), ("604800000".into(), "default".into()));
    let wrong = dev.run(&["topic", "alter", "orders", "--set", "retention.msx=1"]);
    assert_eq!(wrong.code, 4, "{wrong:?}");
    assert!(wrong.err.contains("retention.ms"), "{}", wrong.err);

    let grown = dev.run(&["topic", "add-partitions", "orders", "--to", "3"]).ok();
    assert_eq!(grown.text(), "topic orders has now 3 partitions, 1 replica\n");

    let unsure = dev.run(&["topic", "delete", "orders"]);
    assert_eq!(unsure.code, 2, "nothing is destroyed without a yes: {unsure:?}");
    dev.run(&["topic", "delete", "orders", "--yes"]).ok();
    let gone = dev.run(&["topic", "describe", "orders"]);
    assert_eq!(gone.code, 3, "{gone:?}");
    assert!(
        gone.err.contains("UNKNOWN_TOPIC") && gone.err.contains("troupe topic list"),
        "{}",
        gone.err
    );
    dev.run(&["topic", "delete", "orders", "--yes", "--if-exists"]).ok();
    for (arguments, reason) in [
        (&["topic", "create", "not/a/name"][..], "INVALID_TOPIC"),
        (&["topic", "create", "t", "-p", "0"], "INVALID_PARTITIONS"),
        (&["topic", "create", "t", "-r", "5"], "INVALID_REPLICATION_FACTOR"),
    ] {
        let ran = dev.run(arguments);
        assert_eq!(ran.code, 4, "{ran:?}");
        assert!(ran.err.contains(reason), "{}", ran.err);
    }
}

#[test]
fn the_tools_look_inside() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    dev.run(&["topic", "create", "t"]).ok();
    dev.run_with(&["produce", "t", "-K", ":"], b"a:1\nb:2\n").ok();

    let info = dev.run(&["cluster", "info", "-o", "json"]).ok().json();
    assert_eq!((&info["topicCount"], &info["partitionCount"]), (&1.into(), &1.into()));
    assert_eq!(info["nodes"][0]["endpoint"], dev.server.as_str());

    let actors = dev.run(&["actor", "tree"]).ok();
    let address = actors.text().lines().find(|line| line.contains("/partition/t/0")).unwrap();
    let address = address.split('\t').next().unwrap();
    let killed = dev.run(&["actor", "kill", address, "--mode", "panic", "-o", "json"]).ok().json();
    assert_eq!(killed["restarts"], 1);
    let unknown = dev.run(&["actor", "kill", "node/1/nobody"]);
    assert_eq!(unknown.code, 3, "{unknown:?}");
    dev.run_with(&["produce", "t", "-K", ":"], b"c:3\n").ok();
    assert_eq!(dev.run(&["consume", "t", "-e"]).ok().text(), "1\n2\n3\n");
    assert_eq!(dev.stop(), 0);

    let partition = dir.path().join("t-0").display().to_string();
    support::run(&["log", "verify", &partition]).ok();
    let dumped = support::run(&["log", "dump", &partition, "--records", "-o", "jsonl"]).ok();
    let values: Vec<String> = dumped
        .text()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter_map(|line| Some(line.get("payload")?.as_str()?.to_owned()))
        .collect();
    assert_eq!(values, ["1", "2", "3"]);
    let text = support::run(&["log", "dump", &partition, "--records"]).ok();
    assert!(text.text().contains("| offset: 1 "), "{}", text.text());
    let whole = support::run(&["log", "dump", &partition, "-o", "json"]).ok().json();
    assert!(whole["files"].as_array().unwrap().len() >= 2);

    // One flipped bit in a payload is found.
    let log = dir.path().join("t-0/00000000000000000000.log");
    let mut bytes = std::fs::read(&log).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&log, bytes).unwrap();
    let found = support::run(&["log", "verify", log.to_str().unwrap()]);
    assert_eq!(found.code, 1, "{found:?}");
    assert!(found.err.contains("payload checksum"), "{}", found.err);
}

#[test]
fn a_pipe_that_closes_early_ends_a_consumer_as_it_ends_other_tools() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    dev.run(&["topic", "create", "t"]).ok();
    let lines = "a line that is repeated\n".repeat(50_000);
    dev.run_with(&["produce", "t"], lines.as_bytes()).ok();
    let mut child = support::command(&["consume", "t", "-e", "--server", &dev.server])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(141), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn benchmarks_run_and_clean_up_after_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    let small = ["--records", "2000", "--size", "100", "-p", "2", "-o", "json"];
    let json = dev.run(&[&["bench", "produce"][..], &small].concat()).ok().json();
    assert_eq!(json["result"]["records"], 2000);
    assert!(json["latencyMs"]["p999"].as_f64().unwrap() > 0.0);
    let json = dev.run(&[&["bench", "consume"][..], &small].concat()).ok().json();
    assert_eq!(json["result"]["bytes"], 200_000);
    let e2e =
        ["bench", "e2e", "--rate", "200", "--duration", "500ms", "--warmup", "100ms", "-o", "json"];
    let json = dev.run(&e2e).ok().json();
    assert_eq!(json["latencyMs"]["samples"], 100);
    assert_eq!(dev.run(&["topic", "list"]).ok().text(), "", "their topics are gone");
}

#[test]
fn records_are_purged_after_a_preview_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    dev.run(&["topic", "create", "orders", "-p", "2"]).ok();
    let lines: String = (0..10).map(|number| format!("{number}\n")).collect();
    for partition in ["0", "1"] {
        dev.run_with(&["produce", "orders", "-p", partition], lines.as_bytes()).ok();
    }
    let purge = |more: &[&str]| dev.run(&[&["topic", "purge"], more].concat());
    let starts = || {
        let json = dev.run(&["topic", "describe", "orders", "-o", "json"]).ok().json();
        [0, 1].map(|n| json["partitions"][n]["logStartOffset"].as_u64().unwrap())
    };
    let dry = purge(&["orders", "--before", "4", "--dry-run"]).ok();
    assert_eq!(dry.text(), "orders\t0\t0\t10\t4\t4\t4\t-\norders\t1\t0\t10\t4\t4\t4\t-\n");
    let nobody = purge(&["orders", "--before", "4"]);
    assert_eq!(nobody.code, 2, "{nobody:?}");
    assert!(nobody.err.contains("--yes"), "{}", nobody.err);
    for (arguments, code, says) in [
        (&["orders", "--before", "11", "--yes"][..], 4, "OFFSET_OUT_OF_RANGE"),
        (&["orders:7", "--before", "4", "--yes"], 3, "there is no partition 7"),
        (&["nothing", "--before", "4", "--yes"], 3, "UNKNOWN_TOPIC"),
        (&["orders", "--before", "4:7", "--yes"], 2, "`4:7` is no offset"),
        (&["orders", "--before", "soon", "--yes"], 2, "`soon` is no offset"),
        (&["orders:x", "--before", "4", "--yes"], 2, "no partition"),
        (&["orders", "--yes"], 2, "--before"),
    ] {
        let refused = purge(arguments);
        assert_eq!(refused.code, code, "{refused:?}");
        assert!(refused.err.contains(says), "{}", refused.err);
    }
    assert_eq!(starts(), [0, 0], "nothing is changed");

    let json = purge(&["orders:0", "--before", "4", "--yes", "-o", "json"]).ok().json();
    assert_eq!((&json["records"], &json["dryRun"]), (&4.into(), &false.into()));
    assert_eq!(json["partitions"][0]["lowWatermark"], 4);
    assert_eq!(starts(), [4, 0]);
    let consumed = dev.run(&["consume", "orders", "-p", "0", "-e"]).ok();
    assert_eq!(consumed.out, b"4\n5\n6\n7\n8\n9\n");
    purge(&["orders", "--before", "@2000-01-01", "--yes"]).ok();
    assert_eq!(starts(), [4, 0], "all are younger");
    purge(&["orders", "--before", "end", "--yes"]).ok();
    assert_eq!(starts(), [10, 10]);
    let internal = purge(&["__consumer_offsets", "--before", "end", "--yes"]);
    assert!(matches!(internal.code, 3 | 4), "{internal:?}");
}
