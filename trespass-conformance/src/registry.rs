//! Every property, by group, with the tracks that owe it (`any`, or those that are `reliable`, or `datagram` tracks) and the
//! clauses that it checks. This is the one list of them.

use crate::{DatagramHarness, MemoryHarness, Property, ReliableHarness};

/// Calls a macro with the list of all properties.
#[doc(hidden)]
#[macro_export]
macro_rules! __with_properties {
    ([$($callback:tt)*] $($argument:tt)*) => {
        $($callback)*! {
            $($argument)*
            buffers {
                any every_length_arrives_whole ["B1", "F2"]
                any reserve_gives_what_was_asked_for ["B2"]
                any reserved_buffers_can_be_sent ["B3"]
                any truncate_shortens_the_message ["B4"]
                any dropped_send_buffers_free_their_slots ["B5"]
                any dropped_send_buffer_wakes_the_sender ["B5", "W1"]
                any dropped_receive_buffers_are_posted_again ["B6", "F6"]
                any dropped_receive_buffers_wake_the_receiver ["B6", "W1"]
                any buffers_outlive_everything ["B7"]
                any foreign_buffers_come_back ["B8"]
                any held_receive_buffers_stay_unchanged ["B9"]
                reliable sent_memory_is_not_reused_early ["B1", "B3"]
                any reserved_buffers_hold_nothing_of_a_peer ["B10"]
                any a_word_stays_beside_its_message ["B11"]
            }
            flow {
                reliable messages_arrive_once_in_order ["F1", "F2", "F3"]
                reliable flushed_messages_arrive_before_a_close ["F1", "E1"]
                reliable a_close_waits_for_a_slow_receiver ["F1", "E3"]
                any a_full_send_queue_would_block ["F4"]
                reliable a_receiver_that_holds_all_stalls_the_sender ["F5", "F4"]
                reliable a_stall_may_last ["F5"]
                reliable posted_counts_receives ["F6"]
                any one_flush_is_one_doorbell ["F7"]
                reliable directions_are_independent ["F8", "F5"]
                reliable only_what_was_sent_arrives ["F2"]
            }
            model {
                reliable random_operations_match_the_model ["B1", "B2", "B3", "B4", "B5", "B6", "F1", "F2", "F3", "F4", "F6"]
            }
            waking {
                any a_message_wakes_the_latest_waker ["W1"]
                any a_slot_wakes_the_latest_waker ["W1", "B5"]
                any a_look_takes_no_waker_away ["W1"]
                reliable a_poll_looks_again ["W1"]
                reliable ping_pong_loses_no_wake_up ["W1"]
                reliable a_new_waker_at_every_poll_will_do ["W3", "W1"]
                reliable a_waker_that_does_nothing_is_legal ["W3"]
                reliable dropped_futures_lose_nothing ["W4"]
                reliable a_dropped_close_goes_on ["W4", "E3"]
                any waiting_flushes_first ["W2"]
                any try_calls_arm_nothing ["W5"]
                any each_side_has_its_own_waker ["W1", "W6"]
                reliable halves_work_on_two_threads ["W6"]
                reliable buffers_dropped_at_any_moment_stall_nothing ["W1", "B5", "B6"]
                reliable a_stalled_sender_is_woken ["W1", "F5"]
                any a_request_wakes_the_latest_waker ["W3", "W4"]
            }
            ends {
                reliable everything_arrived_comes_before_the_end ["E1", "F1"]
                reliable a_close_and_a_death_look_alike ["E2", "E4"]
                reliable a_cut_link_has_its_own_kind ["E2", "E6"]
                any a_close_is_idempotent ["E3"]
                any both_ends_may_close_at_once ["E3", "E5"]
                reliable a_closed_track_can_still_be_read ["E1", "E3"]
                reliable a_close_has_a_deadline ["E3"]
                reliable a_close_tells_what_was_lost ["E3", "F1"]
                reliable a_track_dropped_under_load_ends ["E4", "E1"]
                any a_sender_outlives_its_receiver ["E4", "W6"]
                reliable the_end_wakes_everybody ["E5"]
                reliable the_end_wakes_a_stalled_sender ["E5"]
                any a_close_wakes_the_own_receiver ["E5", "W6"]
                reliable the_first_cause_sticks ["E6"]
                any the_end_of_one_disturbs_no_other ["E7"]
            }
            connections {
                any nobody_there_fails_in_time ["C1"]
                any a_refused_request_is_refused ["C2"]
                any a_request_that_is_put_off_is_told ["C2"]
                any an_unanswered_connect_times_out ["C3", "C4"]
                any a_dropped_handshake_leaves_nothing ["C4"]
                reliable connections_at_once_do_not_cross ["C5"]
                any a_closed_listener_refuses ["C6"]
                any an_address_is_listened_at_once ["C7"]
                reliable an_early_message_waits ["C8"]
                reliable an_early_answer_waits ["C8"]
                any tracks_outlive_their_fabric ["C9"]
            }
            carriers {
                reliable an_open_agrees_on_sizes ["K1", "K2"]
                reliable a_peer_that_will_not_do_is_refused_on_both_sides ["K1"]
                reliable an_open_has_a_deadline ["K1"]
                reliable messages_of_every_length_arrive_whole ["K2"]
                reliable messages_arrive_in_order_both_ways ["K2"]
                reliable both_ends_send_before_either_receives ["K3"]
                reliable what_fills_up_drains ["K3"]
                reliable a_carrier_stays_within_its_credits ["K3"]
                reliable a_fin_is_the_only_clean_end ["K4"]
                reliable an_end_without_a_fin_is_disconnected ["K4"]
                reliable a_dropped_send_is_withdrawn ["K5"]
                reliable nonsense_in_a_handshake_is_survived ["K6"]
                reliable nonsense_in_a_conversation_is_survived ["K6"]
                reliable random_frames_are_survived ["K6"]
                reliable a_close_sends_what_is_queued ["K7", "K4"]
                reliable both_carriers_may_close_at_once ["K7"]
                reliable a_carrier_close_has_a_deadline ["K7"]
                reliable a_peer_that_stands_still_is_found ["K8"]
                reliable a_limit_to_one_call_loses_nothing ["K8", "K5"]
            }
            servers {
                reliable a_server_keeps_its_limits ["S1"]
                reliable handshakes_go_on_side_by_side ["S2"]
                reliable handshakes_fail_alone ["S3"]
                reliable a_drain_ends_with_a_goodbye_or_its_deadline ["S4"]
            }
            datagrams {
                datagram a_datagram_arrives_whole_or_not_at_all ["D1", "D2", "B3"]
                datagram nothing_is_invented ["D2"]
                datagram only_the_messages_of_the_peer_arrive ["D3", "C5"]
                datagram what_is_sent_again_and_again_arrives ["D4"]
                datagram a_receiver_that_takes_nothing_stalls_nobody ["D5", "F4"]
                datagram a_receiver_that_holds_all_stalls_nobody ["D5", "F8"]
                datagram an_overflow_disturbs_no_other_track ["D6"]
                datagram a_close_waits_for_the_device_alone ["D7", "E3"]
                datagram what_had_arrived_comes_before_the_own_end ["E1", "E6", "E3"]
                datagram a_peer_that_is_gone_hangs_nobody ["D8"]
                datagram halves_work_while_messages_are_lost ["W1", "W3", "W6", "F8"]
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
                reliable memory_is_blank_and_aligned ["M1", "B10"]
                reliable memory_that_cannot_be_had_is_refused ["M1"]
                reliable adopted_memory_keeps_its_bytes ["M1"]
                reliable shared_memory_is_the_same ["M2"]
                reliable memory_is_reclaimed_when_nobody_has_it ["M2"]
                reliable windows_are_what_was_lent ["M2", "M17"]
                reliable words_are_whole ["M2", "M13"]
                reliable memory_outlives_everything ["M15", "B7", "C9"]
                reliable a_dropped_track_keeps_its_memory_to_itself ["M6", "M15", "E4"]
                reliable every_length_is_written_and_read ["M3"]
                reliable both_ends_reach_each_other ["M3", "F8"]
                reliable an_operation_of_nothing_takes_its_turn ["M3", "M6"]
                reliable misfits_come_back ["M4", "B2"]
                reliable foreign_permits_and_memory_come_back ["M4", "B8"]
                reliable a_write_is_there_before_the_next_message ["M7", "F3"]
                reliable operations_see_what_was_queued_before ["M7"]
                reliable completions_come_in_order ["M6"]
                reliable operations_share_the_doorbell ["M7", "F7"]
                reliable memory_stays_with_an_operation_that_waits ["M6", "M7", "F5"]
                reliable gathered_sends_arrive_as_one_message ["M14", "M4", "B1"]
                reliable many_operations_cost_no_slot ["M5", "M3"]
                reliable a_read_beside_writes_brings_bytes_that_were_written ["M3", "M6"]
                reliable permits_run_out_with_would_block ["M5", "F4"]
                reliable permits_can_always_be_used ["M5", "B3"]
                reliable dropped_permits_wake_the_sender ["M5", "M8", "B5", "W1"]
                reliable completions_that_nobody_takes_are_bounded ["M5", "F4"]
                reliable written_buffers_give_their_slots_back ["M5", "F4"]
                reliable a_completion_wakes_the_latest_waker ["M8", "W1"]
                reliable a_taken_completion_wakes_the_sender ["M8", "M5", "W1"]
                reliable waiting_flushes_operations ["M8", "M6", "W2"]
                reliable memory_try_calls_arm_nothing ["M8", "W5"]
                reliable dropped_memory_futures_lose_nothing ["M8", "W4"]
                reliable waits_for_completions_lose_no_wake_up ["M8", "W1", "W3"]
                reliable a_poll_for_completions_looks_again ["M8", "W1"]
                reliable halves_reach_memory_from_two_threads ["M16", "W6"]
                reliable a_close_waits_for_operations ["M9", "E3"]
                reliable the_end_gives_all_memory_back ["M10", "M6", "E5", "E6"]
                reliable permits_end_with_the_track ["M10", "E6"]
                reliable a_revoked_window_allows_nothing ["M12", "M11", "E7"]
                reliable a_window_may_be_revoked_under_reads ["M12", "M11", "E7"]
                reliable windows_come_and_go ["M12", "M2"]
                reliable what_was_not_lent_is_refused ["M11", "E7"]
                reliable what_was_done_before_a_refusal_stays ["M11", "M10"]
                reliable a_refusal_wakes_the_target ["M11", "E5", "E3"]
                reliable nonsense_is_no_window ["M17", "M11"]
                reliable atomics_say_what_was_there ["M13"]
                reliable additions_sum_exactly ["M13"]
                reliable an_exchange_elects_one ["M13"]
                reliable random_operations_match_the_memory_model ["M3", "M5", "M6", "M7", "M13", "M14", "F1", "F2", "F3"]
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
        $crate::__with_memory_properties!([$crate::__tests](reliable $harness));
    };
}

/// Makes one `#[test]` of every property of reliable tracks, in a module per group. The argument is an expression that
/// makes a [`Harness`](crate::Harness); it is evaluated in each test.
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
        $crate::__with_properties!([$crate::__tests](reliable $harness));
    };
}

