//! Schedules that broke a promise once, by what was wrong. Where that was the log, a test of its own shows
//! the cause at closer range.

use crate::runner::{Kind, run, run_without_compaction};

fn assert_kept(kind: Kind, seeds: &[u64]) {
    for seed in seeds {
        if let Err(failed) = run_without_compaction(kind, *seed) {
            panic!("seed {}: {}\n{}", failed.seed, failed.why, failed.tail);
        }
    }
}

/// With all that a run may have by now.
fn assert_kept_with_all(seeds: &[u64]) {
    for seed in seeds {
        if let Err(failed) = run(Kind::Replicas, *seed, None) {
            panic!("seed {}: {}\n{}", failed.seed, failed.why, failed.tail);
        }
    }
}

/// The simulation was wrong: that a segment was deleted is not synced, and a power cut may bring it back.
#[test]
fn deleted_segments_may_come_back_and_are_what_was_written() {
    let seeds = [
        70035911, 70043416, 70056868, 70065989, 70067386, 70074491, 70080420, 70093800, 70120904,
        70121893, 70131592, 70144911, 70164912, 70174930, 70203268, 70208267, 70222292, 70224035,
        70229425,
    ];
    assert_kept(Kind::Replicas, &seeds);
}

/// The log was wrong: `a_truncation_that_failed_half_way_is_finished_by_the_next_open`.
#[test]
fn what_was_cut_off_does_not_come_back() {
    assert_kept(Kind::Replicas, &[70068657]);
}

/// The log was wrong: `what_counts_as_flushed_after_deleting_survives_a_power_cut`.
#[test]
fn a_follower_that_deletes_what_it_has_not_flushed_keeps_its_end() {
    assert_kept(Kind::Replicas, &[70100920]);
}

/// The log was wrong: `no_checkpoint_vouches_for_a_segment_whose_name_is_not_on_disk`.
#[test]
fn the_first_segment_survives_a_power_cut_once_it_was_flushed() {
    assert_kept(Kind::Groups, &[70108759, 70156762]);
}

/// The log was wrong: `an_epoch_that_got_no_batch_is_forgotten_with_the_next_batch_of_an_older_one`.
#[test]
fn what_is_committed_is_not_cut_off_for_an_epoch_without_batches() {
    assert_kept(Kind::Replicas, &[90018616]);
}

/// The log was wrong: `a_snapshot_from_before_deleted_batches_is_not_used`.
#[test]
fn producers_whose_batches_were_deleted_are_not_refused_for_ever() {
    assert_kept(Kind::Replicas, &[70031807, 70043558, 70216677]);
}

/// The log was wrong: `what_deleted_batches_said_of_producers_survives_a_power_cut`.
#[test]
fn producers_whose_batches_were_deleted_are_known_after_a_clean_stop() {
    assert_kept(Kind::Replicas, &[70235531]);
}

/// The simulation was wrong: its nodes kept their streams in the name of a registration that was over.
#[test]
fn a_node_that_registers_anew_comes_back_into_the_isr() {
    assert_kept(Kind::Replicas, &[70175688]);
}

/// The log was wrong: `a_ticket_that_a_failed_truncation_overtook_proves_nothing`.
#[test]
fn a_flush_that_a_failed_truncation_overtook_counts_for_nothing() {
    assert_kept(Kind::Groups, &[640147978, 640223448]);
    assert_kept(Kind::Replicas, &[730115815]);
}

/// The simulation was wrong: of a batch that reaches over the offset nothing is kept, also if the truncation fails.
#[test]
fn a_truncation_within_a_batch_cuts_all_of_it() {
    assert_kept(Kind::Replicas, &[1000844692]);
}

/// The simulation was wrong: an unclean election may truncate more batches of a producer than cleaning looks ahead, and
/// those before them may be gone.
#[test]
fn what_an_unclean_election_loses_of_producers_is_lost() {
    assert_kept_with_all(&[206737]);
}

/// The replica was wrong: it may lose more batches of a producer with its machine than ten, while it is filled.
#[test]
fn what_a_replica_that_lags_loses_of_producers_is_kept_by_cleaning() {
    assert_kept_with_all(&[235025]);
}

/// The controller was wrong: `the_last_copy_is_not_dropped_with_a_cancelled_move`.
#[test]
fn a_cancelled_move_keeps_the_last_copy() {
    assert_kept_with_all(&[205562]);
}

/// The machine was wrong: `what_a_leader_has_sent_to_one_that_lacked_nothing_but_its_end_is_not_dropped`.
#[test]
fn who_was_filled_again_keeps_what_it_has_when_it_changes_leaders() {
    run(Kind::Decay, 107913, None).expect("it is kept");
}

fn assert_kept_where_disks_go_bad(seeds: &[u64]) {
    for seed in seeds {
        if let Err(failed) = run(Kind::Decay, *seed, None) {
            panic!("seed {}: {}\n{}", failed.seed, failed.why, failed.tail);
        }
    }
}

/// The log was wrong: `cleaning_passes_over_damage_of_what_was_deleted_and_loses_nothing_behind_it`.
#[test]
fn what_stands_behind_damage_of_what_was_deleted_survives_cleaning() {
    assert_kept_where_disks_go_bad(&[100289]);
}

/// The simulation was wrong: what a replica has that others lack where it is damaged is committed with them; what was
/// deleted or given up is nobody's to keep in mind; producers go on while it is not known whether something is lost.
#[test]
fn damage_that_nobody_has_to_know_of_is_not_held_against_anybody() {
    assert_kept_where_disks_go_bad(&[
        112571, 117205, 201950, 202330, 203022, 205726, 207907, 301762, 304709, 305437, 309319,
        311020,
    ]);
}
