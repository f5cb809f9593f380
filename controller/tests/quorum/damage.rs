//! One of three loses its log to a flipped byte: nothing that was decided is lost, and nobody has to do anything.

use crate::lab::{Lab, within};
use crate::names;
use std::path::{Path, PathBuf};
use std::time::Duration;
use troupe_controller::ControllerConfig;

/// Snapshots, and looks at what is kept, more often than a node does.
fn small(config: ControllerConfig) -> ControllerConfig {
    let verify_interval = Duration::from_millis(200);
    ControllerConfig { snapshot_entries: 10, verify_interval, ..config }
}

async fn started() -> Lab {
    let mut lab = Lab::new();
    for id in 1..=3 {
        lab.start(small(lab.config(id))).await;
    }
    for member in lab.members.values() {
        within(member.await_cluster()).await.unwrap();
    }
    lab
}

struct Chance(u64);

impl Chance {
    fn draw(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) as usize % below
    }

    /// One byte of one of these files, mostly of what was written.
    fn flip(&mut self, paths: &[PathBuf]) -> (PathBuf, usize) {
        let path = &paths[self.draw(paths.len())];
        let mut bytes = std::fs::read(path).unwrap();
        let mut at = self.draw(bytes.len());
        for _ in 0..64 {
            if bytes[at] != 0 {
                break;
            }
            at = self.draw(bytes.len());
        }
        bytes[at] ^= 1 << self.draw(8);
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &bytes[at..=at], at as u64).unwrap();
        (path.clone(), at)
    }
}

fn kept(dir: &Path) -> Vec<PathBuf> {
    let names = ["raft/db", "raft/db", "metadata.snapshot", "quorum-state"];
    names.map(|name| dir.join(name)).into_iter().filter(|path| path.exists()).collect()
}

/// Until this one votes again.
async fn whole(lab: &Lab, id: i32) {
    let mut health = lab.handle(id).metadata_health();
    within(health.wait_for(|health| !health.recovering && health.failure.is_none())).await.unwrap();
}

/// What was there is there, on all three, and more can be decided with any two.
async fn assert_all_there(lab: &mut Lab, victim: i32, topics: &mut usize, context: &str) {
    whole(lab, victim).await;
    let image = lab.agreed().await;
    assert_eq!(image.topic_count(), *topics, "{context}");
    let other = if victim == 1 { 2 } else { 1 };
    lab.kill(other).await;
    lab.create([format!("without-{other}-{topics}")]).await;
    *topics += 1;
    lab.start(small(lab.config(other))).await;
    whole(lab, other).await;
    assert_eq!(lab.agreed().await.topic_count(), *topics, "{context}");
}

async fn flip_while_stopped(lab: &mut Lab, seed: u64, rounds: usize, blackout: bool) {
    let mut chance = Chance(seed);
    let mut topics = lab.agreed().await.topic_count();
    for round in 0..rounds {
        let leader = lab.leader().await;
        let victim = if round % 2 == 0 { leader } else { 1 + leader % 3 };
        let stopped: Vec<i32> = if blackout { vec![1, 2, 3] } else { vec![victim] };
        for id in &stopped {
            lab.kill(*id).await;
        }
        let (path, at) = chance.flip(&kept(lab.dir(victim)));
        for id in &stopped {
            lab.start(small(lab.config(*id))).await;
        }
        let context = format!("round {round} of seed {seed}: {path:?} at {at}");
        assert_all_there(lab, victim, &mut topics, &context).await;
    }
}

async fn flip_while_running(lab: &mut Lab, seed: u64, rounds: usize) {
    let mut chance = Chance(seed);
    let mut topics = lab.agreed().await.topic_count();
    for round in 0..rounds {
        let leader = lab.leader().await;
        let victim = if round % 2 == 0 { leader } else { 1 + leader % 3 };
        let (path, at) = chance.flip(&kept(lab.dir(victim)));
        lab.create([format!("meanwhile-{topics}")]).await;
        topics += 1;
        let context = format!("round {round} of seed {seed}: {path:?} at {at}");
        // Found by itself, or when it is started again, or nothing that counts was hit.
        lab.kill(victim).await;
        lab.start(small(lab.config(victim))).await;
        assert_all_there(lab, victim, &mut topics, &context).await;
    }
}

#[actix::test]
async fn a_byte_flipped_in_a_stopped_voters_log_loses_nothing() {
    let mut lab = started().await;
    lab.create(names("topic", 20)).await;
    flip_while_stopped(&mut lab, 1, 4, false).await;
    lab.stop_all().await;
}

