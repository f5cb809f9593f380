//! The producer's settings on the command line.

mod support;

use support::Dev;

#[test]
fn retries_idempotence_flight_and_levels_are_set_by_flags() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    dev.run(&["topic", "create", "t"]).ok();
    let flags = ["--no-idempotence", "--in-flight", "8", "--in-flight-per-node", "2"];
    let more = ["--retries", "3", "-z", "zstd", "--compression-level", "-7"];
    let produce = [&["produce", "t"][..], &flags, &more].concat();
    dev.run_with(&produce, b"one\ntwo\n").ok();
    for (compression, level) in [("gzip", "9"), ("lz4", "17"), ("zstd", "22")] {
        let produce = ["produce", "t", "--idempotence", "-z", compression];
        let at = [&produce[..], &["--compression-level", level]].concat();
        dev.run_with(&at, b"three\n").ok();
    }
    let consumed = dev.run(&["consume", "t", "-e"]).ok();
    assert_eq!(consumed.text(), "one\ntwo\nthree\nthree\nthree\n");

    for (flags, first, second) in [
        (&["--idempotence", "--acks", "1"][..], "enable_idempotence", "acks"),
        (&["--idempotence", "--retries", "0"], "enable_idempotence", "retries"),
        (&["--in-flight", "6"], "enable_idempotence", "max_in_flight"),
        (&["-z", "gzip", "--compression-level", "10"], "compression_level", "gzip has 1 to 9"),
        (&["--compression-level", "3"], "compression_level", "compression"),
        (&["--in-flight-per-node", "0"], "max_in_flight_per_node", "at least 1"),
    ] {
        let refused = dev.run_with(&[&["produce", "t"][..], flags].concat(), b"never\n");
        assert_ne!(refused.code, 0, "{flags:?}");
        assert!(refused.err.contains(first) && refused.err.contains(second), "{}", refused.err);
    }
    assert_eq!(dev.run(&["consume", "t", "-e"]).ok().text().lines().count(), 5);
}
