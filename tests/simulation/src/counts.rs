//! How often each kind of fault was really injected, and each turn of events that the runs are for.

macro_rules! counts {
    ($what:ident: $($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Only what has really happened counts: a crash of a process that is down is none.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $what { $($(#[$doc])* pub $name: u64),* }

        impl $what {
            pub fn add(&mut self, other: &$what) { $(self.$name += other.$name;)* }

            pub fn table(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name)),*]
            }
        }
    };
}

counts! { Counts:
    // faults
    process_kills,
    power_losses,
    power_losses_of_all,
    crashes_within_io,
    crashes_within_recovery,
    lost_tails,
    clean_stops,
    wiped_disks,
    pauses,
    clock_jumps,
    replica_kills,
    fsync_errors,
    lost_pages,
    write_errors,
    full_disks,
    slow_disks,
    isolations,
    one_way_cuts,
    bridges,
    lost_messages,
    broken_streams,
    slow_networks,
    lost_answers,
    repeated_answers,
    late_answers,
    repeated_produce_requests,
    controller_elections,
    lost_metadata_entries,
    fenced_brokers,
    preferred_elections,
    unclean_elections,
    reassignments,
    reassignments_cancelled,
    retired_brokers,
    unregistered_brokers,
    kept_brokers,
    // turns of events
    leader_changes,
    leaders_with_records_in_flight,
    reassignments_completed,
    cancellations_that_waited,
    dropped_replicas,
    isr_expansions,
    isr_shrinks,
    stale_alters,
    fenced_alters,
    ineligible_alters,
    elections_needed,
    truncations,
    resets,
    begun_anew,
    fills_noted,
    deletions,
    cleanings,
    cleanings_overtaken,
    crashes_within_cleaning,
    records_cleaned,
    rolls,
    snapshots_restored,
    metadata_snapshots,
    recoveries,
    acknowledged,
    duplicates,
    duplicates_after_failover,
    refused_appends,
    unknown_outcomes,
    consumed_batches,
}

counts! { GroupCounts:
    // faults
    killed_members,
    zombies,
    slow_members,
    twins,
    broken_streams,
    swallowed_answers,
    commits_that_come_late,
    coordinators_killed,
    subscription_changes,
    topics_created,
    topics_deleted,
    partitions_added,
    // turns of events
    coordinators_loaded,
    coordinators_ended,
    refused_appends,
    failed_appends,
    decisions_in_parts,
    unknown_commits,
    joined,
    resumed,
    resumed_with_changes,
    left,
    disconnected,
    time_outs,
    pushes,
    holdings_changed,
    commits,
    offsets_committed,
    offsets_deleted,
    resets,
    late_commits_of_owners,
    lost_memberships,
    // refusals
    unknown_members,
    fenced_members,
    stale_members,
    not_assigned,
    fenced_instances,
    refused_resets,
}
