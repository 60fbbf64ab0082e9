//! Every property, by group, with the clauses that it checks. This is the one list of them.

use crate::{Harness, MemoryHarness, Property};

/// Calls a macro with the list of all properties.
#[doc(hidden)]
#[macro_export]
macro_rules! __with_properties {
    ([$($callback:tt)*] $($argument:tt)*) => {
        $($callback)*! {
            $($argument)*
            buffers {
                every_length_arrives_whole ["B1", "F2"]
                reserve_gives_what_was_asked_for ["B2"]
                reserved_buffers_can_be_sent ["B3"]
                truncate_shortens_the_message ["B4"]
                dropped_send_buffers_free_their_slots ["B5"]
                dropped_send_buffer_wakes_the_sender ["B5", "W1"]
                dropped_receive_buffers_are_posted_again ["B6", "F6"]
                dropped_receive_buffers_wake_the_receiver ["B6", "W1"]
                buffers_outlive_everything ["B7"]
                foreign_buffers_come_back ["B8"]
                held_receive_buffers_stay_unchanged ["B9"]
                sent_memory_is_not_reused_early ["B1", "B3"]
                reserved_buffers_hold_nothing_of_a_peer ["B10"]
            }
            flow {
                messages_arrive_once_in_order ["F1", "F2", "F3"]
                flushed_messages_arrive_before_a_close ["F1", "E1"]
                a_close_waits_for_a_slow_receiver ["F1", "E3"]
                a_full_send_queue_would_block ["F4"]
                a_receiver_that_holds_all_stalls_the_sender ["F5", "F4"]
                a_stall_may_last ["F5"]
                posted_counts_receives ["F6"]
                one_flush_is_one_doorbell ["F7"]
                directions_are_independent ["F8", "F5"]
                only_what_was_sent_arrives ["F2"]
            }
            model {
                random_operations_match_the_model ["B1", "B2", "B3", "B4", "B5", "B6", "F1", "F2", "F3", "F4", "F6"]
            }
            waking {
                a_message_wakes_the_latest_waker ["W1"]
                a_slot_wakes_the_latest_waker ["W1", "B5"]
                a_poll_looks_again ["W1"]
                ping_pong_loses_no_wake_up ["W1"]
                a_new_waker_at_every_poll_will_do ["W3", "W1"]
                a_waker_that_does_nothing_is_legal ["W3"]
                dropped_futures_lose_nothing ["W4"]
                a_dropped_close_goes_on ["W4", "E3"]
                waiting_flushes_first ["W2"]
                try_calls_arm_nothing ["W5"]
                each_side_has_its_own_waker ["W1", "W6"]
                halves_work_on_two_threads ["W6"]
                buffers_dropped_at_any_moment_stall_nothing ["W1", "B5", "B6"]
                a_stalled_sender_is_woken ["W1", "F5"]
                a_request_wakes_the_latest_waker ["W3", "W4"]
            }
            ends {
                everything_arrived_comes_before_the_end ["E1", "F1"]
                a_close_and_a_death_look_alike ["E2", "E4"]
                a_cut_link_has_its_own_kind ["E2", "E6"]
                a_close_is_idempotent ["E3"]
                both_ends_may_close_at_once ["E3", "E5"]
                a_closed_track_can_still_be_read ["E1", "E3"]
                a_close_has_a_deadline ["E3"]
                a_close_tells_what_was_lost ["E3", "F1"]
                a_track_dropped_under_load_ends ["E4", "E1"]
                a_sender_outlives_its_receiver ["E4", "W6"]
                the_end_wakes_everybody ["E5"]
                the_end_wakes_a_stalled_sender ["E5"]
                a_close_wakes_the_own_receiver ["E5", "W6"]
                the_first_cause_sticks ["E6"]
                the_end_of_one_disturbs_no_other ["E7"]
            }
            connections {
                nobody_there_fails_in_time ["C1"]
                a_refused_request_is_refused ["C2"]
                an_unanswered_connect_times_out ["C3", "C4"]
                a_dropped_handshake_leaves_nothing ["C4"]
                connections_at_once_do_not_cross ["C5"]
                a_closed_listener_refuses ["C6"]
                an_address_is_listened_at_once ["C7"]
                an_early_message_waits ["C8"]
                an_early_answer_waits ["C8"]
                tracks_outlive_their_fabric ["C9"]
            }
            carriers {
                an_open_agrees_on_sizes ["K1", "K2"]
                a_peer_that_will_not_do_is_refused_on_both_sides ["K1"]
                an_open_has_a_deadline ["K1"]
                messages_of_every_length_arrive_whole ["K2"]
                messages_arrive_in_order_both_ways ["K2"]
                both_ends_send_before_either_receives ["K3"]
                what_fills_up_drains ["K3"]
                a_carrier_stays_within_its_credits ["K3"]
                a_fin_is_the_only_clean_end ["K4"]
                an_end_without_a_fin_is_disconnected ["K4"]
                a_dropped_send_is_withdrawn ["K5"]
                nonsense_in_a_handshake_is_survived ["K6"]
                nonsense_in_a_conversation_is_survived ["K6"]
                random_frames_are_survived ["K6"]
                a_close_sends_what_is_queued ["K7", "K4"]
                both_carriers_may_close_at_once ["K7"]
                a_carrier_close_has_a_deadline ["K7"]
            }
        }
    };
}

