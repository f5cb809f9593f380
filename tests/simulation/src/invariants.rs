//! What has to hold, one promise a file (reliability.md §8). Facts of the run in, a violation out.

mod acknowledged_records_survive;
mod all_below_was_delivered;
mod checksums_hold;
mod cleaning_loses_nothing;
mod committed_never_changes;
mod committed_offsets_never_go_back;
mod damage_is_told;
mod deleted_stays_deleted;
mod enough_copies_stay;
mod fenced_leaders_acknowledge_nothing;
mod in_sync_replicas_have_what_is_committed;
mod metadata_is_one_log;
mod no_record_twice;
mod nobody_drops_what_counts;
mod offsets_only_grow;
mod one_leader_per_epoch;
mod one_owner_per_partition;
mod outcomes_are_true;
mod recovery_keeps_what_was_flushed;
mod replicas_become_equal;
mod sessions_keep_their_order;
mod stable_is_decided;
mod transactions_are_atomic;

pub use acknowledged_records_survive::{
    acknowledged_is_committed, acknowledged_is_there, leader_has_what_is_committed,
};
pub use all_below_was_delivered::all_below_was_delivered;
pub use checksums_hold::checksums_hold;
pub use cleaning_loses_nothing::{
    producers_stay_known, the_last_of_each_key_stays, tombstones_stay_their_time,
    what_is_missing_is_superseded,
};
pub use committed_never_changes::{committed_never_changes, is_seen, only_committed_is_read};
pub use committed_offsets_never_go_back::{
    committed_offsets_never_go_back, only_empty_groups_are_reset,
    who_takes_over_begins_where_it_was,
};
pub use damage_is_told::{
    nothing_whole_is_given_up, only_what_decayed_is_damaged, what_was_flushed_is_missed,
    who_was_filled_is_whole,
};
pub use deleted_stays_deleted::{
    deletion_is_answered, impossible_deletion_is_refused, in_sync_replica_has_deleted,
    nothing_deleted_is_served, only_what_is_committed_is_deleted,
};
pub use enough_copies_stay::enough_copies_stay;
pub use fenced_leaders_acknowledge_nothing::fenced_leaders_acknowledge_nothing;
pub use in_sync_replicas_have_what_is_committed::in_sync_replica_has;
pub use metadata_is_one_log::{image_is_a_prefix, records_are_the_same};
pub use no_record_twice::{each_stamp_once, value_stands_once};
pub use nobody_drops_what_counts::nobody_drops_what_counts;
pub use offsets_only_grow::{offsets_only_grow, truncation_stays_above};
pub use one_leader_per_epoch::{epochs_only_grow, one_leader_per_epoch};
pub use one_owner_per_partition::{
    member_epochs_only_grow, one_owner_per_partition, only_owners_commit,
    what_a_member_reads_it_holds,
};
pub use outcomes_are_true::failed_is_not_there;
pub use recovery_keeps_what_was_flushed::{recovery_is_a_prefix, recovery_is_idempotent};
pub use replicas_become_equal::replicas_are_equal;
pub use sessions_keep_their_order::{no_gap, sequence_goes_on};
pub use stable_is_decided::stable_is_decided;
pub use transactions_are_atomic::{
    aborted_are_known, all_of_it_is_there, closed_as_decided, committed_is_whole,
    coordinators_only_grow, decided_once, one_client_per_epoch, only_what_is_committed_is_given,
    told_is_decided, transactions_stay_apart,
};
