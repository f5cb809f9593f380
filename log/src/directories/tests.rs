//! Which directories serve, and where a partition is, across starts of a node.

use super::*;
use std::fs;
use troupe_proto::ids::NodeId;

const TOPIC: &str = "a";

struct Disks {
    temporary: tempfile::TempDir,
    topic_id: TopicId,
}

impl Disks {
    fn new() -> Disks {
        Disks { temporary: tempfile::tempdir().unwrap(), topic_id: TopicId::random() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temporary.path().join(name)
    }

    fn try_open(&self, names: &[&str]) -> Result<LogDirectories, DirectoryError> {
        let paths: Vec<PathBuf> = names.iter().map(|name| self.path(name)).collect();
        let directories = LogDirectories::open(&paths[0], &paths)?;
        let meta = MetaProperties { cluster_id: "c".into(), node_id: NodeId(1) };
        directories.take_possession(&meta)?;
        Ok(directories)
    }

    fn open(&self, names: &[&str]) -> LogDirectories {
        self.try_open(names).unwrap()
    }

    /// Partition 0 belongs into this directory, and has something there.
    fn write(&self, directories: &LogDirectories, directory: usize) {
        let placed = crate::Placed {
            name: format!("{TOPIC}-0"),
            topic_id: self.topic_id,
            directory: directories.all()[directory].id().unwrap(),
        };
        directories.inventory.place(&[placed]).unwrap();
        let location = self.locate(directories).unwrap();
        fs::create_dir(&location.path).unwrap();
        directories.inventory.add(&format!("{TOPIC}-0"), self.topic_id).unwrap();
    }

    fn locate(&self, directories: &LogDirectories) -> Result<Location, LogError> {
        directories.locate(TOPIC, PartitionId(0), self.topic_id)
    }

    fn wants_place(&self, directories: &LogDirectories) -> bool {
        directories.wants_place(&format!("{TOPIC}-0"), self.topic_id)
    }
}

#[test]
fn a_directory_that_was_there_and_is_not_is_offline_and_nothing_stands_in_for_it() {
    let disks = Disks::new();
    let directories = disks.open(&["one", "two"]);
    disks.write(&directories, 1);
    drop(directories);
    fs::rename(disks.path("two"), disks.path("away")).unwrap();
    let away = disks.open(&["one", "two"]);
    assert!(!disks.path("two").exists(), "its place stays free for the mount");
    assert!(away.all()[1].failure().unwrap().contains("vanished"));
    assert!(!disks.wants_place(&away));
    let error = disks.locate(&away).unwrap_err();
    assert!(matches!(error, LogError::DirectoryOffline { .. }), "{error}");
    assert_eq!(error.code(), troupe_proto::error::ErrorCode::StorageFailure);
    drop(away);
    // The place where a disk is to be mounted.
    fs::create_dir(disks.path("two")).unwrap();
    let unmounted = disks.open(&["one", "two"]);
    assert!(unmounted.all()[1].failure().unwrap().contains("is empty now"));
    assert!(disks.locate(&unmounted).is_err());
    drop(unmounted);
    fs::remove_dir(disks.path("two")).unwrap();
    fs::rename(disks.path("away"), disks.path("two")).unwrap();
    let back = disks.open(&["one", "two"]);
    assert_eq!(disks.locate(&back).unwrap().path, disks.path("two/a-0"));
}

#[test]
fn a_directory_keeps_its_partitions_wherever_it_is_mounted_and_in_whichever_order() {
    let disks = Disks::new();
    let directories = disks.open(&["one", "two", "three"]);
    disks.write(&directories, 2);
    drop(directories);
    fs::rename(disks.path("three"), disks.path("elsewhere")).unwrap();
    let directories = disks.open(&["one", "elsewhere", "two"]);
    assert_eq!(disks.locate(&directories).unwrap().path, disks.path("elsewhere/a-0"));
}

#[test]
fn a_partition_of_a_directory_that_log_dirs_names_no_more_needs_another_place() {
    let disks = Disks::new();
    let directories = disks.open(&["one", "two"]);
    disks.write(&directories, 1);
    drop(directories);
    let without = disks.open(&["one"]);
    assert!(disks.wants_place(&without), "to be filled again");
    assert!(without.inventory.has("a-0", disks.topic_id), "what it lacks is missed");
    drop(without);
    // Beside one that nobody can look into it may be in there.
    fs::write(disks.path("never"), "no directory").unwrap();
    let beside = disks.open(&["one", "never"]);
    assert!(!disks.wants_place(&beside));
    assert!(disks.locate(&beside).is_err());
}

#[test]
fn what_is_left_over_from_a_move_is_told_from_what_counts() {
    let disks = Disks::new();
    let directories = disks.open(&["one", "two"]);
    disks.write(&directories, 1);
    fs::create_dir(disks.path("one/a-0")).unwrap();
    drop(directories);
    let directories = disks.open(&["one", "two"]);
    let [one, two] = directories.all() else { panic!("two directories") };
    assert!(!directories.found(one, "a-0", disks.topic_id));
    assert!(directories.found(two, "a-0", disks.topic_id));
    assert_eq!(disks.locate(&directories).unwrap().path, disks.path("two/a-0"));
    // An operator has moved it by hand.
    fs::remove_dir(disks.path("two/a-0")).unwrap();
    assert!(directories.found(one, "a-0", disks.topic_id));
    assert_eq!(disks.locate(&directories).unwrap().path, disks.path("one/a-0"));
    // Nobody remembers: an operator has to say.
    directories.note_ambiguous("a-0", vec![disks.path("one/a-0"), disks.path("two/a-0")]);
    let error = disks.locate(&directories).unwrap_err();
    assert!(matches!(error, LogError::FoundTwice { .. }), "{error}");
}

#[test]
fn without_the_directory_of_the_metadata_or_any_other_nothing_is_opened() {
    let disks = Disks::new();
    drop(disks.open(&["one", "two"]));
    fs::rename(disks.path("one"), disks.path("away")).unwrap();
    fs::write(disks.path("one"), "no directory").unwrap();
    let error = disks.try_open(&["one", "two"]).unwrap_err();
    assert!(matches!(error, DirectoryError::NotADirectory { .. }), "{error}");
    fs::remove_file(disks.path("one")).unwrap();
    fs::rename(disks.path("away"), disks.path("one")).unwrap();
    fs::rename(disks.path("two"), disks.path("away")).unwrap();
    let alone = LogDirectories::open(&disks.path("one"), &[disks.path("two")]).unwrap_err();
    assert!(matches!(alone, DirectoryError::AllOffline { .. }), "{alone}");
}

#[test]
fn a_node_stops_only_when_all_directories_or_that_of_its_metadata_have_failed() {
    let disks = Disks::new();
    let directories = disks.open(&["one", "two"]);
    assert!(directories.all()[1].fail("it burnt".to_owned()));
    assert_eq!(directories.lost(), None);
    assert!(directories.all()[0].fail("so did it".to_owned()));
    assert!(directories.lost().unwrap().contains("metadata"));
    let metadata = disks.path("metadata");
    let (one, two) = (disks.path("three"), disks.path("four"));
    let apart = LogDirectories::open(&metadata, &[one, two]).unwrap();
    assert_eq!(apart.metadata(), metadata);
    assert!(apart.all()[0].fail("it burnt".to_owned()));
    assert_eq!(apart.lost(), None);
    assert!(apart.all()[1].fail("so did it".to_owned()));
    assert!(apart.lost().unwrap().contains("every directory"));
}

#[test]
fn directories_within_each_other_or_named_twice_are_refused() {
    let disks = Disks::new();
    fs::create_dir(disks.path("one")).unwrap();
    std::os::unix::fs::symlink(disks.path("one"), disks.path("same")).unwrap();
    for names in [["one", "one"], ["one", "same"], ["one", "one/inner"], ["one/inner", "one"]] {
        let error = disks.try_open(&names).unwrap_err();
        assert!(matches!(error, DirectoryError::Nested { .. }), "{names:?}: {error}");
    }
    disks.open(&["one", "one-more"]);
}

#[test]
fn what_the_metadatas_directory_alone_has_is_found_where_it_was_before() {
    let disks = Disks::new();
    drop(disks.open(&["one", "two"]));
    fs::create_dir(disks.path("one/metadata")).unwrap();
    let swapped = disks.open(&["two", "one"]);
    assert_eq!(swapped.astray(&["metadata"]), Some(disks.path("one/metadata")));
    drop(swapped);
    assert_eq!(disks.open(&["one", "two"]).astray(&["metadata"]), None);
}