#[actix::test]
async fn a_byte_flipped_while_all_three_were_off_loses_nothing() {
    let mut lab = started().await;
    lab.create(names("topic", 20)).await;
    flip_while_stopped(&mut lab, 2, 3, true).await;
    lab.stop_all().await;
}

#[actix::test]
async fn a_byte_flipped_under_a_running_voter_loses_nothing() {
    let mut lab = started().await;
    lab.create(names("topic", 20)).await;
    flip_while_running(&mut lab, 3, 4).await;
    lab.stop_all().await;
}

#[actix::test]
#[ignore = "a quarter of an hour"]
async fn two_hundred_flipped_bytes_lose_nothing() {
    let mut lab = started().await;
    lab.create(names("topic", 120)).await;
    flip_while_stopped(&mut lab, 4, 70, false).await;
    flip_while_stopped(&mut lab, 5, 60, true).await;
    flip_while_running(&mut lab, 6, 70).await;
    lab.stop_all().await;
}

/// All of it, so that there is no doubt that it is hit.
fn ruin(dir: &Path) {
    let path = dir.join("raft/db");
    let length = std::fs::metadata(&path).unwrap().len() as usize;
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &vec![0xa5; length], 0).unwrap();
}

#[actix::test]
async fn a_log_that_is_ruined_under_a_running_voter_is_found_and_filled_again_without_help() {
    let lab = started().await;
    lab.create(names("topic", 20)).await;
    let leader = lab.leader().await;
    for victim in [1 + leader % 3, leader] {
        let mut health = lab.handle(victim).metadata_health();
        let images = lab.handle(victim).image();
        let before = images.borrow().next_offset();
        ruin(lab.dir(victim));
        drop(within(health.wait_for(|health| health.damages > 0)).await.unwrap());
        whole(&lab, victim).await;
        assert!(images.borrow().next_offset() >= before, "what is seen does not go back");
        assert!(lab.dir(victim).join("raft.damaged-1").exists(), "nothing is deleted");
    }
    lab.create(names("after", 1)).await;
    assert_eq!(lab.agreed().await.topic_count(), 21);
    lab.stop_all().await;
}

/// The voter that lost its log is needed for a majority; it must not help one that lacks what it had.
#[actix::test]
async fn a_voter_that_lost_its_log_elects_nobody_before_it_is_filled_again() {
    let mut lab = started().await;
    let leader = lab.leader().await;
    let (behind, victim) = (1 + leader % 3, 1 + (leader + 1) % 3);
    lab.kill(behind).await;
    lab.create(names("topic", 20)).await;
    lab.kill(victim).await;
    lab.kill(leader).await;
    ruin(lab.dir(victim));
    lab.start(small(lab.config(victim))).await;
    lab.start(small(lab.config(behind))).await;
    // Long enough for several elections, if there were any.
    for id in [behind, victim] {
        let mut leadership = lab.handle(id).leadership();
        let leads = leadership.wait_for(|leadership| leadership.here);
        assert!(tokio::time::timeout(Duration::from_secs(3), leads).await.is_err());
    }
    assert!(lab.handle(victim).metadata_health().borrow().recovering);
    // Neither does a power cut make it forget that.
    lab.kill(victim).await;
    lab.start(small(lab.config(victim))).await;
    assert!(lab.handle(victim).metadata_health().borrow().recovering);
    lab.start(small(lab.config(leader))).await;
    whole(&lab, victim).await;
    assert_eq!(lab.agreed().await.topic_count(), 20);
    lab.stop_all().await;
}

/// The vote is lost with the log: all others are asked for one that is high enough.
#[actix::test]
async fn a_voter_that_lost_its_vote_too_comes_back() {
    let mut lab = started().await;
    lab.create(names("topic", 20)).await;
    let victim = 1 + lab.leader().await % 3;
    lab.kill(victim).await;
    ruin(lab.dir(victim));
    std::fs::write(lab.dir(victim).join("quorum-state"), vec![0xa5; 8192]).unwrap();
    lab.start(small(lab.config(victim))).await;
    whole(&lab, victim).await;
    assert_eq!(lab.agreed().await.topic_count(), 20);
    lab.create(names("after", 1)).await;
    assert_eq!(lab.agreed().await.topic_count(), 21);
    lab.stop_all().await;
}
