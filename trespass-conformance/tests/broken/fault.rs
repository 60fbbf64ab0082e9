//! The ways in which a fabric is broken on purpose, and the property that has to notice each.

faults! {
    // What happens to messages.
    /// One message in seven is lost.
    Drops => flow::messages_arrive_once_in_order, "";
    /// One message in seven comes twice.
    Duplicates => flow::messages_arrive_once_in_order, "";
    /// One message in seven is overtaken by the next.
    Swaps => flow::messages_arrive_once_in_order, "";
    /// The longest messages lose their last byte.
    Truncates => buffers::every_length_arrives_whole, "has another length than it was sent with";
    /// The longest messages gain a byte.
    Lengthens => buffers::every_length_arrives_whole, "has another length than it was sent with";
    /// A bit flips in messages of more than 64 bytes.
    Corrupts => buffers::every_length_arrives_whole, "differs at byte";
    /// A flush sends an empty message of its own.
    Invents => flow::only_what_was_sent_arrives, "was sent by a flush";
    /// `truncate` does nothing.
    IgnoresTruncate => buffers::truncate_shortens_the_message, "after truncate";
    /// A message that arrives before its accept is polled is lost.
    LosesEarlyMessages => connections::an_early_message_waits, "message 0";
    /// A message that arrives before its connect is polled is lost.
    LosesEarlyAnswers => connections::an_early_answer_waits, "an early answer";

    /// What is sent after another buffer was dropped unsent is lost.
    LosesTheSendAfterADiscard => model::random_operations_match_the_model, "TRESPASS_SEED=";

    // Buffers.
    /// A buffer is a byte longer than was asked for.
    ReservesTooMuch => buffers::reserve_gives_what_was_asked_for, "another length than was asked for";
    /// A reserve above the maximum gets the maximum.
    ClampsOversize => buffers::reserve_gives_what_was_asked_for, "succeeded where it has to fail";
    /// A reserve above the maximum costs a slot.
    OversizeCostsASlot => buffers::reserve_gives_what_was_asked_for, "WouldBlock";
    /// A reserve above the maximum ends the track.
    OversizeEndsTheTrack => buffers::reserve_gives_what_was_asked_for, "kind Closed";
    /// With all other slots taken, a send of the last one finds no room.
    SendFindsNoRoom => buffers::reserved_buffers_can_be_sent, "a reserved buffer cannot be sent";
    /// A buffer that is dropped unsent keeps its slot.
    LeaksASlot => buffers::dropped_send_buffers_free_their_slots, "is kept";
    /// A buffer that is dropped unsent gives its slot back and wakes nobody.
    FreedSlotWakesNobody => buffers::dropped_send_buffer_wakes_the_sender, "a wake-up was lost";
    /// A received buffer is never posted again.
    LeaksAReceive => buffers::dropped_receive_buffers_are_posted_again, "were given back";
    /// A received buffer that is given back wakes nobody.
    ReturnedBufferWakesNobody => buffers::dropped_receive_buffers_wake_the_receiver, "a wake-up was lost";
    /// Buffers are blank when their track is gone.
    BuffersDieWithTheTrack => buffers::buffers_outlive_everything, "differs at byte 0";
    /// A buffer of another track is sent by way of a copy.
    AcceptsForeignBuffers => buffers::foreign_buffers_come_back, "was sent";
    /// A buffer of another track is refused with another kind.
    MisnamesForeignBuffers => buffers::foreign_buffers_come_back, "kind Config";
    /// The memory of a received buffer is used for the next message while it is still shown: it was returned before its
    /// time.
    OverwritesHeldBuffers => buffers::held_receive_buffers_stay_unchanged, "differs at byte";
    /// The memory of a sent message is reserved again before the message has left: it was returned before its completion.
    ReusesSentMemory => buffers::sent_memory_is_not_reused_early, "differs at byte";
    /// A reserved buffer shows what was received last.
    ShowsReceivedBytes => buffers::reserved_buffers_hold_nothing_of_a_peer, "has bytes of somebody's";
    /// A word beside a message is forgotten.
    ForgetsTheWord => buffers::a_word_stays_beside_its_message, "the word beside message";
    /// A word is refused where it is said to be carried.
    RefusesTheWord => buffers::a_word_stays_beside_its_message, "says that it carries such";
    /// A word goes where it is said not to.
    CarriesUnsaid => buffers::a_word_stays_beside_its_message, "says that it carries none";

    // Flow.
    /// A full send queue is an error.
    FullQueueIsAnError => flow::a_full_send_queue_would_block, "that should live has failed";
    /// There is no end to the send slots.
    HasNoBound => flow::a_full_send_queue_would_block, "all the send slots";
    /// A stalled sender fails after a while.
    StallIsAnError => flow::a_receiver_that_holds_all_stalls_the_sender, "that should live has failed";
    /// A message that has to wait for long breaks the track.
    LongStallIsAnError => flow::a_stall_may_last, "that should live has failed";
    /// A track with all its send slots taken receives nothing.
    FullQueueBlocksTheReceiver => flow::directions_are_independent, "";
    /// Counts receives that were given back twice.
    CountsReceivesTwice => flow::posted_counts_receives, "posted";
    /// Counts no receives at the start.
    StartsAtZero => flow::posted_counts_receives, "posted at the start";
    /// Each send rings.
    RingsForEachSend => flow::one_flush_is_one_doorbell, "doorbells for one flush";
    /// A flush of nothing rings.
    RingsForNothing => flow::one_flush_is_one_doorbell, "doorbells for one flush of 0 messages";

    // Waking.
    /// One wake-up of the receive side in five is lost.
    LosesReceiveWakeUps => waking::ping_pong_loses_no_wake_up, "";
    /// One wake-up of the send side in five is lost.
    LosesSendWakeUps => waking::a_slot_wakes_the_latest_waker, "a wake-up was lost";
    /// The first waker stays, until it is woken.
    KeepsTheFirstWaker => waking::a_message_wakes_the_latest_waker, "a wake-up was lost";
    /// A look that finds nothing forgets who waits.
    LookForgetsTheWaker => waking::a_look_takes_no_waker_away, "after a look";
    /// The first waker stays for ever.
    KeepsTheFirstWakerForGood => waking::a_new_waker_at_every_poll_will_do, "";
    /// What came between a `try_recv` and the poll is not looked for.
    ForgetsTheRecheck => waking::a_poll_looks_again, "a wake-up was lost";
    /// The receive side is always ready.
    ReadyToReceiveForNothing => waking::a_message_wakes_the_latest_waker, "ready, though nothing was sent";
    /// The send side is always ready.
    ReadyToSendForNothing => waking::a_slot_wakes_the_latest_waker, "ready with all slots reserved";
    /// Panics at a waker that does nothing.
    HatesNoopWakers => waking::a_waker_that_does_nothing_is_legal, "no-op";
    /// A slot that was waited for is kept for whoever waited, who may be gone.
    KeepsSlotsForTheGone => waking::dropped_futures_lose_nothing, "cost slots";
    /// Waiting does not flush.
    WaitsWithoutAFlush => waking::waiting_flushes_first, "what was queued before";
    /// Waiting for messages does not flush.
    ReceivesWithoutAFlush => waking::waiting_flushes_first, "what was queued before a wait for messages";
    /// `try_recv` arms.
    ArmsInTry => waking::try_calls_arm_nothing, "that never wait";
    /// Both sides of a track wait in one place.
    HasOneWakerForBoth => waking::each_side_has_its_own_waker, "a wake-up was lost";
    /// What was reserved before a split is foreign after it.
    SplitForgetsBuffers => waking::halves_work_on_two_threads, "reserved before the split";
    /// The receiving half says that it has another slot.
    HalvesDiffer => waking::halves_work_on_two_threads, "the limits of two halves";
    /// The receive side of a split track is never woken.
    SplitReceiverIsNotWoken => waking::halves_work_on_two_threads, "";
    /// One buffer in nine is lost if another thread gives it back.
    LosesBuffersOfOtherThreads => waking::buffers_dropped_at_any_moment_stall_nothing, "";
    /// Room that the peer makes does not wake a stalled sender.
    StalledSenderIsNotWoken => waking::a_stalled_sender_is_woken, "a wake-up was lost";
    /// A request wakes nobody.
    RequestWakesNobody => waking::a_request_wakes_the_latest_waker, "a wake-up was lost";
    /// A close that is polled twice forgets what it was about.
    ForgetsDroppedClose => waking::a_dropped_close_goes_on, "";

    // Ends.
    /// A close is over before its messages have arrived.
    ClosesEarly => flow::flushed_messages_arrive_before_a_close, "cannot receive message";
    /// A close does not wait for a receiver that has no room.
    ClosesWithoutTheReceiver => flow::a_close_waits_for_a_slow_receiver, "";
    /// The end overtakes what had arrived.
    EndOvertakes => ends::everything_arrived_comes_before_the_end, "cannot receive message";
    /// The end is told once.
    TellsTheEndOnce => ends::everything_arrived_comes_before_the_end, "does not become WouldBlock";
    /// The end is not ready.
    EndIsNotReady => ends::everything_arrived_comes_before_the_end, "";
    /// A dropped peer looks like a broken link.
    DeathIsDisconnected => ends::a_close_and_a_death_look_alike, "kind Disconnected";
    /// A broken link looks like a close.
    CutLooksLikeAClose => ends::a_cut_link_has_its_own_kind, "kind Closed";
    /// The second close is an error.
    ClosesOnce => ends::a_close_is_idempotent, "not clean";
    /// A closed track still reserves.
    ReservesAfterAClose => ends::a_close_is_idempotent, "succeeded where it has to fail";
    /// A close after the peer's is a protocol violation.
    BothMayNotClose => ends::both_ends_may_close_at_once, "not clean";
    /// A close throws away what was not read yet.
    CloseThrowsAway => ends::a_closed_track_can_still_be_read, "cannot receive message";
    /// A close waits for a peer that takes nothing without end.
    ClosesWithoutADeadline => ends::a_close_has_a_deadline, "never became ready";
    /// A close gives up at once.
    ClosesWithoutPatience => ends::a_close_has_a_deadline, "gave up after";
    /// A close is clean, whatever was lost.
    CloseHidesLoss => ends::a_close_tells_what_was_lost, "though what was flushed has not arrived";
    /// Dropping a track does not end it.
    DropDoesNotEnd => ends::a_track_dropped_under_load_ends, "";
    /// Dropping the receiving half ends the sending one.
    DroppedReceiverEndsTheSender => ends::a_sender_outlives_its_receiver, "closed";
    /// The end wakes nobody.
    EndWakesNobody => ends::the_end_wakes_everybody, "a wake-up was lost";
    /// The end does not wake a sender.
    EndWakesNoSender => ends::the_end_wakes_a_stalled_sender, "a wake-up was lost";
    /// A close does not wake the other half of its track.
    CloseWakesNobodyHere => ends::a_close_wakes_the_own_receiver, "a wake-up was lost";
    /// Each later error is another one.
    ErrorsChange => ends::the_first_cause_sticks, "in round";
    /// The end of one track is the end of all.
    EndOfOneEndsAll => ends::the_end_of_one_disturbs_no_other, "";

    // Connections.
    /// A connect to nobody hangs.
    NobodyThereHangs => connections::nobody_there_fails_in_time, "never became ready";
    /// A request that is dropped is not answered, or late.
    DroppedRequestIsSilent => connections::a_refused_request_is_refused, "never became ready";
    /// A request that is put off hears nothing.
    BusyIsSilent => connections::a_request_that_is_put_off_is_told, "a connect to somebody busy";
    /// A connect has no deadline.
    HandshakeHasNoDeadline => connections::an_unanswered_connect_times_out, "never became ready";
    /// A connect that was dropped is answered all the same.
    DroppedConnectLivesOn => connections::a_dropped_handshake_leaves_nothing, "";
    /// A connect that was dropped ends the listener.
    DroppedConnectEndsTheListener => connections::a_dropped_handshake_leaves_nothing, "a listener has ended";
    /// Two connections made at once are crossed.
    Crosses => connections::connections_at_once_do_not_cross, "";
    /// A track that was connected names itself as its peer.
    MisnamesThePeer => connections::connections_at_once_do_not_cross, "";
    /// A closed listener goes on.
    ClosedListenerGoesOn => connections::a_closed_listener_refuses, "";
    /// A listener takes its tracks with it.
    ListenerTakesItsTracks => connections::a_closed_listener_refuses, "closed";
    /// A second listener at one address gets another one.
    MovesTheSecondListener => connections::an_address_is_listened_at_once, "two listeners";
    /// An address is taken for good.
    AddressStaysTaken => connections::an_address_is_listened_at_once, "cannot listen again";
    /// A fabric takes its tracks with it.
    FabricTakesItsTracks => connections::tracks_outlive_their_fabric, "closed";

    // Carriers are not broken here, but the frames that they send are: by their first byte.
    /// A handshake goes out with another size in it.
    FalsifiesHandshakes => carriers::an_open_agrees_on_sizes, "the longest message";
    /// Refusals get lost.
    LosesRefusals => carriers::a_peer_that_will_not_do_is_refused_on_both_sides, "";
    /// A bit flips in the segments of long messages.
    CorruptsSegments => carriers::messages_of_every_length_arrive_whole, "differs at byte";
    /// Every third message goes out after the next frame.
    SwapsMessages => carriers::messages_arrive_in_order_both_ways, "";
    /// Frames that give credits and nothing else get lost.
    LosesCredits => carriers::both_ends_send_before_either_receives, "never became ready";
    /// Every message goes out four times.
    RepeatsMessages => carriers::a_carrier_stays_within_its_credits, "credits up to";
    /// FINs get lost.
    LosesFins => carriers::a_fin_is_the_only_clean_end, "never became ready";
    /// Withdrawals get lost.
    LosesWithdrawals => carriers::a_dropped_send_is_withdrawn, "in the middle of a message";
    /// Goodbyes get lost.
    LosesGoodbyes => carriers::a_close_sends_what_is_queued, "gone";
}

