//! `kill -9` while a log is cleaned: nothing is lost, and no offset changes (S22, S27).

use super::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::Duration;
use troupe_tests::{Process, Serve, eventually, seed, temporary_directory};

const KILLS: usize = 20;

#[tokio::test]
async fn twenty_kills_while_a_log_is_cleaned_lose_nothing() {
    let seed = seed();
    println!("seed {seed}");
    let mut chance = StdRng::seed_from_u64(seed);
    let directory = temporary_directory();
    // Slow enough to be met at it.
    let settings = [OFTEN, "log.cleaner.io.max.bytes.per.second=512KiB"].map(str::to_owned);
    let serve = Serve { settings: settings.to_vec(), ..Serve::default() };
    let start = || {
        Process::start(directory.path(), &serve)
            .unwrap_or_else(|exit| panic!("seed {seed}: {}\n{}", exit.status, exit.stderr))
    };
    let mut node = start();
    let mut server = Server::at(node.server()).await;
    let topic = server.create_topic("killed", 1, &EAGER).await.name;
    let mut appended = Appended::new();
    let mut met = 0;
    for _ in 0..KILLS {
        // More than a segment, so that there is something to clean.
        let (keys, times) = (chance.random_range(30..60), chance.random_range(3..6));
        overwrite(&server, &topic, &mut appended, keys, times).await;
        let deleted = keyed(&format!("key-{}", chance.random_range(0..60)), None);
        append(&server, &topic, &mut appended, &[deleted]).await;
        eventually("it is cleaned, or was", async || {
            let cleaning = cleaning(&server, &topic).await;
            (cleaning.state() == CleaningState::Cleaning || cleaning.pass_count > 0).then_some(())
        })
        .await;
        // Chance decides where in its work it dies; nothing is waited for.
        tokio::time::sleep(Duration::from_millis(chance.random_range(0..60))).await;
        met += u32::from(cleaning(&server, &topic).await.state() == CleaningState::Cleaning);
        node.kill();
        node = start();
        server = Server::at(node.server()).await;
        check(&server, &topic, &appended).await;
    }
    println!("{met} of {KILLS} kills met a pass");
    assert!(met > 0, "seed {seed}: the kills hit nothing");
    overwrite(&server, &topic, &mut appended, 40, 3).await;
    until_cleaned(&server, &topic, 0).await;
    check(&server, &topic, &appended).await;
    assert!(node.terminate().await.success());
}