/// The same for datagram tracks: what every track owes, and what datagrams owe.
#[macro_export]
macro_rules! datagram_conformance_tests {
    ($harness:expr) => {
        $crate::__with_properties!([$crate::__tests](datagram $harness));
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __tests {
    (($kind:ident $harness:expr) $($group:ident { $($need:ident $name:ident [$($clause:literal),*])* })*) => {
        $(mod $group {
            #[allow(unused_imports)]
            use super::*;
            $($crate::__if_needed! { $kind $need
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
            })*
        })*
    };
}

/// What follows, where tracks of the first kind owe what the second asks for.
#[doc(hidden)]
#[macro_export]
macro_rules! __if_needed {
    (reliable datagram $($rest:tt)*) => {};
    (datagram reliable $($rest:tt)*) => {};
    ($kind:ident $need:ident $($rest:tt)*) => { $($rest)* };
}

macro_rules! table {
    (($kind:ident $properties:ident) $($group:ident { $($need:ident $name:ident [$($clause:literal),*])* })*) => {
        $($(__if_needed! { $kind $need
            $properties.extend([Property {
                group: stringify!($group),
                name: stringify!($name),
                clauses: &[$($clause),*],
                run: crate::$group::$name,
            }]);
        })*)*
    };
}

/// All properties of reliable tracks.
pub fn properties<H: ReliableHarness>() -> Vec<Property<H>> {
    let mut properties = Vec::new();
    __with_properties!([table](reliable properties));
    properties
}

/// All properties of datagram tracks.
pub fn datagram_properties<H: DatagramHarness>() -> Vec<Property<H>> {
    let mut properties = Vec::new();
    __with_properties!([table](datagram properties));
    properties
}

/// All properties of one-sided memory.
pub fn memory_properties<H: MemoryHarness>() -> Vec<Property<H>> {
    let mut properties = Vec::new();
    __with_memory_properties!([table](reliable properties));
    properties
}
