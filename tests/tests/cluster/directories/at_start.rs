//! A directory that is not in order when its node starts: it is not begun anew, and the others are served.

use super::*;
use std::io;

/// All partitions are led; those that are hit by others, without the failing node.
async fn only_these_are_away(disks: &Disks, hit: &BTreeSet<i32>) {
    eventually("the others are in sync again, and these are not", async || {
        let now = disks.partitions().await;
        let right = |(number, one): (&i32, &PartitionState)| {
            one.leader_id.is_some()
                && one.in_sync_replicas.contains(&FAILING) != hit.contains(number)
        };
        now.iter().all(right).then_some(())
    })
    .await;
}

/// Vanished, and with a file or an empty directory in its place.
#[tokio::test]
async fn a_directory_that_is_away_at_the_start_keeps_its_partitions_until_it_is_back() {
    let mut disks = Disks::start(None).await;
    let load = Load::start(&disks.cluster);
    load.goes_on().await;
    let hit = disks.hit();
    let away = disks.second.with_extension("away");
    for (round, in_its_place) in
        [None, Some("file"), Some("empty directory")].into_iter().enumerate()
    {
        disks.cluster.kill(FAILING);
        load.goes_on().await;
        fs::rename(&disks.second, &away).unwrap();
        match in_its_place {
            Some("file") => fs::write(&disks.second, "no directory").unwrap(),
            Some(_) => fs::create_dir(&disks.second).unwrap(),
            None => {}
        }
        disks.cluster.restart(&[FAILING]).await;
        only_these_are_away(&disks, &hit).await;
        load.goes_on().await;
        assert_eq!(disks.cluster.times_said("a log directory is offline"), round + 1);
        disks.cluster.kill(FAILING);
        match in_its_place {
            Some("file") => fs::remove_file(&disks.second).unwrap(),
            Some(_) => fs::remove_dir(&disks.second).unwrap(),
            None => assert!(!disks.second.exists(), "nobody writes to the place of a mount"),
        }
        fs::rename(&away, &disks.second).unwrap();
        disks.cluster.restart(&[FAILING]).await;
        disks.cluster.healed().await;
    }
    assert_eq!(disks.cluster.times_said("the log is damaged"), 0, "{}", disks.cluster.said());
    assert_eq!(disks.hit(), hit, "they are where they were");
    disks.nothing_is_lost(load).await;
}

/// It takes no writes, or answers everything with an error.
#[tokio::test]
async fn a_directory_whose_disk_fails_at_the_start_keeps_its_partitions_until_it_is_in_order() {
    let mount = match Mount::ext4(256 << 20) {
        Ok(mount) => mount,
        Err(error) => {
            let name = "a_directory_whose_disk_fails_at_the_start_keeps_its_partitions_until_it_is_in_order";
            return skip(name, &format!("cannot mount: {error}"));
        }
    };
    let mut disks = Disks::start(Some(mount.path())).await;
    let load = Load::start(&disks.cluster);
    load.goes_on().await;
    let hit = disks.hit();
    let faults: [fn(&Mount) -> io::Result<()>; 2] = [Mount::turn_read_only, Mount::break_down];
    for (round, fail) in faults.into_iter().enumerate() {
        disks.cluster.kill(FAILING);
        load.goes_on().await;
        fail(&mount).unwrap();
        disks.cluster.restart(&[FAILING]).await;
        only_these_are_away(&disks, &hit).await;
        load.goes_on().await;
        assert_eq!(disks.cluster.times_said("a log directory is offline"), round + 1);
        disks.cluster.kill(FAILING);
        mount.mount_again().unwrap();
        disks.cluster.restart(&[FAILING]).await;
        disks.cluster.healed().await;
    }
    assert_eq!(disks.hit(), hit, "they are where they were");
    disks.nothing_is_lost(load).await;
}
