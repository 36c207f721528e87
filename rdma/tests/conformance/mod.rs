//! One suite for all providers of the fabric: what `sterna_rdma::fabric` promises, and nothing else.
//!
//! A provider takes part by implementing [`Cluster`], which makes N connected fabrics in one process
//! and lets things move, and by naming itself in [`conformance!`] (cases that one thread drives),
//! [`conformance_threads!`] (cases in which nodes run in threads) and [`conformance_processes!`] (cases
//! in which nodes are processes that are killed and stopped).
//!
//! Every case takes a seed and prints it when it fails; `STERNA_SEED` runs that one alone. Every wait
//! has a limit ([`job::WAIT_MAX`]).

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    unused_macros,
    reason = "each provider uses the parts that suit it"
)]

use std::sync::Arc;

use sterna_rdma::{Fabric, Rank};

pub mod death;
pub mod guard;
pub mod job;
pub mod jobs;
pub mod limits;
pub mod memory;
pub mod order;
pub mod processes;
pub mod random;
pub mod strangers;
pub mod threads;
pub mod transfer;

/// N connected nodes in this process.
pub trait Cluster: Sized {
    /// Seeds that each case runs with.
    const SEEDS: std::ops::Range<u64>;

    /// Why the provider cannot be tried on this machine.
    fn missing() -> Option<String> {
        None
    }

    /// Connects `nodes` fabrics.
    fn start(nodes: usize, seed: u64) -> Self;

    /// The fabric of a node; called once for each.
    fn fabric(&mut self, rank: Rank) -> Arc<dyn Fabric>;

    /// Nothing was to be done `rounds` times in a row: lets time pass. False if nothing will ever
    /// happen any more, as only a simulator can know.
    fn idle(&mut self, rounds: u32) -> bool;

    /// Ends a node without a goodbye. `fabric` is the last handle to it.
    fn end(&mut self, rank: Rank, fabric: Arc<dyn Fabric>);
}

/// Runs a case with its seeds and names the seed that fails.
pub fn for_seeds(seeds: std::ops::Range<u64>, case: impl Fn(u64)) {
    struct Name(u64);
    impl Drop for Name {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("failed with STERNA_SEED={}", self.0);
            }
        }
    }
    let seeds = match std::env::var("STERNA_SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("STERNA_SEED is a number");
            seed..seed + 1
        }
        Err(_) => seeds,
    };
    for seed in seeds {
        let _name = Name(seed);
        case(seed);
    }
}

/// Whether the cases are to run; says once why not.
pub fn is_there(missing: Option<String>) -> bool {
    static SAID: std::sync::Once = std::sync::Once::new();
    let Some(reason) = missing else { return true };
    // Not by the macro, whose text the test harness keeps to itself.
    SAID.call_once(|| {
        let _ = std::io::Write::write_all(
            &mut std::io::stderr(),
            format!("SKIPPED, all cases of this binary: {reason}\n").as_bytes(),
        );
    });
    false
}

/// Instantiates cases by their names.
macro_rules! cases {
    ($cluster:ty, $($module:ident::$case:ident),+ $(,)?) => {
        $(
            #[test]
            fn $case() {
                if !$crate::conformance::is_there(
                    <$cluster as $crate::conformance::Cluster>::missing(),
                ) {
                    return;
                }
                $crate::conformance::for_seeds(
                    <$cluster as $crate::conformance::Cluster>::SEEDS,
                    $crate::conformance::$module::$case::<$cluster>,
                );
            }
        )+
    };
}
pub(crate) use cases;