/// What other properties notice too.
pub(crate) const ALSO: &[(Fault, &str, &str)] = &[
    (Fault::LosesCredits, "carriers::what_fills_up_drains", "never became ready"),
    (Fault::DropDoesNotEnd, "carriers::an_open_has_a_deadline", "never became ready"),
    (Fault::EndOvertakes, "carriers::an_end_without_a_fin_is_disconnected", "cannot receive message"),
    (Fault::ClosesWithoutTheReceiver, "carriers::a_carrier_close_has_a_deadline", "a clean close"),
    (Fault::LosesGoodbyes, "carriers::both_carriers_may_close_at_once", "not clean"),
    (Fault::DeathIsDisconnected, "carriers::nonsense_in_a_handshake_is_survived", "the end of the track after"),
    (Fault::DropDoesNotEnd, "carriers::nonsense_in_a_conversation_is_survived", "never became ready"),
    (Fault::DropDoesNotEnd, "carriers::random_frames_are_survived", "never became ready"),
    (Fault::Invents, "carriers::a_peer_that_stands_still_is_found", "a peer that stands still"),
    (Fault::LosesWithdrawals, "carriers::a_limit_to_one_call_loses_nothing", "in the middle of a message"),
    (Fault::LosesCredits, "carriers::a_limit_to_one_call_loses_nothing", "never became ready"),
    (Fault::BusyIsSilent, "servers::a_server_keeps_its_limits", "a peer too many"),
    (Fault::DropDoesNotEnd, "servers::handshakes_go_on_side_by_side", "peers beside a silent one"),
    (Fault::LosesGoodbyes, "servers::handshakes_fail_alone", "no goodbye"),
    (Fault::ClosedListenerGoesOn, "servers::a_drain_ends_with_a_goodbye_or_its_deadline", "a server that drains"),
    (Fault::LosesGoodbyes, "servers::a_drain_ends_with_a_goodbye_or_its_deadline", "no goodbye"),
    (Fault::Drops, MODEL, SEED),
    (Fault::Duplicates, MODEL, SEED),
    (Fault::Swaps, MODEL, SEED),
    (Fault::Corrupts, MODEL, SEED),
    (Fault::Truncates, MODEL, SEED),
    (Fault::IgnoresTruncate, MODEL, SEED),
    (Fault::LeaksASlot, MODEL, SEED),
    (Fault::LeaksAReceive, MODEL, SEED),
    (Fault::HasNoBound, MODEL, SEED),
    (Fault::FullQueueIsAnError, MODEL, SEED),
    (Fault::OversizeEndsTheTrack, MODEL, SEED),
    (Fault::OverwritesHeldBuffers, MODEL, SEED),
    (Fault::CountsReceivesTwice, MODEL, SEED),
];

const MODEL: &str = "model::random_operations_match_the_model";
const SEED: &str = "TRESPASS_SEED=";