/// Calls a macro with the list of all properties of one-sided memory.
#[doc(hidden)]
#[macro_export]
macro_rules! __with_memory_properties {
    ([$($callback:tt)*] $($argument:tt)*) => {
        $($callback)*! {
            $($argument)*
            memory {
                memory_is_blank_and_aligned ["M1", "B10"]
                memory_that_cannot_be_had_is_refused ["M1"]
                adopted_memory_keeps_its_bytes ["M1"]
                shared_memory_is_the_same ["M2"]
                memory_is_reclaimed_when_nobody_has_it ["M2"]
                windows_are_what_was_lent ["M2", "M17"]
                words_are_whole ["M2", "M13"]
                memory_outlives_everything ["M15", "B7", "C9"]
                a_dropped_track_keeps_its_memory_to_itself ["M6", "M15", "E4"]
                every_length_is_written_and_read ["M3"]
                both_ends_reach_each_other ["M3", "F8"]
                an_operation_of_nothing_takes_its_turn ["M3", "M6"]
                misfits_come_back ["M4", "B2"]
                foreign_permits_and_memory_come_back ["M4", "B8"]
                a_write_is_there_before_the_next_message ["M7", "F3"]
                operations_see_what_was_queued_before ["M7"]
                completions_come_in_order ["M6"]
                operations_share_the_doorbell ["M7", "F7"]
                memory_stays_with_an_operation_that_waits ["M6", "M7", "F5"]
                gathered_sends_arrive_as_one_message ["M14", "M4", "B1"]
                many_operations_cost_no_slot ["M5", "M3"]
                a_read_beside_writes_brings_bytes_that_were_written ["M3", "M6"]
                permits_run_out_with_would_block ["M5", "F4"]
                permits_can_always_be_used ["M5", "B3"]
                dropped_permits_wake_the_sender ["M5", "M8", "B5", "W1"]
                completions_that_nobody_takes_are_bounded ["M5", "F4"]
                written_buffers_give_their_slots_back ["M5", "F4"]
                a_completion_wakes_the_latest_waker ["M8", "W1"]
                a_taken_completion_wakes_the_sender ["M8", "M5", "W1"]
                waiting_flushes_operations ["M8", "M6", "W2"]
                memory_try_calls_arm_nothing ["M8", "W5"]
                dropped_memory_futures_lose_nothing ["M8", "W4"]
                waits_for_completions_lose_no_wake_up ["M8", "W1", "W3"]
                a_poll_for_completions_looks_again ["M8", "W1"]
                halves_reach_memory_from_two_threads ["M16", "W6"]
                a_close_waits_for_operations ["M9", "E3"]
                the_end_gives_all_memory_back ["M10", "M6", "E5", "E6"]
                permits_end_with_the_track ["M10", "E6"]
                a_revoked_window_allows_nothing ["M12", "M11", "E7"]
                a_window_may_be_revoked_under_reads ["M12", "M11", "E7"]
                windows_come_and_go ["M12", "M2"]
                what_was_not_lent_is_refused ["M11", "E7"]
                what_was_done_before_a_refusal_stays ["M11", "M10"]
                a_refusal_wakes_the_target ["M11", "E5", "E3"]
                nonsense_is_no_window ["M17", "M11"]
                atomics_say_what_was_there ["M13"]
                additions_sum_exactly ["M13"]
                an_exchange_elects_one ["M13"]
                random_operations_match_the_memory_model ["M3", "M5", "M6", "M7", "M13", "M14", "F1", "F2", "F3"]
            }
        }
    };
}

/// Makes one `#[test]` of every property of one-sided memory, in a module `memory`. The argument is an expression that makes
/// a [`MemoryHarness`](crate::MemoryHarness); it is evaluated in each test. As for
/// [`conformance_tests!`](crate::conformance_tests), beside which it may stand.
#[macro_export]
macro_rules! memory_conformance_tests {
    ($harness:expr) => {
        $crate::__with_memory_properties!([$crate::__tests]($harness));
    };
}

/// Makes one `#[test]` of every property, in a module per group. The argument is an expression that makes a
/// [`Harness`](crate::Harness); it is evaluated in each test.
///
/// ```text
/// trespass_conformance::conformance_tests!(MyHarness::new());
/// ```
///
/// It stands at the root of a test of its own, because the modules have plain names. Behind a feature, put
/// `#![cfg(feature = "…")]` at the top of that test.
#[macro_export]
macro_rules! conformance_tests {
    ($harness:expr) => {
        $crate::__with_properties!([$crate::__tests]($harness));
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __tests {
    (($harness:expr) $($group:ident { $($name:ident [$($clause:literal),*])* })*) => {
        $(mod $group {
            #[allow(unused_imports)]
            use super::*;
            $(
                #[test]
                fn $name() {
                    let harness = $harness;
                    $crate::Property {
                        group: stringify!($group),
                        name: stringify!($name),
                        clauses: &[$($clause),*],
                        run: $crate::$group::$name,
                    }
                    .check(&harness);
                }
            )*
        })*
    };
}

macro_rules! table {
    ($($group:ident { $($name:ident [$($clause:literal),*])* })*) => {
        vec![$($(
            Property {
                group: stringify!($group),
                name: stringify!($name),
                clauses: &[$($clause),*],
                run: crate::$group::$name,
            }
        ),*),*]
    };
}

/// All properties, but those of one-sided memory.
pub fn properties<H: Harness>() -> Vec<Property<H>> {
    __with_properties!([table])
}

/// All properties of one-sided memory.
pub fn memory_properties<H: MemoryHarness>() -> Vec<Property<H>> {
    __with_memory_properties!([table])
}