/// The cases that one thread drives.
macro_rules! conformance {
    ($cluster:ty) => {
        $crate::conformance::cases!(
            $cluster,
            order::records_arrive_in_order_and_once_from_all_sides,
            order::a_read_after_a_record_sees_what_the_sender_stored_before_it,
            transfer::reads_of_all_sizes_and_alignments_return_the_bytes,
            transfer::records_of_all_lengths_are_gathered_from_their_parts,
            transfer::rings_wrap_around_and_lose_nothing,
            transfer::links_full_on_both_sides_drain_and_work_again,
            limits::a_full_lane_refuses_and_works_after_a_poll,
            limits::reads_that_cannot_be_are_refused_and_the_lane_goes_on,
            limits::a_record_that_is_too_long_is_refused_and_the_link_goes_on,
            limits::two_nodes_export_many_regions_at_the_same_time,
            limits::lanes_with_reads_outstanding_can_be_dropped,
            death::a_dead_peer_is_reported_once_and_after_a_first_part_of_what_it_sent,
            death::a_goodbye_comes_after_all_records_and_is_no_failure,
            death::an_expelled_peer_delivers_nothing_more_and_learns_of_it,
            death::a_sender_without_credit_learns_of_the_death,
            death::reads_outstanding_at_a_dead_peer_end,
            death::a_death_between_export_and_import_is_an_error_value,
            random::random_operations_agree_with_a_model,
        );
    };
}
pub(crate) use conformance;

/// The cases in which nodes run in threads; `$choice` is a [`jobs::Choice`].
macro_rules! conformance_threads {
    ($choice:ty) => {
        $crate::conformance::job_cases!(
            $choice,
            threads::threads_that_send_on_one_link_keep_their_order,
            threads::ten_thousand_hand_offs_lose_no_wake_up,
            threads::a_wake_of_another_thread_always_ends_a_park,
            threads::idle_nodes_sleep_without_using_a_core,
            threads::lanes_of_many_threads_sleep_and_wake,
            threads::a_read_after_a_record_sees_the_stores_of_another_thread,
            threads::an_expelled_peers_thread_wakes_from_its_park,
            strangers::a_stranger_with_a_wrong_token_cannot_join_and_is_counted,
            strangers::noise_at_the_door_is_refused_and_harms_nobody,
            strangers::a_node_of_another_version_is_refused_by_both_sides_with_the_remedy,
            strangers::a_missing_rank_is_named_within_the_limit,
        );
    };
}
pub(crate) use conformance_threads;

/// What providers promise whose READs this node's or the owner's processor does: a row that is replaced
/// during a READ shows in one of its heads. Where a device reads, places are not used again so soon.
macro_rules! conformance_guards {
    ($cluster:ty) => {
        $crate::conformance::cases!($cluster, guard::a_row_replaced_during_a_read_shows_in_a_head,);
    };
    ($cluster:ty, $choice:ty) => {
        $crate::conformance::conformance_guards!($cluster);
        $crate::conformance::job_cases!(
            $choice,
            threads::a_row_replaced_by_another_thread_shows_in_a_head,
        );
    };
}
pub(crate) use conformance_guards;

/// The cases in which nodes are processes. The binary runs itself again as the other node.
macro_rules! conformance_processes {
    ($choice:ty) => {
        #[test]
        #[ignore = "run by the other tests as the other node's process"]
        fn child_process() {
            $crate::conformance::processes::run_child::<$choice>();
        }

        $crate::conformance::job_cases!(
            $choice,
            processes::a_process_killed_while_it_sends_leaves_a_first_part,
            processes::a_process_killed_while_its_link_is_full_is_reported,
            processes::a_process_killed_with_reads_outstanding_ends_them,
            processes::a_process_killed_while_it_reads_is_reported,
            processes::a_process_killed_in_its_sleep_is_reported,
            processes::a_process_killed_while_it_exports_is_reported,
            processes::a_death_wakes_a_parked_node_and_a_waiting_lane,
            processes::a_process_that_says_goodbye_is_no_failure,
            processes::a_stopped_process_loses_nothing,
        );
    };
}
pub(crate) use conformance_processes;

/// Instantiates cases of a [`jobs::Choice`]; the threads' schedule is their randomness.
macro_rules! job_cases {
    ($choice:ty, $($module:ident::$case:ident),+ $(,)?) => {
        $(
            #[test]
            fn $case() {
                if !$crate::conformance::is_there(
                    <$choice as $crate::conformance::jobs::Choice>::missing(),
                ) {
                    return;
                }
                $crate::conformance::for_seeds(0..1, $crate::conformance::$module::$case::<$choice>);
            }
        )+
    };
}
pub(crate) use job_cases;
